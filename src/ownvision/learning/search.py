"""The search that Advanced training is: one candidate after the other, cheapest first, until nothing improves.

Quick training's model is where it begins, and what it ends with unless a candidate is better, on images that neither
has seen, by more than chance. How much time a candidate would take is measured before it starts, and none is started
that does not fit in what is left. This is the one place of learning where a clock decides.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, TypeVar

from ownvision.learning.curve import Point

T = TypeVar("T")
# A family of candidates is left when so many of it, one after the other, were no better.
PATIENCE = 3
# What a candidate is expected to take is a guess: it must fit this much larger.
CARE = 1.15


class OutOfTime(Exception):
    """The budget ended while a candidate was being tried."""


class NotFitting(Exception):
    """A candidate can't be tried on this data; the message says why."""


@dataclass(frozen=True)
class Trial:
    """What was tried, as it is reported.

    Attributes:
        what: In words.
        score: On images held out, 0 to 1; None: it was not measured.
        seconds: That it took.
        chosen: Whether its result is what the search returned.
        note: Why it was not tried, or what became of it.
    """

    what: str
    score: float | None
    seconds: float
    chosen: bool
    note: str

    def shape(self) -> dict[str, Any]:
        """As it is kept and shown."""
        shown = asdict(self)
        return {
            **shown,
            "seconds": round(self.seconds, 1),
            "score": None if self.score is None else round(self.score, 4),
        }


@dataclass(frozen=True)
class Candidate(Generic[T]):
    """One thing to try.

    Attributes:
        what: In words.
        family: What it is one of; patience is a family's.
        expected: Given the best so far and the seconds that are left, how many it will take; may measure a little.
        run: Given the best so far and a check to call often (it raises `OutOfTime`), what came of it.
    """

    what: str
    family: str
    expected: Callable[[T, float], float]
    run: Callable[[T, Callable[[], None]], T]


@dataclass(frozen=True)
class Rules(Generic[T]):
    """How two results compare.

    Attributes:
        score: Of one, 0 to 1.
        better: Whether the second is better than the first by more than chance.
        perfect: Whether there is nothing left to gain.
        remark: What else to say of one.
    """

    score: Callable[[T], float]
    better: Callable[[T, T], bool]
    perfect: Callable[[T], bool]
    remark: Callable[[T], str] = lambda _: ""


def search(
    quick: T,
    candidates: Sequence[Candidate[T]],
    rules: Rules[T],
    *,
    seconds: float,
    report: Callable[[float], None] = lambda _: None,
    watch: Callable[[Point], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[T, list[Trial]]:
    """Try candidates in their order.

    Args:
        quick: Quick training's result.
        candidates: What to try, cheapest first.
        rules: How results compare.
        seconds: The budget, from now.
        report: Told, often, the share of the budget spent; may raise to end it all.
        watch: Told the score of each trial; its number is the step.
        clock: In seconds.

    Returns:
        The best, and what was tried, the first of it quick training.
    """
    begun = clock()
    best, trials = quick, [Trial("quick training", rules.score(quick), 0.0, False, "where the search begins")]
    chosen = 0
    failed: dict[str, int] = {}

    def check() -> None:
        spent = clock() - begun
        report(min(spent / seconds, 1.0) if seconds > 0 else 1.0)
        if spent > seconds:
            raise OutOfTime

    for candidate in candidates:
        if rules.perfect(best):
            trials.append(Trial("the rest", None, 0.0, False, "not tried: nothing is left to gain"))
            break
        if failed.get(candidate.family, 0) >= PATIENCE:
            continue
        started = clock()
        try:
            check()
            expected = candidate.expected(best, seconds - (clock() - begun))
            if clock() - begun + expected * CARE > seconds:
                note = f"not tried: needs about {expected:.0f} s, more than is left of the budget"
                trials.append(Trial(candidate.what, None, clock() - started, False, note))
                continue
            found = candidate.run(best, check)
        except OutOfTime:
            trials.append(Trial(candidate.what, None, clock() - started, False, "not finished: the budget ended"))
            break
        except NotFitting as reason:
            trials.append(Trial(candidate.what, None, clock() - started, False, f"not tried: {reason}"))
            continue
        better = rules.better(best, found)
        failed[candidate.family] = 0 if better else failed.get(candidate.family, 0) + 1
        watch(Point(len(trials), len(candidates), None, rules.score(found)))
        note = f"{'' if better else 'not '}better by more than chance{rules.remark(found)}"
        trials.append(Trial(candidate.what, rules.score(found), clock() - started, False, note))
        best, chosen = (found, len(trials) - 1) if better else (best, chosen)
    for family in sorted(family for family, count in failed.items() if count >= PATIENCE):
        trials.append(Trial(f"more of {family}", None, 0.0, False, f"not tried: {PATIENCE} in a row were no better"))
    trials[chosen] = replace(trials[chosen], chosen=True)
    return best, trials
