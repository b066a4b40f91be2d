"""How long a training will take, and how much memory: from a few steps of it, measured here and now.

A classifier: a few embeddings, a few reads, fits of some of the images. A detector: a few pictures and a few steps.
What is measured is scaled to what the training would do; what the process holds is the kernel's word.
"""

import resource
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ownvision.domains import CLASSIFICATION, DOMAINS
from ownvision.learning.backbones import BACKBONES
from ownvision.services import embedding
from ownvision.services.components import Components
from ownvision.services.frozen import Frozen

_WARM, _EMBEDDED, _READ = 4, 16, 64
_FITTED = 2_000  # images that a trial fit takes at most
_PICTURES, _STEPS, _FIRST_STEPS = 16, 10, 3
# Writing the model, the scores and the last transaction; found with benchmarks/learning/estimate.py.
_CLOSING_SECONDS, _SECONDS_PER_SCORE = 0.3, 4e-5
# A picture that is held out is read once more and predicted; in steps, which are of four pictures forth and back.
_STEPS_PER_PREDICTION = 0.12

Report = Callable[[float], None]
Part = tuple[str, int, float]


@dataclass(frozen=True)
class Estimate:
    """What a training of the workspace would take now.

    Attributes:
        parts: (what, how often, seconds in all).
        memory: Bytes that its process holds at most.
        measured: What this rests on, as numbers by name.
    """

    parts: list[Part]
    memory: int
    measured: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Of the training, from its start: waiting for its turn is not in it."""
        return sum(seconds for _, _, seconds in self.parts)

    def shape(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "seconds": self.seconds,
            "memoryBytes": self.memory,
            "parts": [{"what": what, "count": count, "seconds": seconds} for what, count, seconds in self.parts],
            "measured": self.measured,
        }


def estimate(components: Components, frozen: Frozen, domain_id: str, multilabel: bool, report: Report) -> Estimate:
    """Measure a few steps.

    Args:
        components: Where the images are.
        frozen: What would be learned from: images and tags that are enough for a training.
        domain_id: The project's.
        multilabel: Of a classifier, whether an image may carry several tags.
        report: Told the share done, 0 to 1; may raise.

    Raises:
        Unreadable: An image can't be read.
        BadImage: One can't be decoded.
        ValueError: There is nothing to learn from.
        ImportError: Torch is not installed (detection).
    """
    domain = DOMAINS[domain_id]
    if domain.type == CLASSIFICATION:
        return _of_classifier(components, frozen, domain.backbone, multilabel, report)
    return _of_detector(components, frozen, domain.backbone, report)


def of_fit(frozen: Frozen, read: float, fit: float) -> Estimate:
    """The estimate once all embeddings are there and a fit of all images was timed.

    Args:
        frozen: What was fitted.
        read: Seconds to read an embedding.
        fit: Seconds of the fit.
    """
    images = len(frozen.images)
    return Estimate(
        [("read", images, read * images), ("fit", 1, fit), _closing(frozen)],
        peak(),
        {"secondsPerRead": read, "fitSeconds": fit, "fittedImages": images},
    )


def peak() -> int:
    """The most memory that this process has held, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024


def _of_classifier(components: Components, frozen: Frozen, backbone: str, multilabel: bool, report: Report) -> Estimate:
    images = len(frozen.images)
    missing = embedding.missing(components, backbone, frozen.prefixes)
    per_embedding = 0.0
    loading = 0.0
    if missing:
        loading = _timed(lambda: _gathered(components, backbone, missing[:_WARM]))
        some = missing[_WARM : _WARM + _EMBEDDED]
        if some:
            per_embedding = _timed(lambda: _gathered(components, backbone, some)) / len(some)
            # The first ones were slower by what is done once: loading the network.
            loading = max(0.0, loading - per_embedding * len(missing[:_WARM]))
    report(0.4)
    there = sorted(set(frozen.prefixes) - set(missing[_WARM + _EMBEDDED :]))[:_READ]
    _gathered(components, backbone, there[:1])
    per_read = _timed(lambda: _gathered(components, backbone, there)) / max(len(there), 1)
    report(0.5)
    before = peak()
    trials = _fits(frozen, BACKBONES[backbone].blocks, multilabel)
    fit, power = _scaled(trials, images)
    largest = trials[-1][0]
    grown = max(0, peak() - before) * images / largest
    vectors = images * BACKBONES[backbone].feature_dim * 2
    report(1.0)
    parts: list[Part] = [("read", images, per_read * images), ("fit", 1, fit), _closing(frozen)]
    if missing:
        parts.insert(0, ("embed", len(missing), loading + per_embedding * len(missing)))
    return Estimate(
        parts,
        int(before + grown + vectors),
        {
            "secondsPerEmbedding": per_embedding,
            "secondsPerRead": per_read,
            "fitSeconds": trials[-1][1],
            "fittedImages": largest,
            "fitPower": power,
        },
    )


def _closing(frozen: Frozen) -> Part:
    return "close", 1, _CLOSING_SECONDS + _SECONDS_PER_SCORE * len(frozen.images)


def _gathered(components: Components, backbone: str, prefixes: Sequence[str]) -> NDArray[np.float16]:
    return embedding.gather(components, backbone, prefixes, lambda _: None)


def _timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def _fits(frozen: Frozen, blocks: Sequence[int], multilabel: bool) -> list[tuple[int, float]]:
    """Trial fits: how many images, and seconds. What is in the numbers does not change how long they take."""
    from ownvision.learning import classify

    images = len(frozen.images)
    largest = min(images, max(_FITTED // 2, images // 4), _FITTED)
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((largest, sum(blocks)), np.float32).astype(np.float16)
    order = rng.permutation(images)
    found = []
    for count in sorted({max(largest // 2, 2), largest}):
        rows = order[:count]
        labels = frozen.labels[rows]
        if not multilabel:
            # A share of the images may miss a tag; the trial must not.
            labels = np.eye(labels.shape[1], dtype=bool)[np.arange(count) % labels.shape[1]]
        keys = [bytes.fromhex(frozen.images[row].sha256) for row in rows]
        fit = partial(classify.fit, vectors[:count], labels, multilabel=multilabel, keys=keys, blocks=blocks)
        found.append((count, _timed(fit)))
    return found


def _scaled(trials: Sequence[tuple[int, float]], images: int) -> tuple[float, float]:
    """Seconds of a fit of so many images, and with which power of their number it was taken to grow."""
    count, seconds = trials[-1]
    if len(trials) < 2 or count >= images:
        return seconds * images / count, 1.0
    before, shorter = trials[0]
    power = float(np.clip(np.log(seconds / shorter) / np.log(count / before), 1.0, 2.0))
    # Beyond as many images as features their products are of the features, and time grows with the images.
    return seconds * (images / count) ** (power if count < _FITTED else 1.0), power


def _of_detector(components: Components, frozen: Frozen, backbone: str, report: Report) -> Estimate:
    from ownvision.learning import detect
    from ownvision.services.fitting import original

    held = len(detect.hold_out([np.array(image.tags, np.int64) for image in frozen.images], len(frozen.tag_ids)))
    images = len(frozen.images)
    steps = sum(detect.schedule(images - held))
    chosen = np.linspace(0, images - 1, min(images, _PICTURES)).round().astype(int)
    reading: list[float] = []

    def read(prefix: str) -> bytes:
        reading.append(time.perf_counter())
        return original(components, prefix)

    examples = [
        detect.Example(
            read=partial(read, frozen.prefixes[index]),
            boxes=np.array([box[1:] for box in frozen.images[index].boxes], np.float32).reshape(-1, 4),
            tags=np.array([box[0] for box in frozen.images[index].boxes], np.int64),
            key=bytes.fromhex(frozen.images[index].sha256),
        )
        for index in dict.fromkeys(chosen.tolist())
    ]
    moments: list[float] = []

    def enough() -> bool:
        moments.append(time.perf_counter())
        report(len(moments) / (_STEPS + _FIRST_STEPS + 1))
        return len(moments) > _STEPS + _FIRST_STEPS

    begun = time.perf_counter()
    with suppress(detect.Cancelled):
        detect.fit(examples, frozen.tag_ids, predict=lambda *_: [], backbone=backbone, steps=steps, cancelled=enough)
    per_step = statistics.median(np.diff(moments[_FIRST_STEPS:]).tolist())
    per_read = (reading[-1] - reading[0]) / max(len(reading) - 1, 1)
    loading = (reading[0] - begun) + max(0.0, moments[0] - reading[-1] - per_read)
    first = max(0.0, moments[_FIRST_STEPS] - moments[0] - _FIRST_STEPS * per_step)
    return Estimate(
        [
            ("load", 1, loading + first),
            ("read", images, per_read * images),
            ("step", steps, per_step * steps),
            ("predict", held, (per_read + _STEPS_PER_PREDICTION * per_step) * held),
            _closing(frozen),
        ],
        peak() + detect.kept_bytes(images) - detect.kept_bytes(len(examples)),
        {"secondsPerStep": per_step, "secondsPerRead": per_read, "measuredSteps": float(len(moments) - 1)},
    )
