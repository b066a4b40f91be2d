import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ownvision.learning import pixels
from ownvision.learning.evaluate import iou
from ownvision.learning.propose import COUNT, Proposals, Proposer, grid, propose

pytestmark = pytest.mark.slow

DATA = Path(__file__).parents[3] / "shared" / "data"


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def scene(size: tuple[int, int] = (640, 480)) -> Image.Image:
    """Two things on a table that gets darker to the right: a red disc on the left, a blue plank on the right."""
    shade = np.linspace(220, 180, size[0])[None, :, None].repeat(size[1], 0).repeat(3, 2)
    image = Image.fromarray(shade.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse((64, 96, 224, 288), fill=(190, 40, 30))
    draw.rectangle((384, 240, 576, 408), fill=(40, 60, 150))
    return image


DISC, PLANK = (0.1, 0.2, 0.25, 0.4), (0.6, 0.5, 0.3, 0.35)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


PICTURES = {
    "scene": encoded(scene()),
    "black": encoded(Image.new("RGB", (300, 200))),
    "white": encoded(Image.new("L", (300, 200), 255)),
    "grain": encoded(Image.fromarray(np.random.default_rng(0).integers(126, 130, (200, 300), np.uint8))),
    "tiny": encoded(noise(16, 16)),
    "one pixel": encoded(Image.new("RGB", (1, 1), "red")),
    "two pixels": encoded(noise(2, 1)),
    "very wide": encoded(noise(1000, 40)),
    "very high": encoded(scene().resize((24, 600))),
    "noise": encoded(noise(400, 300)),
    "gradient": encoded(Image.linear_gradient("L").resize((300, 200))),
    "stripes": encoded(Image.fromarray(np.tile(np.array([0, 255], np.uint8), (200, 100)))),
    "transparent": encoded(Image.new("RGBA", (100, 100), (0, 0, 0, 0))),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_has_25_valid_boxes_best_first(name: str) -> None:
    found = propose(PICTURES[name])
    assert found.boxes.shape == (COUNT, 4)
    assert found.confidences.shape == (COUNT,)
    assert found.boxes.dtype == found.confidences.dtype == np.float32
    assert np.isfinite(found.boxes).all()
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, 2:] > 0).all()
    assert (found.boxes[:, :2] + found.boxes[:, 2:] <= 1 + 1e-6).all()
    assert (np.diff(found.confidences) <= 0).all()
    assert ((found.confidences >= 0) & (found.confidences <= 1)).all()


@pytest.mark.parametrize("name", ["black", "white", "grain", "transparent"])
def test_where_there_is_nothing_to_see_nothing_is_claimed(name: str) -> None:
    found = propose(PICTURES[name])
    assert not found.confidences.any()
    assert (found.boxes == grid()).all()


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.parametrize("truth", [DISC, PLANK], ids=["disc", "plank"])
def test_objects_are_among_the_first_five_and_claimed(format: str, truth: tuple[float, ...]) -> None:
    found = propose(encoded(scene(), format))
    overlaps = iou(np.array([truth], np.float32), found.boxes[:5])[0]
    assert overlaps.max() >= 0.7
    assert found.confidences[overlaps.argmax()] > 0.1


def test_boxes_are_of_the_upright_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    stored = scene().transpose(Image.Transpose.ROTATE_90)
    found = propose(encoded(stored, "JPEG", quality=95, exif=exif))
    assert (iou(np.array([DISC, PLANK], np.float32), found.boxes[:5]).max(1) >= 0.7).all()


def test_claimed_boxes_are_diverse() -> None:
    found = propose(PICTURES["scene"])
    claimed = found.boxes[found.confidences > 0]
    assert len(claimed) >= 5
    assert (iou(claimed, claimed) - np.eye(len(claimed)) < 0.5).all()


def test_the_same_picture_gives_the_same_boxes_in_any_thread_and_process() -> None:
    proposer, found = Proposer(threads=1), list[Proposals]()
    threads = [threading.Thread(target=lambda: found.append(proposer(PICTURES["scene"]))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    code = (
        "import sys; from ownvision.learning.propose import Proposer; found = Proposer(1)(sys.stdin.buffer.read());"
        "sys.stdout.buffer.write(found.boxes.tobytes() + found.confidences.tobytes())"
    )
    other = subprocess.run([sys.executable, "-c", code], input=PICTURES["scene"], capture_output=True, check=True)
    answers = {one.boxes.tobytes() + one.confidences.tobytes() for one in found}
    assert len(found) == 3
    assert answers == {other.stdout}


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(pixels.BadImage):
        propose(b"no picture")


Marked = tuple[bytes, list[dict[str, float]]]


def _quickstart() -> list[Marked]:
    folder = DATA / "quickstart" / "detection"
    regions = json.loads((folder / "regions.json").read_text())
    return [((folder / name).read_bytes(), boxes) for name, boxes in regions.items()]


def _fruit() -> list[Marked]:
    folder = DATA / "fruit" / "detection"
    files = json.loads((folder / "tagged-images.json").read_text())["files"]
    return [((folder / "images" / one["filename"]).read_bytes(), one["tags"]) for one in files]


@pytest.mark.skipif(not DATA.exists(), reason="the public sets of images are not on this machine")
@pytest.mark.parametrize(("read", "count"), [(_quickstart, 40), (_fruit, 33)], ids=["fork and scissors", "fruit"])
def test_the_first_five_find_what_people_marked(read: Callable[[], list[Marked]], count: int) -> None:
    hits = []
    for data, regions in read():
        truth = np.array([[one[side] for side in ("left", "top", "width", "height")] for one in regions], np.float32)
        hits += list(iou(truth, propose(data).boxes[:5]).max(1) >= 0.5)
    assert len(hits) == count
    assert np.mean(hits) >= 0.95
