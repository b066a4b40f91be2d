import hashlib
import io
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from ownvision import inference
from ownvision.learning import detect
from ownvision.learning.curve import Point
from ownvision.learning.evaluate import Detections

# As `fit` does: here another test may be the first to load torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

TAG_IDS = ["red", "blue"]
COLOURS = [(220, 30, 30), (30, 30, 220)]
SIZE = 64


def scene(number: int, *, empty: bool = False) -> detect.Example:
    """One or two coloured rectangles on noise."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(90, 160, (80, 120, 3), dtype=np.uint8)
    boxes: list[list[float]] = []
    tags: list[int] = []
    for tag in [] if empty else ([number % 2] if number % 3 else [0, 1]):
        left, top = rng.uniform(0, 0.2) + 0.45 * len(tags), rng.uniform(0, 0.4)
        width, height = rng.uniform(0.25, 0.35), rng.uniform(0.3, 0.5)
        rows = slice(round(top * 80), round((top + height) * 80))
        pixels[rows, round(left * 120) : round((left + width) * 120)] = COLOURS[tag]
        boxes.append([left, top, width, height])
        tags.append(tag)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    data = buffer.getvalue()
    return detect.Example(
        lambda: data,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(tags, np.int64),
        hashlib.sha256(data).digest(),
    )


SCENES = [scene(number) for number in range(14)] + [scene(100, empty=True)]


def predict(model: bytes, images: Iterable[bytes]) -> list[Detections]:
    loaded = inference.load(model)
    return [found for image in images if isinstance(found := loaded.predict(image), Detections)]


def fit(examples: Sequence[detect.Example], **options: Any) -> detect.DetectorFit:
    pytest.importorskip("torch")
    return detect.fit(examples, TAG_IDS, predict=predict, input_size=SIZE, **{"steps": 5, **options})


@pytest.mark.parametrize(
    ("images", "tags"),
    [
        ([[0]] * 15 + [[1]] * 15, 2),
        ([[0]] * 200 + [[0, 1]] * 3, 2),
        ([[0, 1, 2]] * 10, 3),
        ([[index % 7, (index * 3) % 7] for index in range(60)] + [[]] * 20, 7),
        ([[0], [0], [1], [1]], 2),
    ],
    ids=["two tags", "a rare tag", "tags that go together", "seven tags and background", "two images a tag"],
)
def test_hold_out_has_every_tag_and_leaves_most_to_learn_from(images: list[list[int]], tags: int) -> None:
    named = [np.array(one, np.int64) for one in images]
    held = detect.hold_out(named, tags)
    for tag in range(tags):
        holders = {index for index, one in enumerate(images) if tag in one}
        assert 1 <= len(holders & held) <= max(1, len(holders) * 0.4)
    assert len(held) <= max(tags, len(images) * 0.3)


def test_hold_out_takes_a_fifth_of_the_background() -> None:
    images = [np.array([0])] * 10 + [np.array([], np.int64)] * 10
    assert len([index for index in detect.hold_out(images, 1) if index >= 10]) == 2


def test_hold_out_never_takes_the_only_image_of_a_tag() -> None:
    images = [np.array([0, 1]), np.array([0]), np.array([0])]
    assert detect.hold_out(images, 2) == {1}


@pytest.mark.parametrize(
    ("options", "total"),
    [({}, 160 + 3 * 24), ({"seconds": 40.0}, 100), ({"steps": 7}, 7), ({"steps": 7, "seconds": 40.0}, 7)],
)
def test_steps_follow_from_images_budget_or_order(options: dict[str, Any], total: int) -> None:
    main, settling = detect.schedule(24, **options)
    assert main + settling == total
    assert 3 * settling < main or total < 10


@pytest.mark.train
def test_the_same_examples_in_any_order_give_the_same_model() -> None:
    first = fit(SCENES)
    order = np.random.default_rng(1).permutation(len(SCENES))
    second = fit([SCENES[index] for index in order])
    assert first.model == second.model
    assert first.log == second.log
    assert {SCENES[index].key for index in first.held_out} == {SCENES[order[index]].key for index in second.held_out}
    assert fit(SCENES, seed=1).model != first.model


@pytest.mark.train
def test_the_loss_falls() -> None:
    losses = [loss for _, loss in fit(SCENES, steps=60).log]
    assert len(losses) == 60
    assert np.mean(losses[-8:]) < 0.7 * np.mean(losses[:8])


@pytest.mark.train
def test_the_hold_out_is_predicted_by_a_model_that_never_saw_it() -> None:
    asked: list[tuple[bytes, list[bytes]]] = []

    def watch(model: bytes, images: Iterable[bytes]) -> list[Detections]:
        asked.append((model, list(images)))
        return predict(model, asked[0][1])

    done: list[float] = []
    pytest.importorskip("torch")
    fitted = detect.fit(
        SCENES, TAG_IDS, predict=watch, input_size=SIZE, steps=5, progress=done.append, augmentation={"scaling": False}
    )
    [(model, images)] = asked
    assert images == [SCENES[index].read() for index in fitted.held_out]
    assert len(fitted.predictions) == len(fitted.held_out)
    assert model != fitted.model
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0.0, 1.0)
    held = onnx.load_from_string(model)
    assert {prop.key: prop.value for prop in held.metadata_props}["ownvision.tags"] == json.dumps(TAG_IDS)


@pytest.mark.train
def test_a_cancelled_training_ends_at_the_next_step() -> None:
    done: list[float] = []
    with pytest.raises(detect.Cancelled):
        fit(SCENES, steps=100, progress=done.append, cancelled=lambda: len(done) >= 3)
    assert len(done) == 3


@pytest.mark.train
def test_many_pictures_are_kept_as_jpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "_KEPT_BYTES", 0)
    assert len(fit(SCENES).log) == 5


@pytest.mark.train
def test_without_any_box_there_is_nothing_to_learn() -> None:
    with pytest.raises(ValueError, match="at least one box"):
        fit([scene(1, empty=True)])


@pytest.mark.train
def test_a_training_starts_from_an_earlier_detector() -> None:
    pytest.importorskip("torch")
    from ownvision.learning import detect_network
    from ownvision.learning.detector_graph import numbers

    first = fit(SCENES, steps=8)
    held = numbers(first.model, TAG_IDS)
    network = detect_network.Detector("efficientnet_lite0", len(TAG_IDS))
    network.adopt(held)
    for name, given in network.eval().numbers().items():
        assert np.allclose(given, held[name], atol=1e-5), name
    losses = [
        np.mean([loss for _, loss in fit(SCENES, steps=5, start_from=start).log]) for start in (first.model, None)
    ]
    assert losses[0] < losses[1]
    # Tags go by id: of one that is known the scores are taken over, whichever place it has now.
    swapped = numbers(first.model, ["new", TAG_IDS[0]])
    for level in range(3):
        rows = swapped[f"head.score.{level}.weight"]
        assert np.isnan(rows[0]).all()
        assert np.array_equal(rows[1], held[f"head.score.{level}.weight"][0])


@pytest.mark.train
def test_the_course_of_a_training_can_be_watched() -> None:
    pytest.importorskip("torch")
    from ownvision.learning import detect_train

    points: list[Point] = []
    fitted = fit(SCENES, steps=25, watch=points.append)
    assert [point.step for point in points] == sorted(point.step for point in points)
    assert {point.steps for point in points} == {25}
    assert points[0].step == detect_train.LOOK
    assert points[0].loss == pytest.approx(np.mean([loss for _, loss in fitted.log[: detect_train.LOOK]]))
    [measured] = [point.hold_out for point in points if point.hold_out is not None]
    assert 0 <= measured <= 1
