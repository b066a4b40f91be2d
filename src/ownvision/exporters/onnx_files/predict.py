"""Predict pictures with the model beside this file: python predict.py picture.jpg [more.png …]."""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else onnxruntime reports to its maker

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent.parent
SCORE, OVERLAP, VOTE, MOST, CANDIDATES = 0.005, 0.45, 0.65, 300, 1200


def load(path, height, width):
    """The picture upright, over white where it is transparent, stretched: uint8 [height, width, 3]."""
    with Image.open(path) as image:
        turned = image.getexif().get(0x0112) in (5, 6, 7, 8)
        image.draft("RGB", (2 * height, 2 * width) if turned else (2 * width, 2 * height))
        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            picture = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        elif image.mode.startswith("I"):
            grey = np.asarray(image).astype(np.float32)
            image = Image.fromarray((grey / 257.0).clip(0, 255).astype(np.uint8))
        image = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        return np.asarray(image)


def iou(box, boxes):
    """Intersection over union of one box with many; left, top, width, height."""
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[:2] + box[2:], boxes[:, :2] + boxes[:, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=1)
    return common / (box[2] * box[3] + boxes[:, 2] * boxes[:, 3] - common + 1e-12)


def suppress(boxes, scores):
    """The best boxes of each tag without their doubles, each refined by the boxes that agree with it."""
    found = []
    for tag in range(scores.shape[1]):
        order = np.argsort(-scores[:, tag], kind="stable")[:CANDIDATES]
        order = order[scores[order, tag] >= SCORE]
        candidates, weights = boxes[order].astype(np.float64), scores[order, tag].astype(np.float64)
        alive = np.ones(len(order), bool)
        for index in range(len(order)):
            if alive[index]:
                overlaps = iou(candidates[index], candidates)
                voters = overlaps >= VOTE
                voters[index] = True
                box = np.average(candidates[voters], axis=0, weights=weights[voters])
                found.append((weights[index], tag, box))
                alive &= overlaps < OVERLAP
    return sorted(found, key=lambda one: -one[0])[:MOST]


def main(paths):
    """Print what the model sees in each picture."""
    session = onnxruntime.InferenceSession(str(HERE / "model.onnx"), providers=["CPUExecutionProvider"])
    labels = (HERE / "labels.txt").read_text(encoding="utf-8").split("\n")
    height, width = json.loads(session.get_modelmeta().custom_metadata_map["ownvision.input"])
    for path in paths:
        rgb = load(path, height, width)
        image = rgb.transpose(2, 0, 1)[None].astype(np.float32)
        outputs = session.run(None, {session.get_inputs()[0].name: image})
        print(path)
        if len(outputs) == 1:
            for column in np.argsort(-outputs[0][0]):
                print(f"  {outputs[0][0][column]:.6f}  {labels[column]}")
            continue
        if len(outputs) == 3:  # suppressed inside the graph: corners, tags, scores
            corners, tags, scores = (output[0] for output in outputs)
            boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
            found = list(zip(scores, tags, boxes, strict=True))
        else:
            found = suppress(outputs[0][0], outputs[1][0])
        for score, tag, (left, top, box_width, box_height) in found:
            print(f"  {score:.6f}  {labels[tag]}  {left:.4f} {top:.4f} {box_width:.4f} {box_height:.4f}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
