"""How values look on the wire: compact JSON, .NET's single-precision floats, the original's two forms of dates."""

import json
import struct
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache
from typing import Any

_quoted = json.encoder.encode_basestring  # the C function: text stays UTF-8, as the original sends it
_single = struct.Struct("<f")
_LARGEST = (2 - 2**-23) * 2.0**127  # float32


def single(value: float) -> str:
    """A float as .NET prints a `Single`: seven digits where they are enough, else nine; never without a point.

    Examples: ``1.0``, ``0.9999961``, ``8.79471951E-13``.

    Raises:
        ValueError: It is not finite, or too large for a single; JSON has no way to write it.
    """
    if not abs(value) <= _LARGEST:
        raise ValueError(f"{value} can't be written as a single")
    rounded: float = _single.unpack(_single.pack(value))[0]
    text = f"{rounded:.7g}"
    if _single.unpack(_single.pack(float(text)))[0] != rounded:
        text = f"{rounded:.9g}"
    text = text.upper()
    return text if "." in text or "E" in text else text + ".0"


def seconds(moment: datetime) -> str:
    """Dates of projects, iterations and predictions: three digits and Z."""
    return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def ticks(moment: datetime) -> str:
    """Dates of v3.0 predictions: seven digits and Z."""
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}0Z"


def trimmed(moment: datetime) -> str:
    """Dates of images, their tags and regions: up to seven digits, trailing zeros cut, no Z."""
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds").rstrip("0").rstrip(".")


def dumps(value: Any, *, pascal: bool = False) -> bytes:
    """A value as compact JSON.

    Args:
        value: Of dicts, lists, texts, numbers, booleans and None; every float is a single but a `Double`.
        pascal: Whether names begin with a capital, as in v1.x.
    """
    return "".join(_pieces(value, _capital if pascal else _quoted)).encode()


class Double(float):
    """A number that is written with double precision."""


@cache
def _capital(name: str) -> str:
    return _quoted(name[:1].upper() + name[1:])


def _pieces(value: Any, named: Callable[[str], str]) -> Iterator[str]:
    if isinstance(value, str):
        yield _quoted(value)
    elif isinstance(value, Double):
        yield float.__repr__(value)
    elif isinstance(value, float):
        yield single(value)
    elif isinstance(value, dict):
        yield "{"
        comma = ""
        for key, item in value.items():
            yield f"{comma}{named(key)}:"
            yield from _pieces(item, named)
            comma = ","
        yield "}"
    elif isinstance(value, list | tuple):
        yield "["
        for index, item in enumerate(value):
            if index:
                yield ","
            yield from _pieces(item, named)
        yield "]"
    else:
        yield json.dumps(value)


def loads(text: bytes) -> Any:
    """A JSON text's value.

    Raises:
        ValueError: It is no JSON, or holds half a character, which no database stores.
        RecursionError: It is nested too deep.
    """
    value = json.loads(text)
    if b"\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value
