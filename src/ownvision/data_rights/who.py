"""Who did something, by an id that says nothing of the person."""

from dataclasses import dataclass

OPERATOR, RULE = "operator", "rule"
LINK = "link"  # whoever had a signed address: it needs no key, so it names nobody


@dataclass(frozen=True)
class Who:
    """An actor in an account.

    Attributes:
        account_id: In which account.
        actor: A key's id; `OPERATOR` for the command line; `RULE` for retention; `LINK` for a signed address.
        request_id: Of the request, None where there is none.
    """

    account_id: str
    actor: str
    request_id: str | None = None

    @property
    def key_id(self) -> str | None:
        """The key's id; None where it was no key."""
        return None if self.actor in (OPERATOR, RULE, LINK) else self.actor
