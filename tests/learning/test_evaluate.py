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


def test_curves_end_at_all_that_is_found_and_keep_their_bound() -> None:
    rng = np.random.default_rng(0)
    truth, scores = rng.random(1_000) < 0.3, rng.random(1_000)
    scores[truth] += 0.3
    whole = evaluate.curve(scores, truth, int(truth.sum()), 5_000)
    some = evaluate.curve(scores, truth, int(truth.sum()), 20)
    assert len(whole) == 1_000
    assert 2 < len(some) <= 20
    assert some[-1] == whole[-1]
    assert some[-1].recall == 1.0
    assert set(some) <= set(whole)
    assert [point.threshold for point in some] == sorted((point.threshold for point in some), reverse=True)
    one = whole[300]
    said = scores >= one.threshold
    assert (one.precision, one.recall) == (truth[said].mean(), said[truth].mean())


def test_no_curve_without_truth_or_predictions() -> None:
    assert evaluate.curve(np.array([0.5]), np.array([False]), 0) == []
    assert evaluate.curve(np.zeros(0), np.zeros(0, bool), 3) == []


def test_confusion_of_one_tag_per_image() -> None:
    matrix = evaluate.single_confusion(SCORES, TRUTH, 0.0)
    assert matrix.tolist() == [[1, 1, 0], [0, 2, 0]]
    assert evaluate.single_confusion(SCORES, TRUTH, 0.7).tolist() == [[1, 0, 1], [0, 2, 0]]


def test_confusion_of_several_tags_per_image_tells_what_is_missed_and_what_is_too_much() -> None:
    truth = np.array([[1, 1], [1, 0], [0, 0]], bool)
    scores = np.array([[0.9, 0.1], [0.8, 0.7], [0.1, 0.9]])
    assert evaluate.several_confusion(scores, truth, 0.5).tolist() == [[2, 0, 0], [0, 0, 1], [0, 2, 0]]


def _boxed(*rows: tuple[int, float, float, float, float, float]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, 2:], table[:, 1], table[:, 0].astype(np.int64))


def test_confusion_of_a_detector_has_a_row_and_a_column_for_background() -> None:
    truth = [_boxed((0, 1, 0.1, 0.1, 0.2, 0.2), (1, 1, 0.6, 0.6, 0.2, 0.2), (1, 1, 0.1, 0.6, 0.2, 0.2)), _boxed()]
    said = [
        _boxed((0, 0.9, 0.1, 0.1, 0.2, 0.2), (0, 0.8, 0.6, 0.6, 0.2, 0.2), (1, 0.2, 0.1, 0.6, 0.2, 0.2)),
        _boxed((1, 0.7, 0.3, 0.3, 0.1, 0.1)),
    ]
    assert evaluate.detection_confusion(said, truth, 2, 0.5, 0.5).tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]
    assert evaluate.detection_right(said, truth, 0.5, 0.5).tolist() == [False, False]
    assert evaluate.detection_right(truth, truth, 0.5, 0.5).tolist() == [True, True]


def test_the_most_wrong_image_is_the_one_with_the_surest_mistake() -> None:
    assert evaluate.classification_errors(SCORES, TRUTH).tolist() == pytest.approx([0.1, 0.6, 0.2, 0.1])
    truth = [_boxed((0, 1, 0.1, 0.1, 0.2, 0.2))] * 4
    said = [
        _boxed((0, 0.9, 0.1, 0.1, 0.2, 0.2)),
        _boxed(),
        _boxed((1, 0.6, 0.1, 0.1, 0.2, 0.2)),
        _boxed((0, 0.9, 0.1, 0.1, 0.2, 0.2), (0, 0.4, 0.7, 0.7, 0.2, 0.2)),
    ]
    assert evaluate.detection_errors(said, truth, 0.5).tolist() == pytest.approx([0.1, 1.0, 0.6, 0.4])


def test_spread_of_average_precision_follows_the_folds() -> None:
    folds = np.array([0, 1, 0, 1])
    found = evaluate.classification(SCORES, TRUTH, 0.5, folds)
    per_fold = [evaluate.classification(SCORES[folds == f], TRUTH[folds == f], 0.5).average_precision for f in (0, 1)]
    assert found.average_precision_std == pytest.approx(np.std(per_fold))
