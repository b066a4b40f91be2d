"""The course of a training, as whoever watches it is told."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """One look at a training under way.

    Attributes:
        step: How many steps are done.
        steps: How many there are to be.
        loss: Mean of the training loss since the last look; None where there is none.
        hold_out: Of images held out, 0 to 1: mAP@50 of a detector, accuracy of a classifier; None where it was not
            measured at this look.
    """

    step: int
    steps: int
    loss: float | None
    hold_out: float | None


MOST = 200


def thinned(points: Sequence[Point], most: int = MOST) -> list[Point]:
    """At most so many points of a curve: every other one goes when they are too many, but for those with a hold-out.

    Args:
        points: The oldest first.
        most: Greater than the number of looks at a hold-out, else the oldest of these go, too.
    """
    kept = list(points)
    while len(kept) > most:
        fewer = [one for place, one in enumerate(kept) if place % 2 == 0 or one.hold_out is not None]
        kept = fewer if len(fewer) < len(kept) else kept[-most:]
    return kept
