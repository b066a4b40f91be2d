"""One model in onnxruntime."""

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ownvision.inference.nms import SCORE, suppress
from ownvision.learning import device, pixels, tiling
from ownvision.learning.evaluate import Detections

# Tiles that run through the network together: more would only take more memory.
_TOGETHER = 4


@dataclass(frozen=True)
class Classification:
    """A classifier's answer: probabilities float32 [T], in the order of the model's tags."""

    probabilities: NDArray[np.float32]


class Model:
    """A stored model, ready to predict; safe to use from several threads.

    Args:
        onnx: The file, as `learning.graph` writes it.
        threads: Of one run, as of `device.threads`.
    """

    def __init__(self, onnx: bytes, threads: int = 0) -> None:
        self.session = device.session(onnx, threads)
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.task: str = metadata["ownvision.task"]
        self.tag_ids: list[str] = json.loads(metadata["ownvision.tags"])
        self.height, self.width = json.loads(metadata["ownvision.input"])
        self.tiling = tiling.read(metadata)

    def predict(self, data: bytes) -> Classification | Detections:
        """Predict one encoded image; boxes come after suppression, best first.

        Raises:
            pixels.BadImage: It can't be decoded.
        """
        if self.tiling is not None:
            return self._tiled(pixels.load(data, self.tiling.height, self.tiling.width), self.tiling)
        rgb = pixels.load(data, self.height, self.width)
        image = rgb.transpose(2, 0, 1)[None].astype(np.float32)
        if self.task == "classification":
            return Classification(self.session.run(["probabilities"], {"image": image})[0][0])
        boxes, scores = self.session.run(["boxes", "scores"], {"image": image})
        return suppress(boxes[0], scores[0])

    def _tiled(self, rgb: NDArray[np.uint8], plan: tiling.Tiling) -> Detections:
        """Predict a picture of the plan's size, tile by tile; one suppression for all."""
        side = self.width
        tiles = plan.tiles(side)
        views = [rgb[top : top + side, left : left + side] for left, top in tiles]
        if plan.whole:
            views.append(pixels.resized(rgb, side, side))
        scale = np.array([plan.width, plan.height] * 2, np.float32)
        kept: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        for first in range(0, len(views), _TOGETHER):
            batch = np.stack(views[first : first + _TOGETHER]).transpose(0, 3, 1, 2).astype(np.float32)
            for place, (boxes, scores) in enumerate(
                zip(*self.session.run(["boxes", "scores"], {"image": batch}), strict=True), first
            ):
                likely = scores.max(axis=1) >= SCORE
                boxes, scores = boxes[likely], scores[likely]
                if place < len(tiles):
                    mine = plan.owned(boxes, tiles[place], side)
                    origin = np.array([*tiles[place], 0, 0], np.float32)
                    boxes, scores = (boxes[mine] * side + origin) / scale, scores[mine]
                kept.append((boxes, scores))
        return suppress(*(np.concatenate(parts) for parts in zip(*kept, strict=True)))


def load(onnx: bytes, threads: int = 0) -> Model:
    """Load a model."""
    return Model(onnx, threads)
