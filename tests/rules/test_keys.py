"""Keys: what a call's unique key and limit are, and what can be none."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djtasks import keys, shared_task
from djtasks.keys import KEY_MAX, Definition, of_call
from djtasks.registry import tasks


@shared_task(name="rules.export", concurrency_key="tenant-{tenant}", max_concurrency=3)
def export(tenant: str, kind: str = "all") -> None:
    """Write."""


@shared_task(name="rules.{braces}", max_concurrency=2)
def alone() -> None:
    """Write."""


@shared_task(name="rules.slow", global_rate_limit="6/m")
def slow(tenant: str = "") -> None:
    """Write."""


@shared_task(name="rules.once", unique=True)
def once(*args: Any, **kwargs: Any) -> None:
    """Write."""


@pytest.fixture(autouse=True)
def _registered() -> None:
    for task in (export, alone, slow, once):
        tasks[task.name] = task


def limit_of(task: Any, *args: Any, **kwargs: Any) -> str | None:
    """The key of the limit of a call."""
    return of_call(task.name, args, kwargs, {}, task).limit


def unique_of(*args: Any, **kwargs: Any) -> str | None:
    """The unique key of a call."""
    return of_call(once.name, args, kwargs, {}, once).unique


def test_fields_are_filled_in_by_position_and_by_name() -> None:
    assert limit_of(export, "a") == limit_of(export, tenant="a") == "tenant-a"
    assert keys.filled("{0}-{kind}", ("a",), {}, export, "key") == "a-all"
    assert keys.filled("plain", ("a",), {}, export, "key") == "plain"


def test_a_function_of_the_arguments_makes_a_key() -> None:
    assert keys.filled(lambda tenant, **more: tenant.upper(), ("a",), {"kind": "x"}, export, "key") == "A"


def test_a_number_without_a_key_and_a_rate_without_one_are_the_names() -> None:
    assert limit_of(alone) == "rules.{braces}"
    assert limit_of(slow) == "rules.slow"


def test_a_task_defines_what_is_limited_of_its_keys() -> None:
    assert keys.definition(export.name) == Definition(3, None)
    assert keys.definition(slow.name) == Definition(None, 0.1)
    assert keys.definition("rules.nobody") is None


def test_a_long_key_is_replaced_by_a_digest() -> None:
    first, second = limit_of(export, "x" * 1000), limit_of(export, "x" * 1001)
    assert first is not None
    assert second is not None
    assert first != second
    assert len(first.encode()) <= KEY_MAX


@given(st.text())
def test_every_key_has_a_bounded_length_and_stays_itself(text: str) -> None:
    try:
        found = keys.bounded(text)
    except ValueError:
        assert "\0" in text or any("\ud800" <= each <= "\udfff" for each in text)
        return
    assert len(found.encode()) <= KEY_MAX
    assert found == keys.bounded(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
)


@given(st.lists(JSON, max_size=3), st.dictionaries(st.text(min_size=1), JSON, max_size=3))
def test_equal_arguments_have_one_key_whatever_the_order_of_their_names(args: list[Any], named: dict[str, Any]) -> None:
    named = {f"n{key}": value for key, value in named.items()}
    backwards = dict(reversed(list(named.items())))
    assert unique_of(*args, **named) == unique_of(*args, **backwards)


@given(JSON, JSON)
def test_other_arguments_have_another_key(one: Any, other: Any) -> None:
    assert (unique_of(one) == unique_of(other)) == (repr(_sorted(one)) == repr(_sorted(other)))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"rate_limit": "5/d"}, "s, m or h"),
        ({"global_rate_limit": "-1/s"}, "global_rate_limit"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"max_concurrency": True}, "max_concurrency"),
        ({"on_conflict": "ignore"}, "return, replace, raise"),
        ({"concurrency_key": 5}, "concurrency_key"),
        ({"unique_key": ""}, "unique_key"),
        ({"global_rate_key": "k"}, "global_rate_limit alone"),
        ({"global_rate_key": "k", "global_rate_limit": "5/s", "max_concurrency": 1}, "that of their key"),
    ],
)
def test_options_that_do_not_fit_are_an_error_where_the_task_is_defined(options: dict[str, Any], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        shared_task(**options)
