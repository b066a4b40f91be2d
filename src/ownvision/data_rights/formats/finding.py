"""Which file a data set means: annotations name pictures by paths from elsewhere, by bare names or by addresses."""

from collections import defaultdict
from urllib.parse import unquote, urlsplit

from ownvision.data_rights.formats.linking import LINKS
from ownvision.data_rights.formats.unpack import Files, read
from ownvision.errors import OwnVisionError
from ownvision.learning import pixels

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp")
MISSING = "picture that annotations name and that is not there (or several are as likely): left out"
_LARGEST = 64 * 2**20


def is_picture(name: str) -> bool:
    """Whether it is called like a picture."""
    return name.lower().endswith(SUFFIXES)


def pictures(files: Files) -> list[str]:
    """Names of the pictures, sorted; without those that `link.py` put a second time beside our own lists."""
    listings = tuple(name.removesuffix(LINKS) for name in files.names if name.rpartition("/")[2] == LINKS)
    found = [name for name in files.names if is_picture(name)]
    return [name for name in found if not name.startswith(listings)] or found


def stem(name: str) -> str:
    """The last part of a path without its suffix."""
    last = name.rpartition("/")[2]
    return last.rpartition(".")[0] or last


class Finder:
    """Finds the files that annotations name."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self._sizes: dict[str, tuple[int, int]] = {}
        for name in pictures(files):
            self._by_name[name.rpartition("/")[2].casefold()].append(name)
            self._by_stem[stem(name)].append(name)

    def find(self, reference: str, near: str) -> str | None:
        """The file that `reference` in the file `near` means; None when there is none, or several as likely.

        Likelier is what has more of the reference's folders, then what lies nearer to `near`.
        """
        for spelling in dict.fromkeys([reference, unquote(reference)]):
            path = urlsplit(spelling).path if "://" in spelling else spelling
            parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
            candidates = self._by_name.get(parts[-1].casefold(), []) if parts else []
            if (found := _likeliest(candidates, parts, near)) is not None:
                return found
        return None

    def find_stem(self, wanted: str, near: str) -> str | None:
        """As `find`, of a name without folders and suffix."""
        return _likeliest(self._by_stem.get(wanted, []), [wanted], near)

    def size(self, name: str) -> tuple[int, int]:
        """Width and height of the upright picture; 0, 0 when it is none."""
        if name not in self._sizes:
            try:
                info = pixels.inspect(read(self._files, name, _LARGEST))
                self._sizes[name] = info.width, info.height
            except (pixels.BadImage, OwnVisionError):
                self._sizes[name] = 0, 0
        return self._sizes[name]


def _likeliest(candidates: list[str], parts: list[str], near: str) -> str | None:
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    ranked = sorted(((_likeness(name, parts, near), name) for name in candidates), reverse=True)
    return ranked[0][1] if ranked[0][0] > ranked[1][0] else None


def _likeness(name: str, parts: list[str], near: str) -> tuple[int, int, bool, bool]:
    own, wanted, at = name.split("/"), parts, near.split("/")
    same_end = 0
    while same_end < min(len(own), len(wanted)) and own[-1 - same_end] == wanted[-1 - same_end]:
        same_end += 1
    same_start = 0
    while same_start < min(len(own), len(at)) - 1 and own[same_start] == at[same_start]:
        same_start += 1
    folder = own[-2] if len(own) > 1 else ""
    return same_end, same_start, bool(folder) and folder in at[-1], name.rpartition("/")[2] == parts[-1]
