"""Object detectors: fine-tuned on boxes, measured on a hold-out, then settled on all images.

Torch is imported when training starts, by `fit` alone: naming a model, an example or a hold-out needs none.
"""

import io
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ownvision.learning import pixels, tiling
from ownvision.learning.augment import Scene
from ownvision.learning.curve import Point
from ownvision.learning.detector_graph import Floats, detector, numbers
from ownvision.learning.evaluate import Detections, detection

HELD_OUT_SHARE = 0.2
INPUT_SIZE = 320
# Steps a budget of seconds buys: of two cores, not of this machine, so that the same budget gives the same model.
STEPS_PER_SECOND = 2.5
_SETTLE_SHARE = 0.25
# Pictures are kept this much larger than the network's input, so that zooming in finds detail; of tiles there is enough
# detail without.
_KEPT = 1.25
# As pixels up to so many bytes, beyond as JPEG, of about so many bytes a pixel, and smaller where that is too much.
_KEPT_BYTES, _JPEG_BYTES = 600_000_000, 0.35
# Pictures whose size is looked at for the choice of tiles.
_SIZED = 32

Predict = Callable[[bytes, Iterable[bytes]], list[Detections]]


class Cancelled(Exception):
    """The training was asked to stop."""


@dataclass(frozen=True)
class Example:
    """One image with its regions; without any it is background.

    Attributes:
        read: Gives the encoded file; called once for training, once more for an image that is held out and for the
            first to choose tiles by.
        boxes: float32 [K, 4] left, top, width, height, relative to the upright picture, 0 to 1.
        tags: int [K], positions in the list of tag ids.
        key: The image's SHA-256: decides order and hold-out.
    """

    read: Callable[[], bytes]
    boxes: Floats
    tags: NDArray[np.int64]
    key: bytes


@dataclass(frozen=True)
class DetectorFit:
    """A trained detector and what the hold-out says of it.

    Attributes:
        model: The ONNX file, settled on all images.
        held_out: Positions of the hold-out's images in the examples given, ascending.
        predictions: Of these images in this order, by a model that never saw them.
        log: Step and loss.
    """

    model: bytes
    held_out: list[int]
    predictions: list[Detections]
    log: list[tuple[int, float]] = field(repr=False)


def fit(
    examples: Sequence[Example],
    tag_ids: Sequence[str],
    *,
    predict: Predict,
    backbone: str = "efficientnet_lite0",
    input_size: int = INPUT_SIZE,
    seed: int = 0,
    seconds: float | None = None,
    steps: int | None = None,
    augmentation: Mapping[str, bool] | None = None,
    start_from: bytes | None = None,
    tiles: bool = True,
    progress: Callable[[float], None] = lambda _: None,
    watch: Callable[[Point], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> DetectorFit:
    """Train a detector.

    The schedule runs on four fifths of the images; the hold-out is predicted with that model. Then a short, slow
    continuation on all images gives the model that is served. The same examples in any order, seed and machine give
    the same file: the number of steps follows from the number of images, never from a clock.

    Args:
        examples: At least one with a box. Read one after the other and not kept: may be a lazy sequence.
        tag_ids: One per tag.
        predict: Runs a model file on encoded images as they will be served: `ownvision.inference`'s doing, a layer
            above this one.
        backbone: A name of `BACKBONES`.
        input_size: Side of the network's input in pixels, a multiple of 32.
        seed: Of initial numbers, order and variations.
        seconds: A budget, as `STEPS_PER_SECOND` steps a second.
        steps: How many in all, instead of what the images or the budget ask for.
        augmentation: The original's names of methods, as `augment.variation` reads them; None for all.
        start_from: The file of an earlier detector, whose convolutions are taken over where shapes agree, and whose
            scores are, of tags with the same id.
        tiles: Whether small objects may have pictures looked at in tiles, as `tiling.plan` decides; who serves the file
            must do so, too.
        progress: Told the share done, 0 to 1.
        watch: Told of the course every `detect_train.LOOK` steps, and of the hold-out whenever it was predicted.
        cancelled: Asked before each step.

    Raises:
        Cancelled: `cancelled` said so.
        ValueError: No example has a box, the input size is not a multiple of 32, or `start_from` is no detector.
        BadImage: An image can't be decoded.
        ImportError: Torch (the extra `train`) is not installed.
    """
    # Waiting threads must sleep: beside a busy neighbour spinning ones made steps ten times slower. Read when torch
    # is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from ownvision.learning import detect_train

    order = sorted(range(len(examples)), key=lambda index: examples[index].key)
    tiled = _tiling(examples, order, input_size) if tiles else None
    pictures = _Pictures((examples[index] for index in order), len(order), _kept_size(tiled, input_size))
    if not any(len(tags) for tags in pictures.tags):
        raise ValueError("A detector needs at least one box to learn from.")
    held = hold_out(pictures.tags, len(tag_ids))
    learned = [index for index in range(len(order)) if index not in held]
    main, settling = schedule(len(learned), seconds=seconds, steps=steps)

    total = main + settling

    def stop(step: int, before: int = 0) -> None:
        if cancelled():
            raise Cancelled
        progress((before + step) / total)

    def look(step: int, loss: float, before: int = 0) -> None:
        watch(Point(before + step, total, loss, None))

    known = numbers(start_from, tag_ids) if start_from is not None else None
    training = detect_train.start(backbone, len(tag_ids), input_size, seed, augmentation or {}, tiled, known)

    def model() -> bytes:
        numbers = training.numbers()
        return detector(numbers, backbone=backbone, input_size=input_size, tag_ids=tag_ids, tiling=tiled)

    detect_train.advance(
        training, lambda i: pictures[learned[i]], len(learned), main, settle=False, stop=stop, look=look
    )
    positions = sorted(order[index] for index in held)
    predictions = predict(model(), (examples[position].read() for position in positions)) if held else []
    if held:
        truth = [_truth(examples[position]) for position in positions]
        watch(Point(main, total, None, detection(predictions, truth, len(tag_ids), 0.5, 0.5).average_precision))
    if settling:
        detect_train.advance(
            training,
            pictures.__getitem__,
            len(order),
            settling,
            settle=True,
            stop=partial(stop, before=main),
            look=partial(look, before=main),
        )
    progress(1.0)
    return DetectorFit(model(), positions, predictions, training.log)


def schedule(images: int, *, seconds: float | None = None, steps: int | None = None) -> tuple[int, int]:
    """Steps on the learning images, and steps of settling on all.

    Args:
        images: That are learned from.
        seconds: A budget for both.
        steps: For both, instead.
    """
    total = steps
    if total is None:
        total = round(seconds * STEPS_PER_SECOND) if seconds is not None else min(6_000, 160 + 3 * images)
    settling = round(total * _SETTLE_SHARE / (1 + _SETTLE_SHARE))
    return max(total - settling, 1), settling


def kept_bytes(images: int, input_size: int = INPUT_SIZE) -> int:
    """About how many bytes the pictures of a training take while it lasts: as pixels, beyond `_KEPT_BYTES` as JPEG."""
    raw = images * round(input_size * _KEPT) ** 2 * 3
    return raw if raw <= _KEPT_BYTES else raw // 8


def hold_out(tags: Sequence[NDArray[np.int64]], count: int) -> set[int]:
    """Choose a fifth of the images, stratified by tag.

    Rare tags choose first, so that each is measured; the images before are preferred, which is why they come ordered
    by key. An image that would leave one of its tags nothing to learn from stays.

    Args:
        tags: Of each image's boxes; empty for background.
        count: How many tags there are.

    Returns:
        Positions of at least one image of each tag that has two, and of a fifth of the background.
    """
    named = [frozenset(int(tag) for tag in one) for one in tags]
    holders = [[index for index, one in enumerate(named) if tag in one] for tag in range(count)]
    quota = [max(1, round(len(one) * HELD_OUT_SHARE)) for one in holders]
    taken: set[int] = set()

    def spent(tag: int) -> int:
        return sum(tag in named[index] for index in taken)

    for tag in sorted(range(count), key=lambda tag: (len(holders[tag]), tag)):
        # First the images that take no other tag beyond its own fifth, then any.
        for strict in (True, False):
            for index in holders[tag]:
                if spent(tag) >= quota[tag]:
                    break
                spare = [len(holders[other]) - 1 for other in named[index]]
                bound = [min(quota[other], left) for other, left in zip(named[index], spare, strict=True)]
                bound = bound if strict else spare
                if index not in taken and all(
                    spent(other) < most for other, most in zip(named[index], bound, strict=True)
                ):
                    taken.add(index)
    background = [index for index, one in enumerate(named) if not one]
    return taken | set(background[: round(len(background) * HELD_OUT_SHARE)])


def _tiling(examples: Sequence[Example], order: Sequence[int], side: int) -> tiling.Tiling | None:
    boxes = [np.asarray(examples[index].boxes, np.float32).reshape(-1, 4) for index in order]
    if tiling.plan(np.concatenate(boxes), [(10_240, 10_240)], side) is None:
        return None  # whatever their size: nothing need be read
    sizes = [pixels.inspect(examples[index].read()) for index in order[:_SIZED]]
    return tiling.plan(np.concatenate(boxes), [(size.width, size.height) for size in sizes], side)


def _kept_size(tiled: tiling.Tiling | None, side: int) -> tuple[int, int]:
    if tiled is None:
        return (round(side * _KEPT),) * 2
    return tiled.width, tiled.height


class _Pictures:
    """All images decoded once, at a size, width and height, that is smaller where they are too many to be kept."""

    def __init__(self, examples: Iterable[Example], count: int, size: tuple[int, int]) -> None:
        raw = count * size[0] * size[1] * 3 <= _KEPT_BYTES
        share = 1.0 if raw else min(1.0, math.sqrt(_KEPT_BYTES / (count * size[0] * size[1] * _JPEG_BYTES)))
        self._width, self._height = (max(32, round(length * share)) for length in size)
        self._kept: list[NDArray[np.uint8] | bytes] = []
        self._boxes: list[Floats] = []
        self.tags: list[NDArray[np.int64]] = []
        for example in examples:
            decoded = pixels.load(example.read(), self._height, self._width)
            self._kept.append(decoded if raw else _jpeg(decoded))
            boxes = np.asarray(example.boxes, np.float32).reshape(-1, 4)
            self._boxes.append(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1).clip(0, 1))
            self.tags.append(np.asarray(example.tags, np.int64).reshape(-1))

    def __getitem__(self, index: int) -> Scene:
        kept = self._kept[index]
        shown = pixels.load(kept, self._height, self._width) if isinstance(kept, bytes) else kept
        return shown, self._boxes[index], self.tags[index]


def _truth(example: Example) -> Detections:
    return Detections(example.boxes, np.ones(len(example.tags), np.float32), example.tags)


def _jpeg(rgb: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
