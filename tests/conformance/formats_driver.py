"""Reads an unpacked project with supervision and datumaro, in an environment that has them; prints JSON.

For each reader: its classes, and by picture (its name without suffix) [class, left, top, right, bottom] of each box in
pixels, or the classes of a picture that is classified, and the size of the picture that it opened.
"""

import json
import sys
from pathlib import Path

import datumaro as dm
import supervision as sv


def detections(dataset):
    pictures = {}
    for path, image, found in dataset:
        boxes = [
            [dataset.classes[number], *map(float, box)]
            for box, number in zip(found.xyxy, found.class_id if found.class_id is not None else [], strict=True)
        ]
        pictures[Path(path).stem] = {"size": [image.shape[1], image.shape[0]], "boxes": boxes}
    return {"classes": dataset.classes, "pictures": pictures}


def folders(dataset):
    pictures = {}
    for path, image, found in dataset:
        entry = pictures.setdefault(Path(path).stem, {"size": [image.shape[1], image.shape[0]], "classes": []})
        entry["classes"] += [dataset.classes[number] for number in found.class_id]
    return {"classes": dataset.classes, "pictures": pictures}


def datumaro(path, form, **options):
    dataset = dm.Dataset.import_from(str(path), form, **options)
    names = [label.name for label in dataset.categories()[dm.AnnotationType.label]]
    pictures = {}
    for item in dataset:
        height, width = item.media.data.shape[:2]  # it opens the picture
        entry = pictures.setdefault(item.id.rpartition(":")[2], {"size": [width, height], "boxes": [], "classes": []})
        for annotation in item.annotations:
            if annotation.type == dm.AnnotationType.bbox:
                entry["boxes"].append([names[annotation.label], *map(float, annotation.points)])
            elif annotation.type == dm.AnnotationType.label:
                entry["classes"].append(names[annotation.label])
    return {"classes": names, "pictures": pictures}


def detection(project):
    here = project / "annotations"
    voc, yolo = here / "voc", here / "yolo"
    return {
        "supervision coco": detections(sv.DetectionDataset.from_coco(str(project / "images"), str(here / "coco.json"))),
        "supervision voc": detections(
            sv.DetectionDataset.from_pascal_voc(str(voc / "JPEGImages"), str(voc / "Annotations"))
        ),
        "supervision yolo": detections(
            sv.DetectionDataset.from_yolo(str(yolo / "images"), str(yolo / "labels"), str(yolo / "data.yaml"))
        ),
        "datumaro coco": datumaro(here / "coco.json", "coco_instances"),
        "datumaro voc": datumaro(voc, "voc_detection", coordinate_mode="voc-one-based"),
        "datumaro yolo": datumaro(yolo, "yolo"),
    }


def classification(project):
    here = project / "annotations"
    return {
        "supervision yolo": folders(sv.ClassificationDataset.from_folder_structure(str(here / "yolo" / "train"))),
        "datumaro coco": datumaro(here / "coco.json", "coco_labels"),
        "datumaro voc": datumaro(here / "voc", "voc_classification"),
        "datumaro yolo": datumaro(here / "yolo" / "train", "imagenet"),
    }


if __name__ == "__main__":
    task = {"detection": detection, "classification": classification}[sys.argv[1]]
    Path(sys.argv[3]).write_text(json.dumps(task(Path(sys.argv[2]))))
