"""Peak memory of quick training at default settings, each in a process of its own as a job's is.

The detector takes only the first of its steps: its pictures are in memory before the first one, and every later step
needs what the first one did.
"""

import io
import resource
import sys
from collections.abc import Callable
from multiprocessing import get_context

import numpy as np
from PIL import Image

from benchmarks.results import Result, keep

_STEPS = 30
_MIB = 2**20


def run() -> bool:
    """Measure and keep the results."""
    return keep(
        "learning_memory",
        [Result(what, _peak(action), "MiB", limit) for what, action, limit in MEASURED],
    )


def _classifier() -> None:
    """10,000 images of 100 tags whose embeddings are made."""
    from ownvision.learning import classify
    from ownvision.learning.backbones import BACKBONES

    backbone = BACKBONES["efficientnet_lite0_lite2"]
    rng = np.random.default_rng(0)
    tags = np.arange(10_000) % 100
    vectors = np.empty((10_000, backbone.feature_dim), np.float16)
    centres = rng.normal(size=(100, backbone.feature_dim)).astype(np.float32)
    for row, tag in enumerate(tags):
        vectors[row] = centres[tag] + 3 * rng.normal(size=backbone.feature_dim)
    keys = [rng.bytes(32) for _ in tags]
    labels = tags[:, None] == np.arange(100)
    fitted = classify.fit(vectors, labels, multilabel=False, keys=keys, blocks=backbone.blocks)
    assert fitted.out_of_fold.shape == labels.shape


def _from_files() -> None:
    """1,000 images of 10 tags, embedded and fitted."""
    from ownvision.learning import classify, graph
    from ownvision.learning.backbones import BACKBONES

    backbone = BACKBONES["efficientnet_lite0_lite2"]
    embedder = classify.Embedder(backbone.name)
    vectors = np.concatenate([embedder([_picture(seed)]) for seed in range(1_000)]).astype(np.float16)
    labels = (np.arange(1_000) % 10)[:, None] == np.arange(10)
    keys = [np.random.default_rng(seed).bytes(32) for seed in range(1_000)]
    fitted = classify.fit(vectors, labels, multilabel=False, keys=keys, blocks=backbone.blocks)
    assert graph.classifier(backbone.name, fitted.head, [str(tag) for tag in range(10)])


def _detector() -> None:
    """1,000 images with two regions each."""
    from ownvision.inference import load
    from ownvision.learning import detect
    from ownvision.learning.evaluate import Detections

    boxes = np.array([[0.1, 0.1, 0.3, 0.4], [0.5, 0.5, 0.4, 0.3]], np.float32)
    examples = [
        detect.Example(lambda seed=seed: _picture(seed), boxes, np.array([0, 1]), seed.to_bytes(32))  # type: ignore[misc]
        for seed in range(1_000)
    ]

    def predict(model: bytes, images: object) -> list[Detections]:
        running = load(model)
        return [found for image in images if isinstance(found := running.predict(image), Detections)]  # type: ignore[attr-defined]

    detect.fit(examples, ["a", "b"], predict=predict, steps=_STEPS)


def _picture(seed: int) -> bytes:
    """A photo's worth of pixels."""
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (30, 40, 3)).astype(np.uint8))
    buffer = io.BytesIO()
    coarse.resize((1_600, 1_200), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _peak(action: Callable[[], None]) -> float:
    """MiB that a new process held at most while it did something."""
    context = get_context("spawn")
    said = context.SimpleQueue()
    process = context.Process(target=_measured, args=(action, said))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{action.__doc__} It failed.")
    return float(said.get())


def _measured(action: Callable[[], None], said: "object") -> None:
    action()
    said.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _MIB)  # type: ignore[attr-defined]


MEASURED: tuple[tuple[str, Callable[[], None], float], ...] = (
    ("classifier, 10,000 images of 100 tags, embeddings made", _classifier, 1_024.0),
    ("classifier, 1,000 photos embedded and fitted", _from_files, 2_048.0),
    (f"detector, 1,000 photos, first {_STEPS} steps", _detector, 2_048.0),
)
