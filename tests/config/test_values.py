"""Parsing of durations, fractions and numbers, for any input."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overseer_training.config.schema import BY_NAME, FIELDS, duration, fraction, optional, parse_value, real, whole
from overseer_training.errors import UsageError


@given(st.integers(0, 200), st.integers(0, 59), st.integers(0, 59))
def test_a_duration_is_the_sum_of_its_parts(hours: int, minutes: int, seconds: int) -> None:
    total = hours * 3600 + minutes * 60 + seconds
    for text in (f"{hours}h{minutes}m{seconds}s", f" {hours}h {minutes}m {seconds} ", f"{total}", f"{total}s"):
        if total:
            assert duration(text) == total
        else:
            with pytest.raises(ValueError, match="from 1s to 720h"):
                duration(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("20m", 1200), ("1.5h", 5400), ("720h", 2592000), (90, 90), (1.5, 1.5)]
)
def test_durations_that_people_write(text: Any, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "20 minutes", "-5m", "5m1h", "1e3", True, None, "0", "721h", "nan"])
def test_what_is_no_duration_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="a duration"):
        duration(text)


@given(st.floats(0, 1))
def test_a_fraction_is_itself_and_its_percentage(value: float) -> None:
    assert fraction(value) == fraction(repr(value)) == value
    assert math.isclose(fraction(f"{value * 100!r}%"), value, abs_tol=1e-12)


@pytest.mark.parametrize(
    "value", [-0.1, 1.1, "101%", "-1%", "%", "half", True, None, math.nan, math.inf, "nan%", 10**400]
)
def test_what_is_no_fraction_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="a share from 0 to 1, or from 0% to 100%"):
        fraction(value)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.integers()), st.binary()))
def test_any_value_is_parsed_or_refused_with_what_is_expected(value: Any) -> None:
    for field in FIELDS:
        try:
            parsed = field.parse(value)
        except ValueError as error:
            assert str(error) and "\n" not in str(error)
        else:
            assert field.parse(parsed) == parsed


@given(st.integers(-5, 15))
def test_whole_numbers_keep_their_bounds(value: int) -> None:
    parse = whole(2, 9)
    if 2 <= value <= 9:
        assert parse(value) == parse(str(value)) == parse(float(value)) == value
    else:
        with pytest.raises(ValueError, match="a whole number from 2 to 9"):
            parse(value)


def test_a_rate_of_zero_is_refused_and_a_decay_of_zero_is_not() -> None:
    with pytest.raises(ValueError, match="a number above 0 up to 1"):
        real(0, 1, above=True)(0)
    assert real(0, 1)(0) == 0


def test_none_is_written_as_none_or_left_out() -> None:
    assert optional(whole(1))(None) is None and optional(whole(1))("none") is None and optional(whole(1))("4") == 4


def test_a_wrong_value_names_its_origin() -> None:
    with pytest.raises(UsageError, match=r"plan\.json: epochs must be a whole number from 1 to 10000, not 'x'"):
        parse_value(BY_NAME["epochs"], "x", "plan.json")
