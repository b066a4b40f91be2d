import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from ownvision.learning import classify

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


def probabilities(fit: classify.ClassifierFit, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    scores = (vectors @ fit.head.weights + fit.head.bias).astype(np.float64)
    if fit.head.kind == "sigmoid":
        return 1 / (1 + np.exp(-scores))
    odds = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(odds / odds.sum(1, keepdims=True))


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


def test_both_forms_give_the_same_discriminants() -> None:
    vectors, labels, _ = sample(90, 90)
    rows = classify._rows(vectors, np.arange(90), slice(0, 90))
    folds = classify.assign_folds(labels)
    for within in (True, False):
        dual = classify._Dual(rows, labels, folds, within=within)
        primal = classify._Primal(rows, labels, folds, within=within)
        for a, b in zip(dual.final(0.1), primal.final(0.1), strict=True):
            assert np.allclose(a, b, atol=1e-3 * np.abs(a).max())
        first, second = np.zeros((1, 90, 3), np.float32), np.zeros((1, 90, 3), np.float32)
        for fold in range(5):
            dual.score(fold, [0.1], first)
            primal.score(fold, [0.1], second)
        assert np.allclose(first, second, atol=1e-3 * np.abs(first).max())


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
