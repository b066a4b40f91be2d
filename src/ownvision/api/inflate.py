"""Bodies that come compressed (``Content-Encoding: gzip`` or ``deflate``), unpacked a little at a time."""

import zlib

from starlette.types import Message, Receive

from ownvision.api.errors import unreadable_encoding

_PIECE = 1 << 20
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


def inflated(receive: Receive, encoding: str) -> Receive:
    """A receiver of the plain bytes, in pieces of 1 MiB at most, however well they were packed.

    Args:
        receive: Where the packed bytes come from.
        encoding: The request's ``Content-Encoding``.

    Raises:
        Refused: On receiving: 415 for an encoding that is not known here, 400 for bytes that are not packed so.
    """
    unpacker = zlib.decompressobj(_WINDOW_BITS.get(encoding, 0))
    packed = b""
    more = True

    async def piece() -> Message:
        nonlocal packed, more
        if encoding not in _WINDOW_BITS:
            raise unreadable_encoding(415, f"Bodies of the encoding {encoding!r} are not read here; send gzip or none")
        if not packed and more:
            message = await receive()
            if message["type"] != "http.request":
                return message
            packed, more = message.get("body", b""), message.get("more_body", False)
        try:
            plain = unpacker.decompress(packed, _PIECE)
        except zlib.error:
            raise unreadable_encoding(400, f"The body is not {encoding}") from None
        packed = unpacker.unconsumed_tail
        ended = not packed and not more
        if ended and not unpacker.eof:
            raise unreadable_encoding(400, f"The body ends in the middle of its {encoding}")
        return {"type": "http.request", "body": plain, "more_body": not ended}

    return piece
