"""Values on the wire have the original's form, to the byte."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownvision.wire import values as wire

MOMENT = datetime(2020, 11, 6, 17, 40, 45, 493670, UTC)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1.0, "1.0"),
        (0.0, "0.0"),
        (0.9999961, "0.9999961"),
        (0.9999999, "0.9999999"),
        (8.79471951e-13, "8.79471951E-13"),
        (1.1920929e-07, "1.1920929E-07"),
        (0.376154721, "0.376154721"),
        (0.164848924, "0.164848924"),
        (0.6963955, "0.6963955"),
        (3.60627153e-12, "3.60627153E-12"),
        (0.1, "0.1"),
        (1 / 3, "0.333333343"),
        (0.0001, "0.0001"),
        (0.00001, "1E-05"),
        (-3.4028234663852886e38, "-3.40282347E+38"),
    ],
)
def test_floats_are_written_as_the_recorded_ones(value: float, written: str) -> None:
    assert wire.single(value) == written


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e39, -1e300])
def test_what_json_can_not_say_is_not_written(value: float) -> None:
    with pytest.raises(ValueError, match="can't be written"):
        wire.dumps([value])


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=0, max_value=1))
def test_a_written_single_is_the_same_single_when_read(value: float) -> None:
    assert wire.single(float(wire.single(value))) == wire.single(value)


@pytest.mark.parametrize(
    ("write", "written"),
    [
        (wire.seconds, "2020-11-06T17:40:45.493Z"),
        (wire.trimmed, "2020-11-06T17:40:45.49367"),
        (wire.ticks, "2020-11-06T17:40:45.4936700Z"),
    ],
)
def test_dates_have_the_form_of_their_kind(write: object, written: str) -> None:
    assert callable(write)
    assert write(MOMENT) == written


@pytest.mark.parametrize("moment", [MOMENT.replace(microsecond=0), MOMENT.replace(second=0, microsecond=0)])
def test_a_date_without_a_fraction_has_no_point_and_keeps_its_seconds(moment: datetime) -> None:
    assert wire.trimmed(moment) == moment.strftime("%Y-%m-%dT%H:%M:%S")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_what_is_written_is_compact_json(value: object) -> None:
    written = wire.dumps(value)
    assert json.loads(written) == value
    assert written.decode() == json.dumps(value, ensure_ascii=False, separators=(",", ":"))
