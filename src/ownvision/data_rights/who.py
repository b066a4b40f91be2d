"""Who did something, by an id that says nothing of the person."""

from dataclasses import dataclass

OPERATOR, RULE = "operator", "rule"


@dataclass(frozen=True)
class Who:
    """An actor in an account.

    Attributes:
        account_id: In which account.
        actor: A key's id; `OPERATOR` for the command line; `RULE` for retention.
        request_id: Of the request, None where there is none.
    """

    account_id: str
    actor: str
    request_id: str | None = None

    @property
    def key_id(self) -> str | None:
        """The key's id; None where it was no key."""
        return None if self.actor in (OPERATOR, RULE) else self.actor
