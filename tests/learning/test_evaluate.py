import numpy as np
import pytest

from ownvision.learning import evaluate
from ownvision.learning.evaluate import Detections

TRUTH = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], bool)
SCORES = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.1, 0.9]])


@pytest.mark.parametrize(
    ("threshold", "precision", "recall", "first"),
    [
        (0.5, 0.75, 0.75, (1.0, 0.5)),
        (0.0, 0.5, 1.0, (0.5, 1.0)),
        (0.95, 0.0, 0.0, (0.0, 0.0)),
        (0.9, 1.0, 0.5, (1.0, 0.5)),
    ],
)
def test_precision_and_recall_follow_the_threshold(
    threshold: float, precision: float, recall: float, first: tuple[float, float]
) -> None:
    found = evaluate.classification(SCORES, TRUTH, threshold)
    assert (found.precision, found.recall) == (precision, recall)
    assert (found.per_tag[0].precision, found.per_tag[0].recall) == first


def test_average_precision_ignores_the_threshold_and_tags_that_do_not_occur() -> None:
    truth = np.column_stack([TRUTH, np.zeros(4, bool)])
    scores = np.column_stack([SCORES, np.ones(4)])
    values = {evaluate.classification(scores, truth, threshold).average_precision for threshold in (0.1, 0.9)}
    assert values == {1.0}


def test_average_precision_is_scikit_learns() -> None:
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, scores = rng.random(50) < 0.3, rng.random(50).round(1)
        assert evaluate.average_precision(scores, truth) == pytest.approx(average_precision_score(truth, scores))


def test_deviations_are_over_folds() -> None:
    found = evaluate.classification(SCORES, TRUTH, 0.5, np.array([0, 1, 0, 1]))
    assert found.recall_std == pytest.approx(0.25)
    assert evaluate.classification(SCORES, TRUTH, 0.5).recall_std == 0.0


def boxes(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))


REAL = boxes((0.1, 0.1, 0.2, 0.2, 1, 0))


@pytest.mark.parametrize(
    ("said", "overlap", "precision", "recall", "average"),
    [
        (boxes((0.1, 0.1, 0.2, 0.2, 0.9, 0)), 0.5, 1.0, 1.0, 1.0),
        (boxes((0.1, 0.1, 0.2, 0.2, 0.9, 0), (0.1, 0.1, 0.2, 0.2, 0.8, 0)), 0.5, 0.5, 1.0, 1.0),
        (boxes((0.15, 0.1, 0.2, 0.2, 0.9, 0)), 0.7, 0.0, 0.0, 0.0),
        (boxes((0.15, 0.1, 0.2, 0.2, 0.9, 0)), 0.5, 1.0, 1.0, 1.0),
        (boxes((0.1, 0.1, 0.2, 0.2, 0.3, 0)), 0.5, 0.0, 0.0, 1.0),
        (boxes((0.1, 0.1, 0.2, 0.2, 0.9, 1)), 0.5, 0.0, 0.0, 0.0),
        (boxes(), 0.5, 0.0, 0.0, 0.0),
    ],
    ids=["hit", "doubled", "too far", "near enough", "below the threshold", "other tag", "nothing"],
)
def test_detections_are_matched(
    said: Detections, overlap: float, precision: float, recall: float, average: float
) -> None:
    found = evaluate.detection([said], [REAL], 2, 0.5, overlap)
    assert (found.precision, found.recall) == (precision, recall)
    assert found.average_precision == pytest.approx(average)


@pytest.mark.parametrize("overlap", [0.3, 0.5, 0.75])
def test_average_precision_of_detections_is_cocos(overlap: float) -> None:
    from faster_coco_eval import COCO, COCOeval_faster

    rng = np.random.default_rng(3)
    truth, said = [], []
    for _ in range(30):
        count = int(rng.integers(1, 4))
        real = np.column_stack([rng.uniform(0, 0.6, (count, 2)), rng.uniform(0.1, 0.4, (count, 2))])
        tags = rng.integers(0, 3, count)
        truth.append(Detections(real.astype(np.float32), np.ones(count, np.float32), tags))
        guess = np.concatenate([real + rng.normal(0, 0.02, real.shape), rng.uniform(0.1, 0.4, (2, 4))])
        others = np.concatenate([np.where(rng.random(count) < 0.8, tags, 0), rng.integers(0, 3, 2)])
        said.append(
            Detections(guess.astype(np.float32), rng.permutation(1000)[: count + 2].astype(np.float32) / 1e3, others)
        )

    # Pixels of a large picture: boxes as float64, absolute.
    def rows(all: list[Detections], scored: bool) -> list[dict[str, object]]:
        found = []
        for image, one in enumerate(all):
            for box, score, tag in zip(one.boxes.astype(float) * 1000, one.scores, one.tags, strict=True):
                row: dict[str, object] = {"image_id": image, "category_id": int(tag), "bbox": box.tolist()}
                row |= {"score": float(score)} if scored else {"area": float(box[2] * box[3]), "iscrowd": 0}
                found.append(row | {"id": len(found) + 1})
        return found

    images = [{"id": number, "width": 1000, "height": 1000} for number in range(30)]
    coco = COCO(
        {
            "images": images,
            "categories": [{"id": n, "name": str(n)} for n in range(3)],
            "annotations": rows(truth, False),
        }
    )
    peer = COCOeval_faster(coco, coco.loadRes(rows(said, True)), "bbox")
    peer.params.iouThrs = np.array([overlap])
    peer.evaluate()
    peer.accumulate()
    precision = peer.eval["precision"][0, :, :, 0, -1]
    ours = evaluate.detection(said, truth, 3, 0.5, overlap)
    assert [tag.average_precision for tag in ours.per_tag] == pytest.approx(precision.mean(0).tolist(), abs=1e-6)
