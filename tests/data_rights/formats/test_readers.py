"""Data sets as other programs write them: what is read, and what is said of the rest."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest

from ownvision.data_rights.formats import coco, folders, importing, table, unpack, voc, yolo
from ownvision.errors import OwnVisionError
from tests.data_rights.formats.sets import laid_out, png, read, zipped

PICTURE = png(1, 100, 50)
Found = Mapping[str, list[object]]


@dataclass(frozen=True)
class Case:
    """A data set and what is found in it: tags, or (tag, left, top, width, height) relative, by picture."""

    name: str
    module: ModuleType
    members: Mapping[str, bytes | str]
    found: Found
    tags: list[str] | None = None
    remarks: list[str] = field(default_factory=list)


def coco_document(**changes: object) -> str:
    document = {
        "info": {"year": 2017},
        "images": [{"id": 7, "file_name": "a.jpg", "width": 100, "height": 50}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 5, 20, 10], "iscrowd": 0}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 90, "name": "dog", "supercategory": "animal"}],
    }
    return json.dumps({**document, **changes})


def voc_document(*objects: str, filename: str = "a.jpg", size: str = "100 50") -> str:
    width, height = size.split()
    shown = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation verified='yes'><filename>{filename}</filename>{shown}{''.join(objects)}</annotation>"


def voc_object(tag: str, box: str, more: str = "") -> str:
    edges = zip(("xmin", "ymin", "xmax", "ymax"), box.split(), strict=True)
    shown = "".join(f"<{edge}>{value}</{edge}>" for edge, value in edges)
    return f"<object><name>{tag}</name>{more}<bndbox>{shown}</bndbox></object>"


A = {"images/a.jpg": PICTURE}
BOX = ("cat", 0.1, 0.1, 0.2, 0.2)

CASES = [
    Case("gaps in the categories", coco, {**A, "annotations/instances_val.json": coco_document()},
         {"images/a.jpg": [BOX]}, ["cat", "dog"]),
    Case("annotations before images", coco,
         {**A, "x.json": json.dumps(dict(reversed(json.loads(coco_document()).items())))}, {"images/a.jpg": [BOX]}),
    Case("crowds, captions and boxes that reach out", coco, {
        **A,
        "x.json": coco_document(annotations=[
            {"id": 1, "image_id": 7, "category_id": 3, "iscrowd": 1, "segmentation": {"counts": [1, 2], "size": [9, 9]},
             "bbox": [0, 0, 9, 9]},
            {"id": 2, "image_id": 7, "caption": "A cat"},
            {"id": 3, "image_id": 7, "category_id": 3, "bbox": [90, 40, 20, 20]},
            {"id": 4, "image_id": 7, "category_id": 3, "bbox": [100, 50, 5, 5]},
            {"id": 5, "image_id": 7, "category_id": 3, "bbox": [5, 5, 0, 5]},
            {"id": 6, "image_id": 7, "category_id": 3, "bbox": [5, 5, -3, 5]},
            {"id": 7, "image_id": 7, "category_id": 3, "segmentation": [[10, 5, 30, 5, 30, 15, 10, 15]]},
        ]),
    }, {"images/a.jpg": [("cat", 0.9, 0.8, 0.1, 0.2), BOX]}, remarks=[
        "1 × crowd region", "1 × annotation without a category", "1 × box that reached out of its picture",
        "2 × box that lies outside its picture", "1 × box whose numbers can't be used",
    ]),
    Case("a picture that is not there", coco,
         {**A, "x.json": coco_document(images=[
             {"id": 7, "file_name": "a.jpg", "width": 100, "height": 50}, {"id": 8, "file_name": "gone.jpg"}])},
         {"images/a.jpg": [BOX]}, remarks=["1 × picture that annotations name and that is not there"]),
    Case("no size told", coco,
         {"a.jpg": PICTURE, "x.json": coco_document(images=[{"id": 7, "file_name": "a.jpg"}])}, {"a.jpg": [BOX]}),
    Case("the same name in two folders, each with its document (Roboflow)", coco, {
        "train/a.jpg": PICTURE, "train/_annotations.coco.json": coco_document(),
        "valid/a.jpg": PICTURE, "valid/_annotations.coco.json": coco_document(annotations=[]),
    }, {"train/a.jpg": [BOX], "valid/a.jpg": []}),
    Case("the same name in two folders, documents apart (COCO 2017)", coco, {
        "train2017/a.jpg": PICTURE, "annotations/instances_train2017.json": coco_document(),
        "val2017/a.jpg": PICTURE, "annotations/instances_val2017.json": coco_document(annotations=[]),
        "annotations/person_keypoints_val2017.json": coco_document(),
        "annotations/captions_val2017.json": coco_document(annotations=[{"id": 1, "image_id": 7, "caption": "A"}]),
    }, {"train2017/a.jpg": [BOX], "val2017/a.jpg": []}),
    Case("nothing but untagged pictures", coco, {**A, "x.json": coco_document(annotations=[], categories=[])},
         {"images/a.jpg": []}),
    Case("classification", coco,
         {**A, "x.json": coco_document(annotations=[{"id": 1, "image_id": 7, "category_id": 90}])},
         {"images/a.jpg": ["dog"]}),
    Case("the devkit's boxes", voc, {
        "VOC2012/JPEGImages/a.jpg": PICTURE, "VOC2012/JPEGImages/b.jpg": PICTURE,
        "VOC2012/Annotations/a.xml": voc_document(
            voc_object("cat", "11 6 30 15", "<difficult>1</difficult>"), voc_object("dog", "1 1 100 50"),
            "<object><name>person</name><part><name>head</name></part></object>"),
        "VOC2012/ImageSets/Main/trainval.txt": "a\nb\n",
        "VOC2012/ImageSets/Main/cat_trainval.txt": "a  1\nb -1\n",
    }, {"VOC2012/JPEGImages/a.jpg": [BOX, ("dog", 0, 0, 1, 1)], "VOC2012/JPEGImages/b.jpg": []}, None,
        ["1 × box that was marked difficult", "1 × object without a box"]),
    Case("LabelImg beside its pictures: zero-based, another file name, no size", voc, {
        "pics/a.jpg": PICTURE,
        "pics/a.xml": voc_document(voc_object("cat", "0 0 50 25"), voc_object("cat", "60 45 40 20"),
                                   filename="IMG_0001", size="0 0"),
    }, {"pics/a.jpg": [("cat", 0, 0, 0.5, 0.5), ("cat", 0.39, 0.38, 0.21, 0.52)]}),
    Case("classes in lists", voc, {
        "JPEGImages/a b.jpg": PICTURE, "JPEGImages/b.jpg": PICTURE, "ImageSets/Main/train.txt": "a b\n",
        "ImageSets/Main/sea_lion_train.txt": "a b 1\nb -1\nmissing 1\n", "ImageSets/Main/dog_val.txt": "b  1\na b  0\n",
    }, {"JPEGImages/a b.jpg": ["sea_lion"], "JPEGImages/b.jpg": ["dog"]},
        ["dog", "sea_lion"], ["1 × picture that annotations name and that is not there"]),
    Case("YOLOv5", yolo, {
        "images/train/a.jpg": PICTURE, "labels/train/a.txt": "0 0.2 0.2 0.2 0.2\n1 0.5 0.5 1.5 0.5\n",
        "images/val/a.jpg": PICTURE, "labels/val/a.txt": "", "images/val/b.jpg": PICTURE, "labels/val/c.txt": "",
        "data.yaml": "path: ../x\ntrain: images/train\nnc: 2\nnames: [cat, 'no']\n",
    }, {"images/train/a.jpg": [BOX, ("no", 0, 0.25, 1, 0.5)], "images/val/a.jpg": [], "images/val/b.jpg": []},
        ["cat", "no"], ["1 × box that reached out of its picture", "1 × label file without a picture"]),
    Case("YOLOv8 in Roboflow's folders, names as a mapping, outlines and confidences", yolo, {
        "set/train/images/a.jpg": PICTURE,
        "set/train/labels/a.txt": "0 0.2 0.2 0.2 0.2 0.93\r\n10 0.1 0.1 0.3 0.1 0.3 0.3\r\n",
        "set/data.yaml": 'names:\n  0: cat\n  10: "dog"\n',
    }, {"set/train/images/a.jpg": [BOX, ("dog", 0.1, 0.1, 0.2, 0.2)]}, ["cat", "dog"],
        ["1 × outline instead of a box"]),
    Case("darknet", yolo, {
        "obj_train_data/a.jpg": PICTURE, "obj_train_data/a.txt": "1 0.2 0.2 0.2 0.2\n",
        "obj.names": "cat\ndog\n\n", "obj.data": "classes = 2\nnames = data/obj.names\n", "train.txt": "data/a.jpg\n",
    }, {"obj_train_data/a.jpg": [("dog", 0.1, 0.1, 0.2, 0.2)]}, ["cat", "dog"]),
    Case("YOLO without names", yolo, {"images/a.jpg": PICTURE, "labels/a.txt": "4 0.2 0.2 0.2 0.2"},
         {"images/a.jpg": [("4", 0.1, 0.1, 0.2, 0.2)]}, remarks=["1 × box of a class that has no name"]),
    Case("TensorFlow's CSV", table, {
        **A, "train.csv": "filename,width,height,class,xmin,ymin,xmax,ymax\r\na.jpg,100,50,cat,10,5,30,15\r\n",
    }, {"images/a.jpg": [BOX]}),
    Case("relative sides, semicolons, a mark of the byte order", table, {
        **A, "tags.csv": "\ufeffImage;Tag;Left;Top;Width;Height\nC:\\pics\\a.jpg;cat;0.1;0.1;0.2;0.2\n",
    }, {"images/a.jpg": [BOX]}),
    Case("pixels whose picture's size is not told", table,
         {**A, "x.csv": "image,label,x_min,y_min,x_max,y_max\na.jpg,cat,10,5,30,15\n"}, {"images/a.jpg": [BOX]}),
    Case("several tags in a row and none", table,
         {**A, "b.png": PICTURE, "x.csv": "image,labels\na.jpg,cat; dog\nb.png,\n"},
         {"images/a.jpg": ["cat", "dog"], "b.png": []}),
    Case("Google's AutoML of boxes", table, {
        **A, "x.csv": "TRAIN,gs://bucket/pics/a.jpg,cat,0.1,0.1,,,0.3,0.3,,\nUNASSIGNED,gs://bucket/pics/a.jpg,,,,,,,,,\n",
    }, {"images/a.jpg": [BOX]}),
    Case("Google's AutoML of tags", table,
         {**A, "x.csv": "gs://bucket/my%20pics/a.jpg,cat,dog\n"}, {"images/a.jpg": ["cat", "dog"]}),
    Case("Azure Machine Learning's boxes", table, {
        **A, "x.jsonl": json.dumps({
            "image_url": "AmlDatastore://data/images/a.jpg", "image_details": {"format": "jpg", "width": "100px"},
            "label": [{"label": "cat", "topX": 0.1, "topY": 0.1, "bottomX": 0.3, "bottomY": 0.3, "isCrowd": 0},
                      {"label": "dog", "topX": 0, "topY": 0, "bottomX": 1, "bottomY": 1, "isCrowd": 1}],
        }) + "\n\n",
    }, {"images/a.jpg": [BOX]}),
    Case("Azure Machine Learning's tags", table, {
        **A, "b.jpg": PICTURE, "x.jsonl": '{"image_url": "azureml://x/a.jpg", "label": "cat"}\n'
        '{"image_url": "azureml://x/b.jpg", "label": ["cat", "dog"]}\n',
    }, {"images/a.jpg": ["cat"], "b.jpg": ["cat", "dog"]}),
    Case("Google's JSON-Lines", table, {
        **A, "b.jpg": PICTURE, "x.jsonl": json.dumps({
            "imageGcsUri": "gs://b/a.jpg", "boundingBoxAnnotations": [
                {"displayName": "cat", "xMin": "", "yMin": 0.1, "xMax": 0.3, "yMax": 0.3},
                {"displayName": "cat", "xMin": 0.1, "yMin": 0.1, "xMax": 0.3, "yMax": 0.3}]})
        + '\n{"imageGcsUri": "gs://b/b.jpg", "classificationAnnotation": {"displayName": "dog"}}\n',
    }, {"images/a.jpg": [BOX], "b.jpg": ["dog"]}),
    Case("a folder per class", folders,
         {"cat/1.jpg": PICTURE, "dog/2.PNG": PICTURE, "3.gif": PICTURE, "readme.txt": ""},
         {"cat/1.jpg": ["cat"], "dog/2.PNG": ["dog"], "3.gif": []}),
    Case("splits in a folder of a folder", folders,
         {"set/train/cat/1.jpg": PICTURE, "set/test/cat/2.jpg": PICTURE, "set/train/dog/small/3.jpg": PICTURE},
         {"set/train/cat/1.jpg": ["cat"], "set/test/cat/2.jpg": ["cat"], "set/train/dog/small/3.jpg": ["dog"]},
         remarks=["2 × picture of the split 'train'", "1 × picture of the split 'test'", "1 × picture in a folder of"]),
    Case("one class", folders, {"cat/1.jpg": PICTURE, "cat/2.jpg": PICTURE},
         {"cat/1.jpg": ["cat"], "cat/2.jpg": ["cat"]}),
    Case("one split without classes", folders, {"x/train/1.jpg": PICTURE}, {"x/train/1.jpg": []},
         remarks=["1 × picture of the split 'train'"]),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.module.__name__.rpartition('.')[2]}: {case.name}")
def test_what_others_write_is_read(case: Case, tmp_path: Path) -> None:
    path = zipped(tmp_path / "set.zip", case.members)
    assert importing.detect(path) == case.module.__name__.rpartition(".")[2]
    assert importing.detect(laid_out(tmp_path / "set", case.members)) == case.module.__name__.rpartition(".")[2]
    found, report = read(case.module, path)
    assert set(found) == set(case.found)
    for name, wanted in case.found.items():
        picture = found[name]
        boxes = [(box.tag, *(round(getattr(box, side), 9) for side in SIDES)) for box in picture.boxes]
        assert (boxes or sorted(picture.tags)) == wanted
    if case.tags is not None:
        assert list(report.tags) == case.tags
    sentences = report.sentences()
    assert len(sentences) == len(case.remarks), sentences
    for start in case.remarks:
        assert any(sentence.startswith(start) for sentence in sentences), (start, sentences)


SIDES = ("left", "top", "width", "height")

BROKEN = [
    (coco, {"x.json": coco_document()[:-40]}, "x.json can't be read"),
    (coco, {"x.json": coco_document(annotations=[{"id": 4, "image_id": 7, "category_id": 5}])}, "annotation 4 names a"),
    (coco, {"x.json": coco_document(annotations=[{"id": 4, "image_id": 9, "category_id": 3}])}, "annotation 4 names a"),
    (coco, {"x.json": coco_document(annotations=[[1]])}, "an annotation that is no object"),
    (coco, {"x.json": coco_document(categories=[{"id": 3}])}, "a category without a name"),
    (coco, {"x.json": coco_document(images=[{"file_name": "a.jpg"}])}, "without an id"),
    (coco, {"x.json": coco_document(annotations=[{"id": 4, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3]}])},
     "has a bbox that is not"),
    (coco, {"x.json": coco_document(annotations=[{"id": 4, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, "x"]}])},
     "is no number"),
    (voc, {"Annotations/a.xml": "<annotation><object></annotation>"}, "is no XML"),
    (voc, {"Annotations/a.xml": "<html/>"}, "its root is not <annotation>"),
    (voc, {"Annotations/a.xml": voc_document(voc_object("cat", "1 2 x 4"))}, "without xmin"),
    (voc, {"Annotations/a.xml": voc_document(voc_object(" ", "1 2 3 4"))}, "an object without a name"),
    (yolo, {"labels/a.txt": "0 0.5 0.5 0.5 0.5\n0 0.5 0.5\n"}, "labels/a.txt, line 2"),
    (yolo, {"labels/a.txt": "0 0.5 0.5 0.5 0.5\n0.5 0.5 0.5 0.5 0.5\n"}, "is not a class"),
    (yolo, {"labels/a.txt": "7 0.5 0.5 0.5 0.5", "data.yaml": "names: [a, b]"}, "class 7"),
    (yolo, {"labels/a.txt": "0 0.5 0.5 0.5 0.5\n0 x 0.5 0.5 0.5\n"}, "no number"),
    (table, {"x.csv": "image,tag,xmin,ymin,xmax,ymax\na.jpg,cat,1,2,x,4\n"}, "'x' where a number belongs"),
    (table, {"x.jsonl": '{"image": "a.jpg", "label": "x"}\n{"image": "a.jpg"\n'}, "x.jsonl, line 2"),
    (table, {"x.jsonl": '{"image": "a.jpg", "label": "x"}\n[]\n'}, "is no JSON object"),
    (table, {"x.csv": b"image,tag\na.jpg,c\xff\n"}, "is no UTF-8"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "members", "why"), BROKEN, ids=[str(number) for number in range(len(BROKEN))])
def test_what_contradicts_itself_is_refused_with_its_place(
    module: ModuleType, members: dict[str, str], why: str, tmp_path: Path
) -> None:
    with pytest.raises(OwnVisionError) as refusal:
        read(module, zipped(tmp_path / "set.zip", {**A, **members}))
    assert refusal.value.code == "BadRequestInvalid"
    assert why in refusal.value.message
    assert refusal.value.message.endswith("Nothing was changed.")


@pytest.mark.parametrize(
    ("members", "wanted"),
    [
        ({"manifest.json": "{}", "files.jsonl": "", "projects/x/annotations/coco.json": coco_document()}, "takeout"),
        ({"notes.txt": "hello", "table.csv": "a,b\n1,2\n", "x.json": "[1]", "y.json": "{}", "z.xml": "<a/>"}, None),
        ({"cat/a.jpg": PICTURE, "cat/a.txt": "a cat on a mat", "sales.csv": "image,price\na.jpg,3\n"}, "folders"),
        ({"cat/a.jpg": PICTURE, "package.json": '{"images": 1}', "x.json": '{"images": [], "annotations": []'}, "coco"),
    ],
)
def test_a_data_set_is_recognised_by_what_it_holds(
    members: dict[str, bytes | str], wanted: str | None, tmp_path: Path
) -> None:
    assert importing.detect(zipped(tmp_path / "set.zip", members)) == wanted


def test_pictures_that_link_py_put_beside_the_lists_are_not_met_twice(tmp_path: Path) -> None:
    root = laid_out(tmp_path / "set", {
        **A, "annotations/coco.json": coco_document(), "annotations/voc/links.jsonl": "",
        "annotations/voc/JPEGImages/a.jpg": PICTURE,
    })  # fmt: skip
    found, report = read(coco, root)
    assert list(found) == ["images/a.jpg"]
    with unpack.opened(root / "annotations" / "voc") as files:
        assert files.names == ["JPEGImages/a.jpg", "links.jsonl"]
    assert not report.sentences()
