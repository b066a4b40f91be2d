"""One model in onnxruntime."""

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ownvision.inference.nms import suppress
from ownvision.learning import device, pixels
from ownvision.learning.evaluate import Detections


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

    def predict(self, data: bytes) -> Classification | Detections:
        """Predict one encoded image; boxes come after suppression, best first.

        Raises:
            pixels.BadImage: It can't be decoded.
        """
        rgb = pixels.load(data, self.height, self.width)
        image = rgb.transpose(2, 0, 1)[None].astype(np.float32)
        if self.task == "classification":
            return Classification(self.session.run(["probabilities"], {"image": image})[0][0])
        boxes, scores = self.session.run(["boxes", "scores"], {"image": image})
        return suppress(boxes[0], scores[0])


def load(onnx: bytes, threads: int = 0) -> Model:
    """Load a model."""
    return Model(onnx, threads)
