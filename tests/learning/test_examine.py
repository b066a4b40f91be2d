import hashlib

import numpy as np
import pytest

from ownvision.learning import examine

RNG = np.random.default_rng(0)


def clusters(count: int, tags: int, width: int = 40, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [N, D] around one centre per tag, and the tags [N]."""
    tag = np.arange(count) % tags
    centres = np.random.default_rng(1).standard_normal((tags, width)) * 3
    return (centres[tag] + noise * np.random.default_rng(2).standard_normal((count, width))).astype(np.float16), tag


def test_images_of_identical_bytes_are_paired_with_the_first() -> None:
    keys = [hashlib.sha256(data).digest() for data in (b"a", b"b", b"a", b"a")]
    assert [(pair.first, pair.second) for pair in examine.exact_copies(keys)] == [(0, 2), (0, 3)]


def test_copies_with_a_little_noise_are_named_first_and_nothing_else_is() -> None:
    vectors, _ = clusters(300, 5)
    copied = np.random.default_rng(3).choice(300, 15, replace=False)
    noise = 0.1 * np.random.default_rng(4).standard_normal((15, vectors.shape[1]))
    pairs = examine.near_copies(np.concatenate([vectors, (vectors[copied] + noise).astype(np.float16)]))
    assert {(pair.first, pair.second) for pair in pairs} == {(int(row), 300 + n) for n, row in enumerate(copied)}
    assert [pair.similarity for pair in pairs] == sorted((pair.similarity for pair in pairs), reverse=True)
    assert all(examine.ALIKE <= pair.similarity <= 1 for pair in pairs)


def test_blocks_find_the_pairs_that_all_at_once_find(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = clusters(90, 3)
    both = np.concatenate([vectors, vectors[::9]])
    whole = examine.near_copies(both)
    monkeypatch.setattr(examine, "_BLOCK", 16)
    assert [(p.first, p.second) for p in examine.near_copies(both)] == [(p.first, p.second) for p in whole]
    assert len(whole) == 10


def test_at_most_as_many_pairs_as_asked_for_the_most_alike() -> None:
    vectors, _ = clusters(60, 3)
    noisy = vectors[:20] + np.linspace(0, 0.3, 20)[:, None] * RNG.standard_normal((20, vectors.shape[1]))
    pairs = examine.near_copies(np.concatenate([vectors, noisy.astype(np.float16)]), most=5)
    assert [pair.second for pair in pairs] == [60, 61, 62, 63, 64]


@pytest.mark.parametrize("count", [0, 1])
def test_one_image_has_no_copy(count: int) -> None:
    assert examine.near_copies(np.zeros((count, 8), np.float16)) == []


def test_planted_label_errors_are_named_first() -> None:
    from ownvision.learning import classify

    vectors, true = clusters(200, 4, noise=2.0)
    wrong = np.random.default_rng(5).choice(200, 10, replace=False)
    given = true.copy()
    given[wrong] = (given[wrong] + 1) % 4
    keys = [hashlib.sha256(bytes([row])).digest() for row in range(200)]
    labels = np.eye(4, dtype=bool)[given]
    fitted = classify.fit(vectors, labels, multilabel=False, keys=keys)
    doubts = examine.mislabelled(fitted.out_of_fold, labels, multilabel=False)
    assert len({doubt.row for doubt in doubts[:10]} & set(wrong.tolist())) >= 8
    first = doubts[0]
    assert (first.given, first.likely) == (given[first.row], true[first.row])


def test_with_several_tags_a_wrong_one_and_a_missing_one_are_doubted() -> None:
    labels = np.array([[1, 0], [1, 0], [1, 1], [1, 1], [0, 1], [0, 1]], bool)
    sure = np.where(labels, 0.95, 0.02)
    sure[0, 0], sure[5, 0] = 0.01, 0.97
    found = examine.mislabelled(sure, labels, multilabel=True)
    assert [(doubt.row, doubt.given, doubt.likely) for doubt in found] == [(0, 0, None), (5, None, 0)]


def test_no_label_is_doubted_where_all_are_known() -> None:
    labels = np.eye(3, dtype=bool)[np.arange(9) % 3]
    assert examine.mislabelled(np.where(labels, 0.9, 0.05), labels, multilabel=False) == []


def test_tags_that_are_tiny_or_rare_are_told_thinnest_first() -> None:
    labels = np.zeros((400, 4), bool)
    for tag, count in enumerate((300, 20, 3, 0)):
        labels[:count, tag] = True
    assert [(one.tag, one.images, one.kind, one.most) for one in examine.thin_tags(labels)] == [
        (3, 0, "tiny", 300),
        (2, 3, "tiny", 300),
        (1, 20, "unbalanced", 300),
    ]


@pytest.mark.parametrize(
    ("boxes", "tags", "kind", "places"),
    [
        ([(0.1, 0.1, 0.2, 0.2)], [0], None, ()),
        ([(0.9, 0.1, 0.2, 0.2)], [0], "outside", (0,)),
        ([(0.1, 0.1, 0.0, 0.2)], [0], "outside", (0,)),
        ([(0.1, 0.1, 0.005, 0.005)], [0], "small", (0,)),
        ([(0.1, 0.1, 0.02, 0.5)], [0], "thin", (0,)),
        ([(0.0, 0.0, 1.0, 0.99)], [0], "large", (0,)),
        ([(0.1, 0.1, 0.2, 0.2), (0.1, 0.1, 0.2, 0.201)], [1, 1], "twice", (0, 1)),
        ([(0.1, 0.1, 0.2, 0.2), (0.1, 0.1, 0.2, 0.22)], [1, 0], "two tags", (0, 1)),
        ([(0.1, 0.1, 0.2, 0.2), (0.15, 0.1, 0.2, 0.2)], [1, 1], None, ()),
    ],
)
def test_boxes_that_can_hardly_be_meant(
    boxes: list[tuple[float, ...]], tags: list[int], kind: str | None, places: tuple[int, ...]
) -> None:
    found = examine.odd_boxes([(np.zeros((0, 4)), np.zeros(0, np.int64)), (np.array(boxes), np.array(tags))])
    assert [(one.row, one.kind, one.boxes) for one in found] == ([] if kind is None else [(1, kind, places)])
