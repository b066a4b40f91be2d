"""Searches of a few images and seconds: what is served is what was measured."""

import hashlib
import io
import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ownvision import inference
from ownvision.learning import classify, search_classifier, tuned
from ownvision.learning.augment import variation
from ownvision.learning.backbones import BACKBONES
from ownvision.learning.backbones.efficientnet_lite import network
from ownvision.learning.classify import ClassifierFit
from ownvision.learning.search_classifier import Outcome, Task

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
pytestmark = pytest.mark.slow

BACKBONE = "efficientnet_lite0"
TAGS = ["plain", "striped"]
STEPS = 6


def picture(tag: int, seed: int) -> bytes:
    """Noise, with faint stripes or without."""
    pixels = np.random.default_rng(100 * tag + seed).integers(60, 200, (48, 48, 3))
    pixels[:, ::6] += 40 * tag
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


FILES = [picture(tag, seed) for seed in range(6) for tag in range(2)]
LABELS = np.eye(2, dtype=bool)[np.arange(12) % 2]


@pytest.fixture(scope="module")
def quick() -> ClassifierFit:
    vectors = classify.embed(FILES, BACKBONE).astype(np.float16)
    keys = [hashlib.sha256(data).digest() for data in FILES]
    return classify.fit(vectors, LABELS, multilabel=False, keys=keys, blocks=BACKBONES[BACKBONE].blocks)


def task(**changes: Any) -> Task:
    keys = [hashlib.sha256(data).digest() for data in FILES]
    reads = [lambda data=data: data for data in FILES]  # type: ignore[misc]
    return Task(reads, LABELS, keys, TAGS, False, BACKBONE, **changes)


def noted(found: Outcome) -> dict[str, str]:
    return {trial.what: trial.note for trial in found.trials}


def test_without_candidates_or_time_quick_trainings_model_is_returned(quick: ClassifierFit) -> None:
    for families, seconds in (((), 100.0), (("looks",), 0.0)):
        found = search_classifier.improve(task(), quick, seconds=seconds, families=families)
        assert inference.load(found.model).predict(FILES[0]) is not None
        np.testing.assert_array_equal(found.out_of_fold, quick.out_of_fold)
        assert found.measured.all()
        assert not found.based
        assert [trial.what for trial in found.trials if trial.chosen] == ["quick training"]


def test_a_worse_start_is_improved_upon_by_ways_to_look(quick: ClassifierFit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_classifier, "_SIZES", (64,))
    clueless = replace(quick, out_of_fold=np.full_like(quick.out_of_fold, 0.5))
    found = search_classifier.improve(task(), clueless, seconds=60.0, families=("looks",))
    assert [trial.what for trial in found.trials if trial.chosen] != ["quick training"]
    assert found.measured.all()
    right = (found.out_of_fold.argmax(1) == LABELS.argmax(1)).mean()
    assert right >= 0.75
    loaded = inference.load(found.model)
    said = [loaded.predict(data).probabilities for data in FILES]  # type: ignore[union-attr]
    np.testing.assert_allclose(np.sum(said, 1), 1, atol=1e-4)
    assert (np.argmax(said, 1) == LABELS.argmax(1)).mean() >= right


def test_a_base_is_gone_on_from_where_images_it_does_not_know_say_so(quick: ClassifierFit) -> None:
    clueless = replace(quick, out_of_fold=np.full_like(quick.out_of_fold, 0.5))
    base = search_classifier.improve(task(), quick, seconds=0.0, families=()).model
    unseen = np.arange(12) >= 2
    found = search_classifier.improve(task(base=base, unseen=unseen), clueless, seconds=60.0, families=("base",))
    assert found.based
    np.testing.assert_array_equal(found.measured, unseen)  # the rest would flatter
    few = np.arange(12) >= 10
    found = search_classifier.improve(task(base=base, unseen=few), clueless, seconds=60.0, families=("base",))
    assert not found.based
    assert "all but 2" in noted(found)["going on from the base iteration's network and answers"]


def test_without_torch_a_search_says_what_it_could_not_try(
    quick: ClassifierFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_classifier, "_torch", lambda: False)
    found = search_classifier.improve(task(), quick, seconds=60.0, families=("fine-tuning",))
    assert noted(found)["fine-tuning"] == 'not tried: it needs the extra "train" (torch)'


@pytest.mark.parametrize("multilabel", [False, True])
def test_fine_tuning_changes_what_it_may_and_gives_the_same_numbers_again(multilabel: bool) -> None:
    pytest.importorskip("torch")
    from ownvision.learning import finetune

    how = replace(variation({}, final=True), mosaic=0.0)
    recipe = finetune.Recipe(BACKBONE, 64, 5, how)
    pixels = [np.asarray(Image.open(io.BytesIO(data)).resize((72, 72))) for data in FILES]
    labels = LABELS | LABELS[::-1] if multilabel else LABELS
    runs = [finetune.tune(pixels.__getitem__, labels, recipe, multilabel=multilabel, steps=STEPS) for _ in range(2)]
    files = [tuned.classifier(BACKBONE, net, 64, head, TAGS) for net, head in runs]
    assert files[0] == files[1]
    packaged, changed = network(BACKBONE), runs[0][0]
    for old, new in zip(packaged.blocks, changed.blocks, strict=True):
        same = all(
            np.array_equal(one.weight, two.weight) for one, two in zip(old.convolutions, new.convolutions, strict=True)
        )
        assert same == (old.stage < recipe.first)
    loaded = inference.load(files[0])
    said = np.array([loaded.predict(data).probabilities for data in FILES])  # type: ignore[union-attr]
    assert said.shape == (12, 2)
    if not multilabel:
        assert (said.argmax(1) == LABELS.argmax(1)).mean() >= 0.75


def test_a_fine_tuned_network_joins_the_search(quick: ClassifierFit, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    clueless = replace(quick, out_of_fold=np.full_like(quick.out_of_fold, 0.5))
    monkeypatch.setattr(search_classifier, "_LEAST_STEPS", 4)
    monkeypatch.setattr(search_classifier, "_EPOCHS", 2)
    monkeypatch.setattr(search_classifier, "_LARGEST_TUNED", 64)
    monkeypatch.setattr(search_classifier, "_PLANS", ((2, 1.0),))
    monkeypatch.setattr(search_classifier, "_LEAST_MEASURED", 1)
    found = search_classifier.improve(task(), clueless, seconds=12.0, families=("fine-tuning",))
    first = found.trials[1]
    assert first.what == "stages 6 and 7 trained, mild variation"
    assert first.score is not None
    assert first.note.endswith("of 12 images")
    assert found.measured.sum() in (12, np.isin(quick.folds, (0, 1)).sum())  # all, or the folds that were measured
