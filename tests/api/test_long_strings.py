"""Long strings leave a JSON text while it streams, wherever the pieces are cut."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownvision.api.long_strings import SHORT, LongStrings, unescaped

CAP = 3 * SHORT
# (pattern, how often): short ones, and ones above SHORT whose escaped form is still below CAP.
PATTERNS = st.sampled_from(['\\"', "\\", '"', "x", "é", 'a\\"'])
VALUES = st.lists(st.tuples(PATTERNS, st.sampled_from([0, 1, 2, 3, SHORT // 2, SHORT])), max_size=5)


def _scan() -> LongStrings:
    def keep(raw: bytes | bytearray) -> Callable[[], bytes]:
        kept = bytes(raw)
        return lambda: kept

    return LongStrings(keep, cap=CAP, rest_cap=1_000_000)


def _restored(scan: LongStrings) -> object:
    def restore(value: str) -> str:
        long, read = scan.taken(value)
        return unescaped(read()).decode() if long and read is not None else value

    return [restore(value) for value in json.loads(scan.text())]


@given(VALUES, st.integers(1, 9_000))
def test_the_text_comes_back_whole_however_it_was_cut(patterns: list[tuple[str, int]], step: int) -> None:
    values = [(pattern * times)[: SHORT + 1] for pattern, times in patterns]
    body = json.dumps(values, ensure_ascii=False).encode()
    scan = _scan()
    for start in range(0, len(body), step):
        assert scan.feed(body[start : start + step])
    assert _restored(scan) == values


def test_a_string_above_the_cap_is_dropped_and_its_neighbours_stay() -> None:
    scan = _scan()
    body = json.dumps(["before", "y" * (CAP * 10), "z" * (SHORT + 1), "after"]).encode()
    most = 0
    for start in range(0, len(body), 1_000):
        scan.feed(body[start : start + 1_000])
        most = max(most, len(scan._string))
    before, dropped, kept, after = json.loads(scan.text())
    assert (before, after) == ("before", "after")
    assert scan.taken(dropped) == (True, None)
    assert scan.taken(kept)[1] is not None
    assert most <= CAP


def test_a_text_that_grows_without_long_strings_is_refused_early() -> None:
    scan = LongStrings(lambda raw: lambda: bytes(raw), cap=CAP, rest_cap=1_000)
    assert scan.feed(b'["a",' * 100)
    assert not scan.feed(b'["a",' * 200)


@pytest.mark.parametrize("value", ["plain", "{}", "{}7", "{}x", "{}²", "{}-0", "{}" + "9" * 5_000])
def test_a_string_that_only_looks_like_a_marker_stands_for_nothing(value: str) -> None:
    scan = _scan()
    assert scan.taken(value.format(scan.mark)) == (False, None)


def test_a_marker_can_not_be_foreseen() -> None:
    long = json.dumps("x" * (SHORT + 1)).encode()
    scans = [_scan(), _scan()]
    for scan in scans:
        scan.feed(long)
    assert scans[0].text() != scans[1].text()
    assert scans[1].taken(json.loads(scans[0].text())) == (False, None)
