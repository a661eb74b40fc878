"""The arguments of a call are checked against the task's signature, where the call is made."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djtasks.arguments import checker


def plain(x: int, y: int = 0) -> None: ...
def by_name(x: int, *, y: int) -> None: ...
def optional_by_name(x: int, *, y: int = 0) -> None: ...
def positional_only(x: int, /, y: int = 0) -> None: ...
def anything(*args: int, **kwargs: int) -> None: ...
def named_rest(x: int, **rest: int) -> None: ...
def nothing() -> None: ...


FUNCTIONS = [plain, by_name, optional_by_name, positional_only, anything, named_rest, nothing]


def binds(fun: Callable[..., Any], args: tuple[int, ...], kwargs: dict[str, int]) -> bool:
    try:
        inspect.signature(fun).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


@pytest.mark.parametrize("fun", FUNCTIONS)
@given(
    args=st.lists(st.integers(), max_size=4).map(tuple),
    kwargs=st.dictionaries(st.sampled_from(["x", "y", "z"]), st.integers()),
)
def test_the_check_agrees_with_a_call(fun: Callable[..., Any], args: tuple[int, ...], kwargs: dict[str, int]) -> None:
    check = checker(fun, "task")
    if binds(fun, args, kwargs):
        check(args, kwargs)
    else:
        with pytest.raises(TypeError):
            check(args, kwargs)


def test_the_error_names_the_task_its_signature_and_what_is_wrong() -> None:
    with pytest.raises(
        TypeError, match=r"^shop\.plain\(x: int, y: int = 0\) -> None missing a required argument: 'x'$"
    ):
        checker(plain, "shop.plain")((), {})


def test_a_callable_without_a_signature_takes_anything() -> None:
    checker(type, "shop.type")((1, 2), {"three": 3})
