import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from ownvision.learning import classify
from ownvision.learning.heads import HEADS, Logistic

Sample = tuple[NDArray[np.float32], NDArray[np.bool_], list[bytes]]


def sample(rows: int = 60, features: int = 100, tags: int = 3, multilabel: bool = False, apart: float = 0.5) -> Sample:
    rng = np.random.default_rng(0)
    owner = np.arange(rows) % tags
    centres = rng.normal(size=(tags, features))
    labels = np.eye(tags, dtype=bool)[owner]
    if multilabel:
        labels |= rng.random(labels.shape) < 0.2
    vectors = labels @ centres * apart + rng.normal(size=(rows, features))
    return (
        vectors.astype(np.float32),
        labels,
        [hashlib.sha256(bytes([row // 256, row % 256])).digest() for row in range(rows)],
    )


def probabilities(fit: classify.ClassifierFit, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return fit.head.probabilities(vectors)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize(("rows", "features"), [(60, 100), (400, 40)], ids=["few rows", "many rows"])
@pytest.mark.parametrize("blocks", [(), (10, 0)], ids=["one block", "two blocks"])
def test_tags_are_told_apart(multilabel: bool, rows: int, features: int, blocks: tuple[int, ...]) -> None:
    vectors, labels, keys = sample(rows, features, multilabel=multilabel, apart=1.0)
    blocks = (blocks[0], features - blocks[0]) if blocks else ()
    fit = classify.fit(vectors, labels, multilabel=multilabel, keys=keys, blocks=blocks)
    assert ((fit.out_of_fold >= 0.5) == labels).mean() > 0.9
    assert ((probabilities(fit, vectors) >= 0.5) == labels).mean() > 0.95
    assert fit.out_of_fold.shape == labels.shape
    if not multilabel:
        assert np.allclose(fit.out_of_fold.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("multilabel", [False, True])
def test_order_changes_nothing(multilabel: bool) -> None:
    vectors, labels, keys = sample(multilabel=multilabel)
    first = classify.fit(vectors, labels, multilabel=multilabel, keys=keys)
    shuffled = np.random.default_rng(1).permutation(len(keys))
    second = classify.fit(vectors[shuffled], labels[shuffled], multilabel=multilabel, keys=[keys[i] for i in shuffled])
    assert np.array_equal(first.head.weights, second.head.weights)
    assert np.array_equal(first.out_of_fold[shuffled], second.out_of_fold)


def test_a_score_comes_from_a_model_that_never_saw_the_image() -> None:
    vectors, labels, keys = sample(apart=0.0)
    fit = classify.fit(vectors, labels, multilabel=False, keys=keys)
    assert (fit.out_of_fold.argmax(1) == labels.argmax(1)).mean() < 0.6
    assert fit.out_of_fold.max() < 0.9


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ([[1]] * 6, "all"),
        ([[1]] * 3 + [[0]] * 3, "half"),
    ],
    ids=["every image carries it", "half carry it"],
)
def test_one_tag_alone_works(labels: list[list[int]], wanted: str) -> None:
    vectors = np.random.default_rng(0).normal(size=(6, 20)).astype(np.float32)
    vectors[:3] += 3
    keys = [bytes([row]) for row in range(6)]
    fit = classify.fit(vectors, np.array(labels, bool), multilabel=True, keys=keys)
    assert np.isfinite(fit.head.weights).all()
    said = probabilities(fit, vectors)[:, 0]
    assert (said[:3] > 0.5).all()
    assert wanted == "all" or (said[3:] < 0.5).all()


@pytest.mark.parametrize("per_tag", [1, 2, 5])
def test_few_images_and_equal_images_are_no_error(per_tag: int) -> None:
    vectors, labels, keys = sample(per_tag * 2, 30, tags=2)
    vectors[:] = vectors[0]
    fit = classify.fit(vectors, labels, multilabel=False, keys=keys)
    assert np.isfinite(fit.head.weights).all()
    assert np.isfinite(fit.out_of_fold).all()


def test_folds_are_stratified() -> None:
    _, labels, _ = sample(50, tags=2)
    folds = classify.assign_folds(labels)
    assert {int(labels[folds == fold, 0].sum()) for fold in range(5)} == {5}


def test_progress_rises_to_one() -> None:
    vectors, labels, keys = sample()
    said: list[float] = []
    classify.fit(vectors, labels, multilabel=False, keys=keys, blocks=(40, 60), progress=said.append)
    assert said == sorted(said)
    assert said[-1] == 1.0


@pytest.mark.parametrize("labels", [np.zeros((0, 2), bool), np.ones((4, 1), bool)], ids=["no image", "one tag"])
def test_nothing_to_tell_apart_is_an_error(labels: NDArray[np.bool_]) -> None:
    with pytest.raises(ValueError, match="two tags"):
        classify.fit(np.zeros((len(labels), 4), np.float32), labels, multilabel=False, keys=[b""] * len(labels))


def test_more_rows_than_span_are_fitted_in_the_span_of_some(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels, keys = sample(400, 40, apart=1.0)
    whole = classify.fit(vectors, labels, multilabel=False, keys=keys)
    monkeypatch.setattr(classify, "SPAN", 64)
    monkeypatch.setattr(classify, "_CHOSEN_ON", 50)
    monkeypatch.setattr(classify, "_LOGISTIC", 0)
    spanned = classify.fit(vectors, labels, multilabel=False, keys=keys)
    assert (whole.out_of_fold.argmax(1) == labels.argmax(1)).mean() > 0.95
    assert (spanned.out_of_fold.argmax(1) == labels.argmax(1)).mean() > 0.95
    assert np.abs(whole.out_of_fold - spanned.out_of_fold).mean() < 0.05


def test_layers_that_say_nothing_are_weighed_less() -> None:
    vectors, labels, keys = sample(90, 40, apart=1.0)
    noise = np.random.default_rng(5).normal(size=(90, 400)).astype(np.float32)
    fit = classify.fit(np.hstack([noise, vectors]), labels, multilabel=False, keys=keys, blocks=(400, 40))
    assert (fit.out_of_fold.argmax(1) == labels.argmax(1)).mean() > 0.95
    assert np.abs(fit.head.weights[:400]).mean() < 0.1 * np.abs(fit.head.weights[400:]).mean()


@pytest.mark.parametrize("negative", [None, 1], ids=["no Negative tag", "Negative tag"])
def test_what_is_like_nothing_learned_is_given_to_nobody_or_to_the_negative_tag(negative: int | None) -> None:
    vectors, labels, keys = sample(90, 40, apart=1.0)
    fit = classify.fit(vectors, labels, multilabel=False, keys=keys, negative=negative)
    strange = np.random.default_rng(1).normal(size=(20, 40)).astype(np.float32) * 5
    said = fit.head.probabilities(strange)
    assert np.allclose(said.sum(1), 1, atol=1e-5)
    wanted = np.full(3, 1 / 3) if negative is None else np.eye(3)[negative]
    assert np.abs(said - wanted).max() < 0.02
    assert fit.head.probabilities(vectors).max(1).mean() > 0.9


def test_what_is_like_nothing_learned_is_given_no_tag_of_many() -> None:
    vectors, labels, keys = sample(90, 40, multilabel=True, apart=1.0)
    fit = classify.fit(vectors, labels, multilabel=True, keys=keys)
    strange = np.random.default_rng(1).normal(size=(20, 40)).astype(np.float32) * 5
    assert fit.head.probabilities(strange).max() < 0.02


def test_labels_that_are_not_known_teach_nothing() -> None:
    vectors, labels, keys = sample(120, 60, multilabel=True, apart=1.0)
    known = np.random.default_rng(3).random(labels.shape) < 0.7
    wrong = np.where(known, labels, ~labels)
    with_wrong = classify.fit(vectors, wrong, multilabel=True, keys=keys, known=known)
    plain = classify.fit(vectors, labels, multilabel=True, keys=keys, known=known)
    right = ((with_wrong.head.probabilities(vectors) > 0.5) == labels)[~known].mean()
    assert right > 0.9
    # The folds follow the labels as given; what is learned of the known ones is the same but for that.
    assert ((plain.head.probabilities(vectors) > 0.5) == labels)[~known].mean() > 0.9


@pytest.mark.parametrize("kind", ["discriminant", "logistic"])
def test_a_head_is_the_same_from_folds_as_from_their_rows(kind: str) -> None:
    vectors, labels, _ = sample(60, 30, apart=1.0)
    folds, known = classify.assign_folds(labels), np.ones_like(labels)
    z = vectors / np.sqrt(30)
    strength = {"discriminant": 0.1, "logistic": 0.01}[kind]
    kept = folds != 0
    ((weights, bias),) = HEADS[kind](z, labels, known, folds, False).fit([1, 2, 3, 4], [strength])
    alone = HEADS[kind](z[kept], labels[kept], known[kept], folds[kept] - 1, False)
    ((expected, shift),) = alone.fit(range(4), [strength])
    assert np.allclose(weights, expected, atol=1e-3 * np.abs(expected).max())
    assert np.allclose(bias, shift, atol=1e-3 * np.abs(shift).max())


def test_logistic_regression_is_scikit_learns() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    vectors, labels, _ = sample(80, 12, apart=0.4)
    z = vectors / np.sqrt(12)
    everything = np.ones_like(labels)
    ((weights, bias),) = Logistic(z, labels, everything, np.zeros(80, np.int64), False).fit([0], [0.1])
    peer = linear_model.LogisticRegression(C=10, max_iter=1000, tol=1e-8).fit(z, labels.argmax(1))
    said = z @ weights + bias
    odds = np.exp(said - said.max(1, keepdims=True))
    assert np.abs(odds / odds.sum(1, keepdims=True) - peer.predict_proba(z)).max() < 0.01
