"""What reading a data set found beside its pictures: its tags, and what had to be left out."""

from dataclasses import dataclass, field

_PLACES = 3


@dataclass
class Report:
    """Filled by a reader while its pictures are read.

    Attributes:
        tags: Names the data set declares, in its order, those that no picture carries too.
        detection: Whether the data set is one of boxes, even if it holds none.
        remarks: What was left out or changed: how often, and where first.
    """

    tags: dict[str, None] = field(default_factory=dict)
    detection: bool = False
    remarks: dict[str, tuple[int, list[str]]] = field(default_factory=dict)

    def remark(self, what: str, where: str, count: int = 1) -> None:
        """Count something that was left out or changed; `what` stands behind "3 × "."""
        number, places = self.remarks.get(what, (0, []))
        self.remarks[what] = (number + count, places if len(places) >= _PLACES else [*places, where])

    def sentences(self) -> list[str]:
        """The remarks, for a person."""
        return [f"{number} × {what} ({', '.join(places)}{', …' if number > len(places) else ''})"
                for what, (number, places) in self.remarks.items()]  # fmt: skip
