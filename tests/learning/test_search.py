"""The search with candidates that cost nothing, on a clock of its own."""

from collections.abc import Callable, Sequence

import pytest

from ownvision.learning.curve import Point
from ownvision.learning.search import PATIENCE, Candidate, NotFitting, Rules, Trial, search


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def rules(perfect: float = 1.0) -> Rules[float]:
    return Rules(score=lambda one: one, better=lambda old, new: new > old + 0.01, perfect=lambda one: one >= perfect)


def candidate(clock: Clock, what: str, result: float, seconds: float = 1.0, family: str = "a") -> Candidate[float]:
    def run(_: float, check: Callable[[], None]) -> float:
        for _step in range(10):
            clock.now += seconds / 10
            check()
        return result

    return Candidate(what, family, lambda _best, _left: seconds, run)


def chosen(trials: Sequence[Trial]) -> list[str]:
    return [trial.what for trial in trials if trial.chosen]


@pytest.mark.parametrize(
    ("results", "best", "name"),
    [([], 0.5, "quick training"), ([0.4, 0.505], 0.5, "quick training"), ([0.6, 0.9, 0.7], 0.9, "1")],
    ids=["no candidates", "none better by more than chance", "the best"],
)
def test_the_best_is_returned_and_quick_trainings_where_none_is_better(
    results: list[float], best: float, name: str
) -> None:
    clock = Clock()
    tried = [candidate(clock, str(number), result) for number, result in enumerate(results)]
    points: list[Point] = []
    found, trials = search(0.5, tried, rules(), seconds=100, clock=clock, watch=points.append)
    assert (found, chosen(trials)) == (best, [name])
    assert [(point.step, point.hold_out) for point in points] == list(enumerate(results, 1))
    assert [trial.score for trial in trials] == [0.5, *results]
    assert [round(trial.seconds, 6) for trial in trials[1:]] == [1.0] * len(results)


def test_a_family_that_does_not_improve_is_left_and_others_are_tried() -> None:
    clock = Clock()
    tried = [candidate(clock, f"a{number}", 0.4) for number in range(PATIENCE + 2)]
    found, trials = search(0.5, [*tried, candidate(clock, "b", 0.7, family="b")], rules(), seconds=100, clock=clock)
    assert found == 0.7
    assert [trial.what for trial in trials] == ["quick training", "a0", "a1", "a2", "b", "more of a"]


def test_what_does_not_fit_in_the_rest_of_the_budget_is_not_started() -> None:
    clock = Clock()
    tried = [candidate(clock, "long", 0.9, seconds=50), candidate(clock, "short", 0.8, seconds=5)]
    found, trials = search(0.5, tried, rules(), seconds=20, clock=clock)
    assert (found, chosen(trials)) == (0.8, ["short"])
    assert (trials[1].score, trials[1].note) == (None, "not tried: needs about 50 s, more than is left of the budget")
    assert clock.now - 100 <= 20


def test_a_candidate_that_takes_longer_than_it_said_is_stopped_when_the_budget_ends() -> None:
    clock = Clock()
    slow = candidate(clock, "slow", 0.9, seconds=100)
    liar = Candidate("slow", "a", lambda _best, _left: 1.0, slow.run)
    found, trials = search(0.5, [liar, candidate(clock, "next", 0.8)], rules(), seconds=20, clock=clock)
    assert (found, [trial.what for trial in trials]) == (0.5, ["quick training", "slow"])
    assert trials[1].note == "not finished: the budget ended"
    assert clock.now - 100 <= 30  # a tenth of the candidate lies between two looks


def test_nothing_is_tried_once_nothing_is_left_to_gain() -> None:
    clock = Clock()
    tried = [candidate(clock, "good", 1.0), candidate(clock, "late", 1.1)]
    found, trials = search(0.5, tried, rules(), seconds=100, clock=clock)
    assert (found, trials[-1].what, trials[-1].score) == (1.0, "the rest", None)


def test_what_cannot_be_tried_says_why_and_whoever_listens_may_end_it_all() -> None:
    clock = Clock()

    def refuse(*_: object) -> float:
        raise NotFitting("there are too many.")

    told: list[float] = []

    def report(share: float) -> None:
        told.append(share)
        if share > 0.4:
            raise KeyboardInterrupt

    tried = [Candidate("views", "a", refuse, refuse), candidate(clock, "long", 0.9, seconds=10)]
    _, trials = search(0.5, tried[:1], rules(), seconds=20, clock=clock)
    assert trials[1].note == "not tried: there are too many."
    with pytest.raises(KeyboardInterrupt):
        search(0.5, tried, rules(), seconds=20, clock=clock, report=report)
    assert told == sorted(told)
    assert max(told) < 0.5
