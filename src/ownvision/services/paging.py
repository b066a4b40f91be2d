"""Paging through what goes on growing: a session sees what was there when it began, a continuation goes on in it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, UnaryExpression, and_, or_
from sqlalchemy.orm import InstrumentedAttribute

from ownvision.errors import OwnVisionError
from ownvision.store.tables.base import now

Position = tuple[Any, Any]
_EPOCH = datetime.fromtimestamp(0, UTC)
_DIGITS = 17  # of microseconds until the year 5138, and of a row's number


@dataclass(frozen=True)
class Order:
    """An order of rows: by a column, and where that is the same by one that never is.

    Attributes:
        column: What it is by.
        tie: A column of different values.
        ascending: Whether small values come first.
        read: Reads a column's value from a continuation; raises ValueError.
        read_tie: The same for the tie's.
    """

    column: InstrumentedAttribute[Any]
    tie: InstrumentedAttribute[Any]
    ascending: bool
    read: Callable[[str], Any]
    read_tie: Callable[[str], Any] = str

    def by(self) -> list[UnaryExpression[Any]]:
        """What to sort by."""
        return [column.asc() if self.ascending else column.desc() for column in (self.column, self.tie)]

    def beyond(self, after: Position | None) -> list[ColumnElement[bool]]:
        """What holds of the rows behind a position."""
        if after is None:
            return []
        value, tie = after
        same = self.column == value
        if self.ascending:
            return [or_(self.column > value, and_(same, self.tie > tie))]
        return [or_(self.column < value, and_(same, self.tie < tie))]

    def at(self, row: Any) -> Position:
        """A row's position."""
        return getattr(row, self.column.key), getattr(row, self.tie.key)

    def position(self, continuation: str | None) -> Position | None:
        """Where a continuation goes on.

        Raises:
            OwnVisionError: BadRequestPredictionInvalidQueryParameters.
        """
        if not continuation:
            return None
        value, _, tie = continuation.partition("/")
        try:
            return self.read(value), self.read_tie(tie)
        except ValueError:
            raise _unreadable("continuation") from None


def continuation(after: Position | None) -> str | None:
    """A position as a token has it."""
    return None if after is None else f"{after[0]}/{after[1]}"


def begun(session: str | None, kind: int) -> datetime:
    """When a session of this kind began; it begins now where there is none.

    Raises:
        OwnVisionError: BadRequestPredictionInvalidQueryParameters.
    """
    if not session:
        return now()
    given, _, microseconds = session.partition(":")
    if given != str(kind) or not microseconds.isdecimal() or len(microseconds) > _DIGITS:
        raise _unreadable("session")
    return _EPOCH + timedelta(microseconds=int(microseconds))


def session_name(begun: datetime, kind: int) -> str:
    """A session as a token has it: its kind, and when it began in microseconds."""
    return f"{kind}:{(begun - _EPOCH) // timedelta(microseconds=1)}"


def moment(text: str) -> datetime:
    """Read a moment.

    Raises:
        ValueError: It is none.
    """
    read = datetime.fromisoformat(text)
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def number(text: str) -> float:
    """Read a finite number.

    Raises:
        ValueError: It is none.
    """
    read = float(text)
    if not math.isfinite(read):
        raise ValueError(text)
    return read


def count(text: str) -> int:
    """Read a row's number.

    Raises:
        ValueError: It is none, or larger than any.
    """
    if len(text) > _DIGITS:
        raise ValueError(text)
    return int(text)


def _unreadable(field: str) -> OwnVisionError:
    return OwnVisionError(
        "BadRequestPredictionInvalidQueryParameters",
        f"{field} is not one that this service gave; leave it out to begin anew.",
    )
