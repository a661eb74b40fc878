"""How long to wait before the next try."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djtasks.backoff import exponential, intervals

retries = st.integers(0, 10**9)
factors = st.floats(-10, 1e6) | st.booleans()
maximums = st.integers(0, 10**6)


def test_the_delay_doubles_up_to_the_maximum() -> None:
    delays = [exponential(retries, jitter=False) for retries in range(12)]
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]


def test_the_delay_starts_at_the_factor() -> None:
    assert [exponential(retries, 3, 100, jitter=False) for retries in range(7)] == [3, 6, 12, 24, 48, 96, 100]


@pytest.mark.parametrize(("factor", "first"), [(True, 1), (0.2, 1), (0, 1), (-5, 1), (2.9, 2)])
def test_the_factor_is_a_whole_number_of_at_least_one(factor: float, first: int) -> None:
    assert exponential(0, factor, jitter=False) == first


@given(retries, factors, maximums)
def test_the_delay_is_what_the_formula_says(retries: int, factor: float, maximum: int) -> None:
    expected = min(maximum, max(1, int(factor)) * 2 ** min(retries, 40))
    assert exponential(retries, factor, maximum, jitter=False) == expected


@given(retries, factors, maximums)
def test_jitter_only_ever_shortens_the_delay(retries: int, factor: float, maximum: int) -> None:
    assert 0 <= exponential(retries, factor, maximum) <= exponential(retries, factor, maximum, jitter=False)


def test_jitter_reaches_from_nothing_to_the_whole_delay() -> None:
    assert {exponential(2) for _ in range(1000)} == {0, 1, 2, 3, 4}


def test_the_default_policy_tries_three_times_more() -> None:
    assert list(intervals({})) == [0, 0.2, 0.4]


def test_a_policy_without_a_maximum_number_never_gives_up() -> None:
    delays = list(islice(intervals({"max_retries": None, "interval_start": 0.5, "interval_step": 0.25}), 100))
    assert delays[:4] == [0.5, 0.75, 1, 1]
    assert set(delays[4:]) == {1}


def test_a_policy_of_no_retries_gives_up_at_once() -> None:
    assert list(intervals({"max_retries": 0})) == []


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "max_retries": st.integers(0, 50),
            "interval_start": st.floats(0, 100),
            "interval_step": st.floats(0, 100),
            "interval_max": st.floats(0, 100),
        },
    )
)
def test_intervals_never_shrink_and_never_pass_the_longest(policy: dict[str, float]) -> None:
    delays = list(intervals(policy))
    assert len(delays) == policy.get("max_retries", 3)
    assert delays == sorted(delays)
    assert all(delay <= policy.get("interval_max", 1) for delay in delays)
