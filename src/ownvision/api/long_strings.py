"""JSON with very long strings: they are taken out as the body streams, so that the rest can be parsed like any other.

``images/files`` carries pictures as base64; 64 × 6 MB are 512 MB of JSON. `LongStrings` scans the bytes for the quotes
of strings. A string above `SHORT` goes to a sink as soon as it ends and leaves a short marker in its place; one above
the cap is dropped while it streams. What remains is small. Markers are random: no text can be written to look like one.
"""

import json
import secrets
from collections.abc import Callable

SHORT = 16 * 1024
_DIGITS = 9  # of a marker's number


class LongStrings:
    """Takes long strings out of a JSON text that comes in pieces.

    Args:
        keep: Called with each long string's raw text (between the quotes); gives back how to read it again.
        cap: Length above which a string is dropped.
        rest_cap: Length that the text may have without its long strings.

    Attributes:
        mark: What every marker of this text begins with.
    """

    def __init__(self, keep: Callable[[bytes | bytearray], Callable[[], bytes]], *, cap: int, rest_cap: int) -> None:
        self._keep, self._cap, self._rest_cap = keep, cap, rest_cap
        self._rest = bytearray()
        self._string = bytearray()
        self._inside = False
        self._escapes = 0  # backslashes in a row at the end of what was seen of the string
        self._dropping = False
        self._taken: list[Callable[[], bytes] | None] = []
        self.mark = f"long-string-{secrets.token_hex(16)}-"

    def feed(self, piece: bytes) -> bool:
        """Take the next bytes; false once the text without its long strings is above its cap."""
        position, end = 0, len(piece)
        while position < end:
            quote = piece.find(b'"', position)
            stop = end if quote < 0 else quote
            if not self._inside:
                self._rest += piece[position:stop]
                if quote >= 0:
                    self._inside, self._escapes = True, 0
            else:
                self._inside_string(piece[position:stop])
                if quote >= 0:
                    if self._escapes % 2:
                        self._inside_string(b'"')
                    else:
                        self._end_string()
            position = stop + (quote >= 0)
        return len(self._rest) <= self._rest_cap

    def text(self) -> bytes:
        """What remains, to be parsed when everything was fed."""
        if self._inside:
            self._rest += b'"' + self._string
        return bytes(self._rest)

    @property
    def count(self) -> int:
        """How many strings were taken out so far."""
        return len(self._taken)

    def taken(self, value: str) -> tuple[bool, Callable[[], bytes] | None]:
        """Whether a parsed string stands for a long one, and how to read that; None when it was dropped."""
        if not value.startswith(self.mark):
            return False, None
        number = value[len(self.mark) :]
        if not number.isdecimal() or len(number) > _DIGITS or int(number) >= len(self._taken):
            return False, None
        return True, self._taken[int(number)]

    def _inside_string(self, part: bytes) -> None:
        stripped = part.rstrip(b"\\")
        trailing = len(part) - len(stripped)
        self._escapes = trailing if stripped else self._escapes + trailing
        if self._dropping:
            return
        self._string += part
        if len(self._string) > self._cap:
            self._dropping = True
            self._string = bytearray()

    def _end_string(self) -> None:
        if self._dropping or len(self._string) > SHORT:
            self._taken.append(None if self._dropping else self._keep(self._string))
            self._rest += json.dumps(f"{self.mark}{len(self._taken) - 1}").encode()
        else:
            self._rest += b'"' + self._string + b'"'
        self._string = bytearray()
        self._inside = self._dropping = False


def unescaped(raw: bytes) -> bytes:
    """The text of a raw JSON string; .NET escapes the ``+`` of base64.

    Raises:
        ValueError: It is no JSON string.
    """
    return json.loads(b'"' + raw + b'"').encode() if b"\\" in raw else raw
