"""What Advanced training tries for a classifier, and how it tells whether that is better.

Every candidate is cross-validated on quick training's own folds and pooled with the best so far, or takes its place,
whichever has the lower log loss out of fold (greedy ensemble selection: Caruana et al. 2004). It counts as better only
where neither log loss nor accuracy is worse, and one of them is better by more than a standard error of the paired
difference. Cheapest first: the frozen network looks at the pictures in other ways; then it is fine-tuned, deeper and
deeper, which needs torch.
"""

import importlib.util
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from ownvision.learning import blend, classify, device, evaluate, graph, pixels, tuned
from ownvision.learning.augment import Variation, variation
from ownvision.learning.backbones import BACKBONES
from ownvision.learning.classify import ClassifierFit
from ownvision.learning.curve import Point
from ownvision.learning.search import CARE, Candidate, NotFitting, Rules, Trial, search

if TYPE_CHECKING:
    from ownvision.learning.finetune import Recipe

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Check = Callable[[], None]

# How much the newest opinion weighs beside the best so far; 1: it takes its place. A fine-tuned network never stands
# alone: it is as sure of what is like nothing learned as of anything.
_MIXES = (1.0, 0.75, 0.5, 0.25)
_SLOPES = np.geomspace(0.25, 6.0, 25)
# Views beside the whole picture, as more rows to learn from: left, top, side of a window, relative.
_WINDOWS = ((0.0, 0.0, 0.8), (0.2, 0.2, 0.8), (0.1, 0.1, 0.8))
# Beyond, rows are many enough, and views cost minutes and gigabytes.
_MOST_FOR_VIEWS = 1_500
_LEAST_UNSEEN = 10
_BATCH = 8
# Decoded pictures are kept up to so many bytes; beyond they are read and decoded again each time.
_KEPT_BYTES = 400_000_000
# Pictures to vary are this much larger than the network's input, so that zooming in finds detail.
_LARGER = 1.2
_EPOCHS, _LEAST_STEPS, _MOST_STEPS = 25, 90, 1_500
# (folds that are measured, share of the steps), in the order of preference; the first plan may not take it all.
_PLANS = ((5, 1.0), (3, 1.0), (5, 0.5), (2, 1.0), (3, 0.5), (1, 1.0), (1, 0.5))
# Folds with fewer images than so many (or than all) tell nothing: ten that are all right look perfect.
_LEAST_MEASURED = 40
_SHARE_OF_REST = 0.6
_SIZES = (288, 384)
_NO_GAIN = 0.02  # log loss below which nothing is left to gain where every image is right
_LARGEST_TUNED = 288


@dataclass(frozen=True)
class Task:
    """What is to be learned.

    Attributes:
        reads: Give each image's encoded file; called as often as it is looked at.
        labels: bool [N, T].
        keys: The images' SHA-256.
        tag_ids: One per column.
        multilabel: Independent probabilities, or ones that sum to one.
        backbone: A name of `BACKBONES`.
        negative: Column of the Negative tag.
        others: Names of further backbones that may join.
        augmentation: The original's names of methods; None for all.
        base: The file of an earlier classifier to go on from.
        unseen: bool [N], which images that one has not learned from; None: all.
    """

    reads: Sequence[Callable[[], bytes]]
    labels: Bools
    keys: Sequence[bytes]
    tag_ids: Sequence[str]
    multilabel: bool
    backbone: str
    negative: int | None = None
    others: Sequence[str] = ()
    augmentation: Mapping[str, bool] = field(default_factory=dict)
    base: bytes | None = None
    unseen: Bools | None = None

    @property
    def kind(self) -> str:
        """What turns scores into probabilities."""
        return "sigmoid" if self.multilabel else "softmax"


@dataclass(frozen=True)
class Outcome:
    """What a search ended with.

    Attributes:
        model: The ONNX file.
        out_of_fold: float32 [N, T], probabilities by models that had not seen the image.
        measured: bool [N], of which images they are; of the others no model is there that had not seen them.
        trials: What was tried.
        based: Whether the model holds what the base iteration had learned.
    """

    model: bytes
    out_of_fold: Floats
    measured: Bools
    trials: list[Trial]
    based: bool = False


@dataclass(frozen=True)
class _Look:
    """How a frozen network looks at pictures."""

    backbone: str
    size: int
    mirrored: bool = False
    views: bool = False


@dataclass(frozen=True)
class _Member:
    """One classifier's file, and its out-of-fold logits [N, T] of the rows that were measured."""

    model: bytes
    logits: Floats
    rows: Bools


@dataclass(frozen=True)
class _Best:
    """A blend, its out-of-fold logits, and how its frozen networks look at pictures."""

    parts: tuple[tuple[bytes, float], ...]
    logits: Floats
    rows: Bools
    looks: tuple[_Look, ...]
    based: bool = False

    @property
    def side(self) -> int:
        return blend.input_side(self.parts[0][0])


@dataclass(frozen=True)
class _Tuning:
    """What of the network is trained (the first stage), and how; size 0: nearest to the best so far."""

    first: int
    how: Variation
    size: int = 0
    seed: int = 0


_Candidates = list[Candidate[_Best]]
_Change = Mapping[str, Any]  # of a `_Look`


def improve(
    task: Task,
    quick: ClassifierFit,
    *,
    seconds: float,
    families: Sequence[str] = ("base", "looks", "fine-tuning"),
    report: Callable[[float], None] = lambda _: None,
    watch: Callable[[Point], None] = lambda _: None,
) -> Outcome:
    """Search for a better classifier than quick training's.

    Args:
        task: What is to be learned.
        quick: Its quick training, on embeddings of its backbone at that one's own size.
        seconds: The budget.
        families: Of candidates, which may be tried.
        report: As `search.search`.
        watch: As `search.search`.

    Raises:
        pixels.BadImage: An image can't be decoded.
    """
    shop = _Workshop(task, quick)
    native = BACKBONES[task.backbone].input_size
    model = graph.classifier(task.backbone, quick.head, task.tag_ids)
    everything = np.ones(len(task.labels), bool)
    logits = blend.logits(quick.out_of_fold, task.kind)
    begin = _Best(((model, 1.0),), logits, everything, (_Look(task.backbone, native),))
    table = {"base": _of_base, "looks": _looks, "fine-tuning": _tunings}
    candidates = [one for family in families for one in table[family](shop)]
    rules = Rules[_Best](shop.score, shop.better, shop.perfect, shop.remark)
    best, trials = search(begin, candidates, rules, seconds=seconds, report=report, watch=watch)
    if "fine-tuning" in families and not _torch():
        trials.append(Trial("fine-tuning", None, 0.0, False, 'not tried: it needs the extra "train" (torch)'))
    if best is begin:
        return Outcome(model, quick.out_of_fold, everything, trials)
    made = blend.blend(best.parts, task.kind, task.tag_ids)
    return Outcome(made, blend.probabilities(best.logits, task.kind), best.rows, trials, best.based)


def _torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def _tunable(backbone: str) -> str | None:
    """Which network can be fine-tuned: of several that are joined the last; none of an ONNX file."""
    last = (BACKBONES[backbone].parts or (backbone,))[-1]
    return last if BACKBONES[last].kind == "efficientnet_lite" else None


def _of_base(shop: "_Workshop") -> _Candidates:
    what = "going on from the base iteration's network and answers"
    return [] if shop.task.base is None else [Candidate(what, "base", shop.time_of_base, shop.on_base)]


def _looks(shop: "_Workshop") -> _Candidates:
    """The frozen network's candidates, cheapest first; each starts from how the best so far looks at pictures."""
    changes: list[tuple[str, _Change]] = [
        ("the mean of the picture and its mirror image", {"mirrored": True}),
        ("three windows of each picture as further examples", {"views": True}),
        *((f"joined by {other}", {"backbone": other}) for other in shop.task.others),
    ]
    looks = [
        Candidate(what, "looks", partial(shop.time_of_change, change), partial(shop.looked, change))
        for what, change in changes
    ]
    sizes = [
        Candidate(f"input of {size} px", "looks", partial(shop.time_of_size, size), partial(shop.resized, size))
        for size in _SIZES
    ]
    return [sizes[0], *looks, *sizes[1:]]


def _tunings(shop: "_Workshop") -> _Candidates:
    """Fine-tuning's candidates: what is trained, how strongly pictures vary, another size, another seed."""
    if not _torch() or _tunable(shop.task.backbone) is None:
        return []
    # Beside a busy neighbour spinning threads made steps ten times slower. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    mild = replace(variation(shop.task.augmentation, final=True), flips=False, mosaic=0.0)
    strong = replace(variation(shop.task.augmentation, final=False), mosaic=0.0)
    table = [
        ("stages 6 and 7 trained, mild variation", _Tuning(5, mild)),
        ("stages 4 to 7 trained, mild variation", _Tuning(3, mild)),
        ("stages 2 to 7 trained, mild variation", _Tuning(1, mild)),
        ("stages 2 to 7 trained, strong variation", _Tuning(1, strong)),
        ("stages 2 to 7 trained, mild variation, another order", _Tuning(1, mild, seed=1)),
        (f"stages 2 to 7 trained at {_LARGEST_TUNED} px, mild variation", _Tuning(1, mild, size=_LARGEST_TUNED)),
    ]
    return [
        Candidate(what, "fine-tuning", partial(shop.time_of_tuning, tuning), partial(shop.tuned, tuning))
        for what, tuning in table
    ]


class _Workshop:
    """Makes candidates of a task, and compares them."""

    def __init__(self, task: Task, quick: ClassifierFit) -> None:
        self.task, self._folds = task, quick.folds
        self._pictures = _Pictures(task.reads)
        self._members: dict[_Look, _Member] = {}
        self._plan = (0, 0)

    def score(self, best: _Best) -> float:
        """Accuracy, or with several tags an image the mean average precision."""
        truth, said = self.task.labels[best.rows], best.logits[best.rows]
        if not self.task.multilabel:
            return float(truth[np.arange(len(truth)), said.argmax(1)].mean())
        return evaluate.classification(blend.probabilities(said, "sigmoid"), truth, 0.5).average_precision

    def perfect(self, best: _Best) -> bool:
        """Whether every image was measured and is right, and surely so."""
        losses, hits = self._judged(best.logits)
        return bool(best.rows.all() and hits.all() and losses.mean() < _NO_GAIN)

    def remark(self, best: _Best) -> str:
        """On how many images it was measured, if not on all."""
        return "" if best.rows.all() else f", on {best.rows.sum()} of {len(best.rows)} images"

    def better(self, old: _Best, new: _Best) -> bool:
        """Whether neither loss nor accuracy is worse, and one of them better by more than a standard error."""
        rows = old.rows & new.rows
        (old_loss, old_hits), (new_loss, new_hits) = self._judged(old.logits), self._judged(new.logits)
        gains = [(old_loss - new_loss)[rows], (new_hits - old_hits)[rows]]
        means = [float(gain.mean()) for gain in gains]
        errors = [float(gain.std(ddof=1)) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf for gain in gains]
        return min(means) >= 0 and any(mean > error for mean, error in zip(means, errors, strict=True))

    def _judged(self, logits: Floats) -> tuple[Floats, Floats]:
        """Each image's log loss and share of right answers, float32 [N]."""
        truth, p = self.task.labels, np.clip(blend.probabilities(logits, self.task.kind), blend.LEAST, 1 - blend.LEAST)
        if self.task.multilabel:
            return (
                -np.where(truth, np.log(p), np.log1p(-p)).mean(1).astype(np.float32),
                ((p >= 0.5) == truth).mean(1).astype(np.float32),
            )
        loss = -np.log(p[truth]) if (truth.sum(1) == 1).all() else -np.log((p * truth).sum(1))
        return loss.astype(np.float32), truth[np.arange(len(truth)), p.argmax(1)].astype(np.float32)

    def time_of_change(self, change: _Change, best: _Best, _: float) -> float:
        """Seconds that `looked` will take."""
        return self._time_of(replace(best.looks[0], **change))

    def time_of_size(self, side: int, best: _Best, _: float) -> float:
        """Seconds that `resized` will take."""
        return sum(self._time_of(replace(look, size=side)) for look in best.looks)

    def _time_of(self, look: _Look) -> float:
        """Seconds to look at every picture in a way, by one batch."""
        if look in self._members:
            return 0.0
        backbone = BACKBONES[look.backbone]
        if backbone.kind == "onnx" and (look.mirrored or look.size != backbone.input_size):
            raise NotFitting(f"{look.backbone} looks at pictures of {backbone.input_size} px, once.")
        if look.views and len(self.task.labels) > _MOST_FOR_VIEWS:
            raise NotFitting(f"with more than {_MOST_FOR_VIEWS:,} images there is variety enough.")
        count = min(_BATCH, len(self.task.labels))
        session = device.session(graph.embedder(look.backbone, look.size, mirrored=look.mirrored))
        begun = time.monotonic()
        self._embed(session, range(count), replace(look, views=False), None)
        views = 1 + len(_WINDOWS) * look.views
        return (time.monotonic() - begun) / count * len(self.task.labels) * views + 1.0

    def looked(self, change: _Change, best: _Best, check: Check) -> _Best:
        """The frozen network, looking in another way, joined to the best so far."""
        look = replace(best.looks[0], **change)
        if look in best.looks:
            raise NotFitting("the best so far does so already.")
        return self._joined(best, self._member(look, check), look)

    def resized(self, side: int, best: _Best, check: Check) -> _Best:
        """The frozen networks of the best so far at another input size."""
        if side == best.side:
            raise NotFitting("the best so far does so already.")
        first, *others = (replace(look, size=side) for look in best.looks)
        member = self._member(first, check)
        found = _Best(((member.model, 1.0),), member.logits, member.rows & best.rows, (first,))
        for look in others:
            found = self._joined(found, self._member(look, check), look)
        return found

    def time_of_base(self, best: _Best, _: float) -> float:
        """Seconds to look at every picture with the base's network."""
        unseen = self._unseen()
        if unseen.sum() < _LEAST_UNSEEN:
            raise NotFitting(
                f"the base iteration has learned from all but {int(unseen.sum())} of these images; whether it helps "
                f"can only be told on {_LEAST_UNSEEN} or more that it does not know."
            )
        return 2.0 * self._time_of(replace(best.looks[0], views=False))

    def on_base(self, best: _Best, check: Check) -> _Best:
        """A head on what the base's network sees and says, measured on images that the base does not know."""
        assert self.task.base is not None
        file = blend.known_features(self.task.base)
        side = blend.input_side(file)
        fit = self._fit(self._embed(device.session(file), range(len(self.task.labels)), _Look("", side), check), ())
        model = blend.with_head(file, fit.head, self.task.tag_ids, tuned=True)
        member = _Member(model, blend.logits(fit.out_of_fold, self.task.kind), self._unseen())
        return replace(self._joined(self._partner(best, side, check), member, None), based=True)

    def time_of_tuning(self, tuning: _Tuning, best: _Best, left: float) -> float:
        """Seconds that folds and final training will take, by three steps; settles how many of each there will be."""
        from ownvision.learning import finetune

        recipe = self._recipe(best, tuning)
        pace = finetune.pace(self._pick(recipe.size), self.task.labels, recipe, multilabel=self.task.multilabel)
        steps = int(np.clip(_EPOCHS * len(self.task.labels) / finetune.BATCH, _LEAST_STEPS, _MOST_STEPS))
        partner = 0.0 if best.side == recipe.size else self.time_of_size(recipe.size, best, left)
        folds = len(np.unique(self._folds))
        enough = min(_LEAST_MEASURED, len(self._folds))
        plans = [one for one in _PLANS if (self._folds < one[0]).sum() >= enough]
        for number, (measured, share) in enumerate(plans):
            self._plan = (min(measured, folds), max(round(steps * share), _LEAST_STEPS // 2))
            needed = (self._plan[0] + 1) * self._plan[1] * pace + partner
            if needed * CARE <= left * (1.0 if number else _SHARE_OF_REST):
                break
        return needed

    def tuned(self, tuning: _Tuning, best: _Best, check: Check) -> _Best:
        """A fine-tuned network, joined to the best so far; measured on as many folds as the plan allows."""
        recipe, (folds, steps) = self._recipe(best, tuning), self._plan
        logits = np.zeros(self.task.labels.shape, np.float32)
        rows = np.zeros(len(logits), bool)
        for fold in range(folds):
            held = self._folds == fold
            model = self._tuned(recipe, np.flatnonzero(~held), steps, check)
            said = self._run(device.session(model), np.flatnonzero(held), recipe.size, check)
            logits[held], rows[held] = blend.logits(said, self.task.kind), True
        model = self._tuned(recipe, np.arange(len(rows)), steps, check)
        return self._joined(self._partner(best, recipe.size, check), _Member(model, logits, rows), None, _MIXES[1:])

    def _tuned(self, recipe: "Recipe", rows: NDArray[np.int64], steps: int, check: Check) -> bytes:
        from ownvision.learning import finetune

        pick = self._pick(recipe.size)
        net, head = finetune.tune(
            lambda index: pick(int(rows[index])),
            self.task.labels[rows],
            recipe,
            multilabel=self.task.multilabel,
            steps=steps,
            stop=check,
        )
        return tuned.classifier(recipe.backbone, net, recipe.size, head, self.task.tag_ids)

    def _recipe(self, best: _Best, tuning: _Tuning) -> "Recipe":
        from ownvision.learning.finetune import Recipe

        nearest = min(round(best.side / tuned.STEP) * tuned.STEP, _LARGEST_TUNED)
        backbone = _tunable(self.task.backbone)
        assert backbone is not None
        return Recipe(backbone, tuning.size or nearest, tuning.first, tuning.how, tuning.seed)

    def _partner(self, best: _Best, side: int, check: Check) -> _Best:
        """What a candidate of this size is pooled with: the best so far, else its frozen networks at that size."""
        return best if best.side == side else self.resized(side, best, check)

    def _member(self, look: _Look, check: Check) -> _Member:
        if look not in self._members:
            session = device.session(graph.embedder(look.backbone, look.size, mirrored=look.mirrored))
            vectors = self._embed(session, range(len(self.task.labels)), look, check)
            fit = self._fit(vectors, BACKBONES[look.backbone].blocks)
            model = graph.classifier(look.backbone, fit.head, self.task.tag_ids, look.size, mirrored=look.mirrored)
            count = len(self.task.labels)
            logits = blend.logits(fit.out_of_fold[:count], self.task.kind)
            self._members[look] = _Member(model, logits, np.ones(count, bool))
        return self._members[look]

    def _fit(self, vectors: NDArray[np.float16], blocks: Sequence[int]) -> ClassifierFit:
        views = len(vectors) // len(self.task.labels)
        labels, keys = np.tile(self.task.labels, (views, 1)), [*self.task.keys] * views
        return classify.fit(
            vectors, labels, multilabel=self.task.multilabel, keys=keys, blocks=blocks, negative=self.task.negative
        )

    def _embed(
        self, session: onnxruntime.InferenceSession, rows: Sequence[int], look: _Look, check: Check | None
    ) -> NDArray[np.float16]:
        """Embeddings of the pictures, then of each window on them."""
        parts = []
        for window in (None, *_WINDOWS) if look.views else (None,):
            for at in range(0, len(rows), _BATCH):
                if check is not None:
                    check()
                shown = [_cut(self._pictures.at(row, look.size), window) for row in rows[at : at + _BATCH]]
                parts.append(session.run(None, {"image": _planes(shown)})[0].astype(np.float16))
        return np.concatenate(parts)

    def _run(self, session: onnxruntime.InferenceSession, rows: NDArray[np.int64], side: int, check: Check) -> Floats:
        parts = []
        for at in range(0, len(rows), _BATCH):
            check()
            shown = [self._pictures.at(int(row), side) for row in rows[at : at + _BATCH]]
            parts.append(session.run(None, {"image": _planes(shown)})[0])
        return np.concatenate(parts)

    def _pick(self, size: int) -> Callable[[int], NDArray[np.uint8]]:
        return lambda index: self._pictures.at(index, round(size * _LARGER))

    def _unseen(self) -> Bools:
        return np.ones(len(self.task.labels), bool) if self.task.unseen is None else self.task.unseen

    def _joined(self, best: _Best, member: _Member, look: _Look | None, allowed: Sequence[float] = _MIXES) -> _Best:
        """The mix of both that has the lowest cross-fitted loss; or the member alone, where that is allowed."""
        rows = best.rows & member.rows
        mixes = allowed if blend.input_side(member.model) == best.side else (1.0,)
        found = [self._calibrated((1 - mix) * best.logits + mix * member.logits, rows) for mix in mixes]
        chosen = int(np.argmin([self._judged(logits)[0][rows].mean() for logits, _ in found]))
        mix, (logits, slope) = mixes[chosen], found[chosen]
        old = tuple((model, weight * slope * (1 - mix)) for model, weight in best.parts) if mix < 1 else ()
        looks = (*(best.looks if mix < 1 or look is None else ()), *(() if look is None else (look,)))
        return _Best((*old, (member.model, slope * mix)), logits, rows, looks, based=bool(old) and best.based)

    def _calibrated(self, logits: Floats, rows: Bools) -> tuple[Floats, float]:
        """Logits scaled for the least loss, each fold by the others' scale, and the scale of all."""
        folds = self._folds if len(np.unique(self._folds[rows])) > 1 else np.arange(len(rows)) % 2
        losses = np.stack([self._judged((logits * slope).astype(np.float32))[0] for slope in _SLOPES])
        scaled = logits.copy()
        for fold in np.unique(folds[rows]):
            others, mine = rows & (folds != fold), rows & (folds == fold)
            scaled[mine] *= _SLOPES[losses[:, others].mean(1).argmin()] if others.any() else 1.0
        return scaled, float(_SLOPES[losses[:, rows].mean(1).argmin()])


class _Pictures:
    """Decoded pictures, kept as long as there is room."""

    def __init__(self, reads: Sequence[Callable[[], bytes]]) -> None:
        self._reads = reads
        self._kept: dict[tuple[int, int], NDArray[np.uint8]] = {}
        self._room = _KEPT_BYTES

    def at(self, index: int, side: int) -> NDArray[np.uint8]:
        """A picture as uint8 [side, side, 3], as it is served."""
        kept = self._kept.get((index, side))
        if kept is not None:
            return kept
        shown = pixels.load(self._reads[index](), side, side)
        if self._room >= shown.nbytes:
            self._room -= shown.nbytes
            self._kept[index, side] = shown
        return shown


def _cut(picture: NDArray[np.uint8], window: tuple[float, float, float] | None) -> NDArray[np.uint8]:
    if window is None:
        return picture
    side = len(picture)
    left, top, part = (share * side for share in window)
    box = (left, top, left + part, top + part)
    cut = Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR, box=box)
    return np.asarray(cut)


def _planes(shown: Sequence[NDArray[np.uint8]]) -> Floats:
    return np.ascontiguousarray(np.stack(shown).transpose(0, 3, 1, 2), dtype=np.float32)
