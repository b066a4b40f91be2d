import numpy as np
import pytest

from ownvision.learning.detector_graph import centres

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.train

SIZE = 128
POINTS, STRIDES = (torch.from_numpy(array) for array in centres(SIZE))
CELLS = len(STRIDES)


@pytest.mark.parametrize(
    ("a", "b", "iou", "generalised"),
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], 1.0, 1.0),
        ([0, 0, 10, 10], [5, 0, 15, 10], 1 / 3, 1 / 3),
        ([0, 0, 10, 10], [20, 0, 30, 10], 0.0, -1 / 3),
        ([0, 0, 10, 10], [10, 10, 20, 20], 0.0, -0.5),
    ],
)
def test_overlaps(a: list[float], b: list[float], iou: float, generalised: float) -> None:
    from ownvision.learning.detect_loss import overlaps

    found = overlaps(torch.tensor(a, dtype=torch.float32), torch.tensor(b, dtype=torch.float32))
    assert np.allclose([float(one) for one in found], [iou, generalised], atol=1e-5)


@pytest.mark.parametrize(
    "box",
    [[10, 10, 70, 90], [0, 0, 128, 128], [61, 61, 63, 63], [126.5, 126.5, 128, 128]],
    ids=["usual", "whole picture", "tiny, between centres", "tiny, in the corner"],
)
def test_every_box_has_a_cell_that_answers_for_it(box: list[float]) -> None:
    from ownvision.learning.detect_loss import assign, corners

    truth = torch.tensor([box])
    boxes = corners(POINTS, STRIDES, torch.full((1, CELLS, 4), 2.0))[0]
    owner, goal = assign(torch.full((CELLS, 2), 0.01), boxes, POINTS, STRIDES, truth, torch.tensor([1]))
    assert int((owner == 0).sum()) >= 1
    assert float(goal.min()) >= 0
    assert float(goal.max()) <= 1


def test_a_cell_answers_for_the_box_it_overlaps_more() -> None:
    from ownvision.learning.detect_loss import assign, corners

    truth = torch.tensor([[20.0, 20, 60, 60], [22, 22, 100, 100]])
    # All cells predict the first box exactly.
    distances = torch.cat([POINTS - truth[0, :2], truth[0, 2:] - POINTS], 1) / STRIDES[:, None]
    boxes = corners(POINTS, STRIDES, distances[None])[0]
    owner, goal = assign(torch.full((CELLS, 2), 0.5), boxes, POINTS, STRIDES, truth, torch.tensor([0, 1]))
    first = owner == 0
    assert int(first.sum()) >= 5
    assert torch.allclose(goal[first], torch.ones(int(first.sum())), atol=1e-4)


def test_a_perfect_answer_costs_less_than_any_other() -> None:
    from ownvision.learning.detect_loss import assign, corners, loss

    truth = torch.tensor([[20.0, 30, 80, 90]])
    tags = torch.tensor([1])
    distances = (torch.cat([POINTS - truth[0, :2], truth[0, 2:] - POINTS], 1) / STRIDES[:, None])[None]
    boxes = corners(POINTS, STRIDES, distances)[0]
    owner, _ = assign(torch.full((CELLS, 2), 0.5), boxes, POINTS, STRIDES, truth, tags)
    logits = torch.full((1, CELLS, 2), -12.0)
    logits[0, owner == 0, 1] = 12.0
    perfect = loss(logits, distances, POINTS, STRIDES, [(truth, tags)])
    assert float(perfect) < 0.05
    other_tag = loss(logits.flip(-1), distances, POINTS, STRIDES, [(truth, tags)])
    moved = loss(logits, distances, POINTS, STRIDES, [(truth + 15, tags)])
    assert float(other_tag) > float(perfect) + 1
    assert float(moved) > float(perfect) + 0.3


def test_background_alone_lowers_all_scores() -> None:
    from ownvision.learning.detect_loss import loss

    logits = torch.zeros((1, CELLS, 2), requires_grad=True)
    nothing = (torch.empty((0, 4)), torch.empty(0, dtype=torch.int64))
    loss(logits, torch.ones((1, CELLS, 4)), POINTS, STRIDES, [nothing]).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert float(logits.grad.min()) > 0
