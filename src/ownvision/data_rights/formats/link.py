"""Puts the pictures where tools for VOC and YOLO look for them. Run it once after unpacking: python link.py

The archive holds every picture once, in images/. This makes hard links to them in voc/ and yolo/, which take no room;
where the file system has none, copies. It needs nothing but Python and may be run again.
"""

import json
import os
import shutil
from pathlib import Path


def main() -> None:
    here = Path(__file__).resolve().parent
    made = missing = 0
    for listing in sorted(here.glob("*/links.jsonl")):
        with listing.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                picture = Path(os.path.normpath(listing.parent / row["picture"]))
                link = Path(os.path.normpath(listing.parent / row["link"]))
                if not picture.is_relative_to(here.parent) or not link.is_relative_to(listing.parent):
                    raise SystemExit(f"{listing} names a file outside of this folder: it was changed.")
                if not picture.is_file():
                    missing += 1
                    continue
                if link.exists():
                    continue
                link.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(picture, link)
                except OSError:
                    shutil.copyfile(picture, link)
                made += 1
    print(f"{made} pictures were linked" + (f", {missing} are not there." if missing else "."))


if __name__ == "__main__":
    main()
