"""Pascal VOC: an XML document per picture for boxes, a list per tag for classification.

Boxes are written as the VOC devkit counts: pixels from 1, the last one included, so that a box over a whole picture of
640 × 480 is 1, 1, 640, 480. Parts of a pixel are kept as decimals.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from xml.sax.saxutils import escape

from ownvision.data_rights.formats import Box, Entry, Picture
from ownvision.data_rights.formats.coco import pixels
from ownvision.data_rights.formats.documents import Element, elements, text_lines, xml
from ownvision.data_rights.formats.finding import MISSING, Finder, stem
from ownvision.data_rights.formats.geometry import between
from ownvision.data_rights.formats.linking import LINKS, line
from ownvision.data_rights.formats.naming import file_name, originals, spelled, xml_text
from ownvision.data_rights.formats.report import Report
from ownvision.data_rights.formats.text import Spool, chunks
from ownvision.data_rights.formats.unpack import Files, refused

SET = "trainval"
# The devkit lists every picture for every tag. Beyond so many lines only those that carry the tag are listed.
_LINES = 1_000_000
_CARRIAGE_RETURN = {"\r": "&#13;"}  # a reader of XML would make a line feed of it


def write(pictures: Iterable[Picture], tags: Sequence[str], detection: bool) -> Iterator[Entry]:
    """``voc/``: ``Annotations``, ``ImageSets/Main``, labels and where the pictures belong (``JPEGImages``)."""
    spellings = spelled(tags, xml_text if detection else file_name)
    meta = {"labels": list(spellings.values()), "names": originals(spellings)}
    yield "voc/dataset_meta.json", chunks([json.dumps(meta, indent=1) + "\n"])
    numbers = {tag: number for number, tag in enumerate(spellings)}
    count = 0
    with Spool() as seen:
        for picture in pictures:
            count += 1
            name = picture.path.rpartition("/")[2]
            # With a comma around each number, so that it is found in the line as it stands.
            carried = "".join(f"{numbers[tag]}," for tag in picture.tags)
            seen.write(f"{picture.path}\t,{carried}\n")
            if detection:
                yield f"voc/Annotations/{stem(name)}.xml", chunks(_document(picture, name, spellings))
        yield f"voc/ImageSets/Main/{SET}.txt", chunks(f"{stem(path)}\n" for path in _paths(seen))
        if not detection:
            whole = count * len(spellings) <= _LINES
            for tag, spelling in spellings.items():
                yield f"voc/ImageSets/Main/{spelling}_{SET}.txt", chunks(_list(seen, numbers[tag], whole))
        yield f"voc/{LINKS}", chunks(line(path, f"JPEGImages/{path.rpartition('/')[2]}") for path in _paths(seen))


def _paths(seen: Spool) -> Iterator[str]:
    return (row.rpartition("\t")[0] for row in seen.lines())


def _list(seen: Spool, number: int, whole: bool) -> Iterator[str]:
    sign = f",{number},"
    for row in seen.lines():
        path, _, carried = row.rpartition("\t")
        if sign in carried:
            yield f"{stem(path)}  1\n"
        elif whole:
            yield f"{stem(path)} -1\n"


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


def recognises(files: Files) -> bool:
    """Whether a data set has VOC's documents or lists."""
    return any(True for _ in _documents(files)) or bool(_lists(files))


def read(files: Files, report: Report) -> Iterator[Picture]:
    """The pictures of all documents with their boxes; else those of the lists with their tags.

    Boxes count pixels from 1. What begins at 0 is taken as beginning at the edge.

    Raises:
        OwnVisionError: BadRequestInvalid, for a document that can't be read.
    """
    finder = Finder(files)
    names = _names(files)
    report.tags.update(dict.fromkeys(names.values()))
    boxed = False
    for document in _documents(files):
        picture = _picture(files, document, names, finder, report)
        if picture is not None:
            boxed = boxed or bool(picture.boxes)
            report.detection = report.detection or boxed
            yield picture
    for listing in _lists(files):
        yield from _listed(files, listing, names, finder, report, with_tags=not boxed)


def _documents(files: Files) -> Iterator[str]:
    for name in files.names:
        if name.lower().endswith(".xml"):
            if name.split("/")[-2:-1] == ["Annotations"]:
                yield name
                continue
            with files.open(name) as stream:
                if b"<annotation" in stream.read(4096):
                    yield name


def _lists(files: Files) -> list[str]:
    return [name for name in files.names if name.endswith(".txt") and "ImageSets/Main/" in f"/{name}"]


def _names(files: Files) -> dict[str, str]:
    """Tags by how they are written; only our own data sets and datumaro's say so."""
    for name in files.names:
        if name.rpartition("/")[2] == "dataset_meta.json":
            found = dict(elements(files, name)).get("names")
            labels = [value for key, value in elements(files, name) if key == "labels" and isinstance(value, str)]
            known = found if isinstance(found, dict) else {}
            return {label: str(known.get(label, label)) for label in labels}
    return {}


def _picture(
    files: Files,
    document: str,
    names: dict[str, str],
    finder: Finder,
    report: Report,
) -> Picture | None:
    root = xml(files, document)
    if root.name != "annotation":
        raise refused("The data set", document, "is no VOC document: its root is not <annotation>")
    path = finder.find(root.value("filename"), document) or finder.find_stem(stem(document), document)
    if path is None:
        report.remark(MISSING, root.value("filename") or document)
        return None
    size = tuple(_whole(root.value(f"size/{side}")) for side in ("width", "height"))
    if min(size) <= 0:
        size = finder.size(path)
    boxes = []
    for child in root.children:
        if child.name == "object" and (box := _box(child, (size[0], size[1]), names, document, report)):
            boxes.append(box)
    return Picture(path, size[0], size[1], list(dict.fromkeys(box.tag for box in boxes)), boxes)


def _box(element: Element, size: tuple[int, int], names: dict[str, str], document: str, report: Report) -> Box | None:
    name = element.first("name")
    if name is None or not name.text.strip():
        raise refused("The data set", document, "has an object without a name")
    tag = names.get(name.text, name.text.strip())
    if element.first("bndbox") is None:
        report.remark("object without a box: left out", document)
        return None
    try:
        left, top, right, bottom = (float(element.value(f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError:
        raise refused("The data set", document, f"has a box of {tag!r} without xmin, ymin, xmax, ymax") from None
    # What ends less than a pixel before it begins is a box of less than a pixel: the last pixel is included.
    left, right = (right, left) if left > right + 1 else (left, right)
    top, bottom = (bottom, top) if top > bottom + 1 else (top, bottom)
    # Programs that count from 0 write 0 at the edge: that is the same edge, not one pixel out of the picture.
    edges = (left - 1 if left >= 1 else min(left, 0.0), top - 1 if top >= 1 else min(top, 0.0), right, bottom)
    if element.value("difficult") == "1":
        report.remark("box that was marked difficult: read like any other", document)
    return between(tag, edges, size, report, document)


def _whole(text: str) -> int:
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        return 0


def _listed(
    files: Files, listing: str, names: dict[str, str], finder: Finder, report: Report, *, with_tags: bool
) -> Iterator[Picture]:
    """The pictures of a list: with a tag where it says 1 (0 stands for "difficult"), without one else."""
    spelling = stem(listing).rpartition("_")[0]
    tag = names.get(spelling, spelling)
    for number, text in text_lines(files, listing):
        entry = text.rstrip("\r\n")
        picture, _, present = entry.rstrip().rpartition(" ")
        tagged = present in ("1", "0", "-1") and bool(picture.strip()) and bool(spelling)
        wanted = picture.strip() if tagged else entry.strip()
        if not wanted:
            continue
        path = finder.find_stem(wanted, listing) or finder.find(wanted, listing)
        if path is None:
            report.remark(MISSING, f"{listing}, line {number}")
            continue
        if tagged and with_tags:
            report.tags[tag] = None
        yield Picture(path, tags=[tag] if tagged and with_tags and present == "1" else [])
