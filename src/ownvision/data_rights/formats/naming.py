"""Tag names where a format has no room for every character: as names of files and folders, and as text of XML."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

# What no system's file names may hold, and the sign that marks an escape.
_FORBIDDEN = frozenset('<>:"/\\|?*%')
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
_BYTES = 80


def file_name(name: str) -> str:
    """The name as one that every file system takes: what it can't hold is percent-encoded, what is too long cut."""
    spelled = "".join(c if c.isprintable() and c not in _FORBIDDEN else _escaped(c) for c in name)
    if spelled[:1] in (".", " ", "#", "-"):
        spelled = _escaped(spelled[0]) + spelled[1:]
    if spelled[-1:] in (".", " "):
        spelled = spelled[:-1] + _escaped(spelled[-1])
    if spelled.split(".")[0].casefold() in _DEVICES:
        spelled = _escaped(spelled[0]) + spelled[1:]
    while len(spelled.encode()) > _BYTES:
        spelled = spelled[:-1]
    return spelled


def xml_text(name: str) -> str:
    """The name without the characters that XML 1.0 can't hold or changes: they are percent-encoded."""
    return "".join(_escaped(c) if ord(c) < 32 or "\ud800" <= c <= "\udfff" or c in "\ufffe\uffff" else c for c in name)


def spelled(names: Sequence[str], spell: Callable[[str], str]) -> dict[str, str]:
    """Each name's spelling, all different where upper and lower case or composed letters are taken for the same."""
    taken: set[str] = set()
    result: dict[str, str] = {}
    for name in dict.fromkeys(names):
        wanted = spell(name)
        candidate, number = wanted, 2
        while _folded(candidate) in taken:
            candidate, number = f"{wanted}~{number}", number + 1
        taken.add(_folded(candidate))
        result[name] = candidate
    return result


def originals(spellings: Mapping[str, str]) -> dict[str, str]:
    """Names by spelling."""
    return {spelling: name for name, spelling in spellings.items()}


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _escaped(character: str) -> str:
    # `quote` leaves letters, digits and "_.-~" alone; a leading dot must not stay.
    quoted = quote(character.encode("utf-8", "surrogatepass"), safe="")
    return quoted if quoted != character else f"%{ord(character):02X}"
