"""The course of a training, as whoever watches it is told."""

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
