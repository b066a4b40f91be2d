"""`$filter`: ``metadata=key1 eq 'value1' and key2 ne 'value2'`` as a condition on images.

``and`` binds tighter than ``or``; parentheses group; a quote inside a value is doubled. ``ne`` also holds for an
image without the key, as in OData, whose words these are.
"""

import re
from collections.abc import Iterator

from sqlalchemy import ColumnElement, and_, or_, select

from ownvision.errors import OwnVisionError
from ownvision.store.tables import Image, ImageMetadata

_TOKEN = re.compile(r"\s*(?:(?P<quoted>'(?:[^']|'')*')|(?P<paren>[()])|(?P<word>[^\s()']+))")


_MOST_TOKENS = 200


def condition(text: str, project_id: str) -> ColumnElement[bool]:
    """The condition a filter states.

    Raises:
        OwnVisionError: BadRequest, saying where the text can't be read.
    """
    body = text.strip()
    if body.lower().startswith("metadata="):
        body = body[len("metadata=") :]
    tokens = list(_tokens(body))
    if len(tokens) > _MOST_TOKENS:
        raise _unreadable(f"it is too long; {_MOST_TOKENS // 4} comparisons are the most")
    parsed, rest = _either(tokens, project_id)
    if rest:
        raise _unreadable(f"{rest[0]!r} was not expected there")
    return parsed


def _tokens(text: str) -> Iterator[str]:
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _unreadable(f"a quote is not closed: {text[position:]!r}")
        yield match.group().strip()
        position = match.end()


def _either(tokens: list[str], project_id: str) -> tuple[ColumnElement[bool], list[str]]:
    part, tokens = _both(tokens, project_id)
    parts = [part]
    while tokens and tokens[0].lower() == "or":
        part, tokens = _both(tokens[1:], project_id)
        parts.append(part)
    return or_(*parts), tokens


def _both(tokens: list[str], project_id: str) -> tuple[ColumnElement[bool], list[str]]:
    part, tokens = _term(tokens, project_id)
    parts = [part]
    while tokens and tokens[0].lower() == "and":
        part, tokens = _term(tokens[1:], project_id)
        parts.append(part)
    return and_(*parts), tokens


def _term(tokens: list[str], project_id: str) -> tuple[ColumnElement[bool], list[str]]:
    if tokens and tokens[0] == "(":
        parsed, rest = _either(tokens[1:], project_id)
        if not rest or rest[0] != ")":
            raise _unreadable("a parenthesis is not closed")
        return parsed, rest[1:]
    if len(tokens) < 3 or tokens[1].lower() not in ("eq", "ne") or tokens[2] in "()":
        raise _unreadable("each comparison is: key eq 'value' or key ne 'value'")
    key, operator, value = _unquoted(tokens[0]), tokens[1].lower(), _unquoted(tokens[2])
    having = select(ImageMetadata.image_seq).where(
        ImageMetadata.project_id == project_id, ImageMetadata.key == key, ImageMetadata.value == value
    )
    member = Image.seq.in_(having)
    return (member if operator == "eq" else ~member), tokens[3:]


def _unquoted(token: str) -> str:
    return token[1:-1].replace("''", "'") if token.startswith("'") else token


def _unreadable(why: str) -> OwnVisionError:
    return OwnVisionError(
        "BadRequest", f"$filter can't be read: {why}. Example: metadata=key1 eq 'value1' and key2 ne 'value2'."
    )
