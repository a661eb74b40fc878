"""The arguments of a retry that names some of them anew."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djtasks.arguments import anew


def plain(a: Any, b: Any = 0, *, c: Any = 0) -> None: ...


def greedy(a: Any, *rest: Any, **named: Any) -> None: ...


def strict(a: Any, b: Any, /, c: Any = 0, **named: Any) -> None: ...


@pytest.mark.parametrize(
    ("fun", "was", "new", "becomes"),
    [
        # Nothing new, all new.
        (plain, ((1,), {"b": 2}), (None, None), ((1,), {"b": 2})),
        (plain, ((1,), {"b": 2}), ((5,), {"c": 3}), ((5,), {"c": 3})),
        # A call by name is retried with positional arguments.
        (plain, ((), {"a": 1, "b": 2, "c": 3}), ((5,), None), ((5,), {"b": 2, "c": 3})),
        (plain, ((), {"a": 1, "b": 2}), ((5, 6), None), ((5, 6), {})),
        (plain, ((), {"c": 3}), ((5, 6), None), ((5, 6), {"c": 3})),
        # A call by position is retried with named arguments.
        (plain, ((1, 2), {}), (None, {"b": 7}), ((1, 7), {})),
        (plain, ((1,), {}), (None, {"b": 7}), ((1,), {"b": 7})),
        (plain, ((1, 2), {"c": 1}), (None, {"c": 7}), ((1, 2), {"c": 7})),
        (greedy, ((1, 2, 3), {}), (None, {"a": 9, "x": 1}), ((9, 2, 3), {"x": 1})),
        # A name that is positional only is free for **named.
        (strict, ((1, 2), {}), (None, {"a": 5}), ((1, 2), {"a": 5})),
        (strict, ((), {"c": 3}), ((1, 2), None), ((1, 2), {"c": 3})),
    ],
)
def test_what_is_named_anew_takes_the_place_of_what_was_given(
    fun: Callable[..., Any], was: Any, new: Any, becomes: Any
) -> None:
    args, kwargs = anew(fun, *was, *new)
    assert (tuple(args), kwargs) == becomes


def test_arguments_that_never_fitted_are_left_to_the_check_of_the_call() -> None:
    assert anew(plain, (1, 2, 3, 4), {}, None, {"b": 5}) == ((1, 2, 3, 4), {"b": 5})


def test_a_callable_without_a_signature_takes_them_as_they_are() -> None:
    assert anew(dict, ((1, 2),), {}, None, {"b": 5}) == (((1, 2),), {"b": 5})


@given(
    fun=st.sampled_from([plain, greedy, strict]),
    positional=st.lists(st.integers(), min_size=0, max_size=3),
    named=st.dictionaries(st.sampled_from("abcx"), st.integers()),
    replaced=st.dictionaries(st.sampled_from("abcx"), st.integers(), min_size=1),
)
def test_a_call_that_fits_still_fits_and_says_what_the_retry_named(
    fun: Callable[..., Any], positional: list[int], named: dict[str, int], replaced: dict[str, int]
) -> None:
    signature = inspect.signature(fun)
    try:
        signature.bind(*positional, **named)
        signature.bind_partial(**replaced)
    except TypeError:
        return
    args, kwargs = anew(fun, positional, named, None, replaced)
    if {name for name in named if name not in replaced}:
        # Named arguments that the retry does not name are gone: it said what they are to be.
        return
    said = signature.bind(*args, **kwargs).arguments
    flat = {**said, **said.get("named", {})}
    assert all(flat[name] == value for name, value in replaced.items())
