"""Rates: what a text means, and when a bucket lets the next one go."""

import math
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djtasks.ratelimits import Bucket, parse


@pytest.mark.parametrize(
    ("rate", "per_second"),
    [
        ("100/s", 100.0),
        ("100/m", 100 / 60),
        ("100/h", 100 / 3600),
        ("0.5/s", 0.5),
        ("10", 10.0),
        (10, 10.0),
        (0.25, 0.25),
        ("1e2/m", 100 / 60),
        (" 5 /s", 5.0),
        ("5/", 5.0),
    ],
)
def test_a_rate_is_a_number_and_a_unit(rate: Any, per_second: float) -> None:
    assert parse(rate) == pytest.approx(per_second)


@pytest.mark.parametrize("rate", [None, "", 0, 0.0, "0", "0/m", "0.0/h"])
def test_nothing_and_zero_are_no_limit(rate: Any) -> None:
    assert parse(rate) is None


@pytest.mark.parametrize("rate", ["5/d", "5/min", "5/S", "5/m/s"])
def test_an_unknown_unit_is_an_error_that_names_the_units(rate: str) -> None:
    with pytest.raises(ValueError, match="s, m or h"):
        parse(rate)


@pytest.mark.parametrize("rate", ["-1/s", "nan", "inf/m", "x/s", "/s", -1, math.nan, math.inf, "1,5/s", "1e-320/h"])
def test_what_is_no_number_is_an_error(rate: Any) -> None:
    with pytest.raises(ValueError, match="rate_limit"):
        parse(rate)


@pytest.mark.parametrize("rate", [True, [], b"5/s", object()])
def test_what_is_neither_text_nor_number_is_an_error(rate: Any) -> None:
    with pytest.raises(TypeError, match="my_rate"):
        parse(rate, "my_rate")


@given(st.floats(0.001, 1e6), st.sampled_from("smh"))
def test_a_rate_per_minute_is_a_sixtieth_of_that_per_second(number: float, unit: str) -> None:
    found = parse(f"{number}/{unit}")
    assert found is not None
    assert found * {"s": 1, "m": 60, "h": 3600}[unit] == pytest.approx(number)


def test_the_first_starts_at_once_and_the_next_when_its_time_has_come() -> None:
    bucket = Bucket(10)
    assert bucket.tokens(100.0) == 1
    bucket.take(1, 100.0)
    assert bucket.tokens(100.05) == 0
    assert bucket.next_at == pytest.approx(100.1)
    assert bucket.tokens(100.1) == 1


def test_idle_time_is_not_saved_up() -> None:
    bucket = Bucket(10)
    bucket.take(1, 100.0)
    assert bucket.tokens(200.0) == 1
    assert bucket.tokens(200.0, slack=0.1) == 2


def starts(bucket: Bucket, looks: Iterable[float], slack: float) -> list[float]:
    """When runs start, if somebody looks at these times and starts all that may."""
    found: list[float] = []
    for now in looks:
        count = bucket.tokens(now, slack)
        bucket.take(count, now, slack)
        found += [now] * count
    return found


LOOKS = st.lists(st.floats(0, 2), min_size=1, max_size=200).map(
    lambda waits: [sum(waits[:n]) for n in range(1, len(waits) + 1)]
)


@given(st.floats(0.1, 1000), LOOKS, st.sampled_from([0.0, 0.1]))
def test_in_no_stretch_of_time_do_more_start_than_the_rate_allows(
    rate: float, looks: list[float], slack: float
) -> None:
    found = starts(Bucket(rate), looks, slack)
    for first in range(0, len(found), 7):
        for last in range(first, len(found), 11):
            stretch = found[last] - found[first]
            assert last - first + 1 <= (stretch + slack) * rate + 1 + 1e-3


@given(st.floats(1, 50), st.lists(st.floats(0.001, 0.09), min_size=50, max_size=300))
def test_who_looks_often_enough_loses_nothing_of_the_rate(rate: float, waits: list[float]) -> None:
    looks = list(accumulate(waits))
    found = starts(Bucket(rate), looks, 0.1)
    assert len(found) >= (looks[-1] - looks[0]) * rate - 1
