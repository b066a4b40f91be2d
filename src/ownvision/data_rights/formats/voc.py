"""Pascal VOC: an XML document per picture for boxes, a list per tag for classification.

Boxes are written as the VOC devkit counts: pixels from 1, the last one included, so that a box over a whole picture of
640 × 480 is 1, 1, 640, 480. Parts of a pixel are kept as decimals.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from xml.sax.saxutils import escape

from ownvision.data_rights.formats import Entry, Picture
from ownvision.data_rights.formats.coco import pixels
from ownvision.data_rights.formats.linking import LINKS, line
from ownvision.data_rights.formats.naming import file_name, originals, spelled, xml_text
from ownvision.data_rights.formats.text import Spool, chunks

SET = "trainval"
# The devkit lists every picture for every tag. Beyond so many lines only those that carry the tag are listed.
_LINES = 5_000_000
_CARRIAGE_RETURN = {"\r": "&#13;"}  # a reader of XML would make a line feed of it


def write(pictures: Iterable[Picture], tags: Sequence[str], detection: bool) -> Iterator[Entry]:
    """``voc/``: ``Annotations``, ``ImageSets/Main``, labels and where the pictures belong (``JPEGImages``)."""
    spellings = spelled(tags, xml_text if detection else file_name)
    meta = {"labels": list(spellings.values()), "names": originals(spellings)}
    yield "voc/dataset_meta.json", chunks([json.dumps(meta, indent=1) + "\n"])
    numbers = {tag: number for number, tag in enumerate(spellings)}
    seen, count = Spool(), 0
    for picture in pictures:
        count += 1
        name = picture.path.rpartition("/")[2]
        carried = sorted(numbers[tag] for tag in set(picture.tags))
        seen.write(json.dumps([picture.path, _stem(name), carried]) + "\n")
        if detection:
            yield f"voc/Annotations/{_stem(name)}.xml", chunks(_document(picture, name, spellings))
    yield f"voc/ImageSets/Main/{SET}.txt", chunks(f"{stem}\n" for _, stem, _ in _rows(seen))
    if not detection:
        whole = count * len(spellings) <= _LINES
        for tag, spelling in spellings.items():
            yield f"voc/ImageSets/Main/{spelling}_{SET}.txt", chunks(_list(seen, numbers[tag], whole))
    yield f"voc/{LINKS}", chunks(line(path, f"JPEGImages/{path.rpartition('/')[2]}") for path, _, _ in _rows(seen))


def _rows(seen: Spool) -> Iterator[tuple[str, str, list[int]]]:
    return (tuple(json.loads(row)) for row in seen.lines())


def _list(seen: Spool, number: int, whole: bool) -> Iterator[str]:
    for _, stem, carried in _rows(seen):
        if number in carried:
            yield f"{stem}  1\n"
        elif whole:
            yield f"{stem} -1\n"


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name


def _document(picture: Picture, name: str, spellings: dict[str, str]) -> Iterator[str]:
    yield "<annotation>\n  <folder>JPEGImages</folder>\n"
    yield f"  <filename>{_text(xml_text(name))}</filename>\n"
    yield f"  <size><width>{picture.width}</width><height>{picture.height}</height><depth>3</depth></size>\n"
    yield "  <segmented>0</segmented>\n"
    for box in picture.boxes:
        left, top, width, height = pixels(box, picture.width, picture.height)
        edges = {"xmin": left + 1, "ymin": top + 1, "xmax": left + width, "ymax": top + height}
        shown = "".join(f"<{edge}>{_number(value)}</{edge}>" for edge, value in edges.items())
        yield f"  <object>\n    <name>{_text(spellings[box.tag])}</name>\n"
        yield "    <pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>\n"
        yield f"    <bndbox>{shown}</bndbox>\n  </object>\n"
    yield "</annotation>\n"


def _text(value: str) -> str:
    return escape(value, _CARRIAGE_RETURN)


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")
