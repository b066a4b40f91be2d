import numpy as np

from ownvision.inference import nms


def test_doubles_go_and_the_rest_stays_best_first() -> None:
    boxes = np.array([[0.1, 0.1, 0.2, 0.2], [0.11, 0.1, 0.2, 0.2], [0.6, 0.6, 0.2, 0.2]], np.float32)
    scores = np.array([[0.6], [0.9], [0.7]], np.float32)
    found = nms.suppress(boxes, scores)
    assert found.scores.tolist() == np.array([0.9, 0.7], np.float32).tolist()
    # The double has voted: its box moved the better one's by its share of the scores.
    assert np.isclose(found.boxes[0, 0], (0.11 * 0.9 + 0.1 * 0.6) / 1.5)


def test_tags_do_not_suppress_each_other() -> None:
    found = nms.suppress(np.array([[0.1, 0.1, 0.2, 0.2]], np.float32), np.array([[0.6, 0.8]], np.float32))
    assert found.tags.tolist() == [1, 0]


def test_little_scores_and_too_many_boxes_are_left_out() -> None:
    grid = np.stack(np.meshgrid(np.arange(20), np.arange(20)), -1).reshape(-1, 2) / 20
    boxes = np.column_stack([grid, np.full((400, 2), 0.01)]).astype(np.float32)
    assert len(nms.suppress(boxes, np.full((400, 1), 0.5, np.float32)).scores) == nms.MAX_BOXES
    assert len(nms.suppress(boxes, np.full((400, 1), 0.004, np.float32)).scores) == 0


def test_empty_boxes_are_no_error() -> None:
    found = nms.suppress(np.zeros((2, 4), np.float32), np.full((2, 1), 0.5, np.float32))
    assert len(found.scores) == 2
