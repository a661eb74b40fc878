"""Whether a call's arguments fit the task's signature, asked where the call is made, before anything is stored."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Check = Callable[[Sequence[Any], Mapping[str, Any]], None]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def checker(fun: Callable[..., Any], name: str) -> Check:
    """A function of (args, kwargs) that raises TypeError when `fun` cannot be called with them.

    It is made once for each task and asked in every call: what an everyday signature takes is answered by counting,
    and only the rest by `inspect`, which also words the error. A callable without a signature takes anything.
    """
    try:
        signature = inspect.signature(fun)
    except (TypeError, ValueError):
        return _anything
    parameters = signature.parameters.values()
    positional = [each for each in parameters if each.kind in _POSITIONAL]
    most = len(positional)
    least = sum(each.default is each.empty for each in positional)
    plain = all(each.kind is each.POSITIONAL_OR_KEYWORD for each in parameters)
    by_position_alone = not any(each.kind is each.KEYWORD_ONLY and each.default is each.empty for each in parameters)
    names = tuple(each.name for each in positional)
    # What may, and what must, still come by name after so many positional arguments.
    optional = [frozenset(names[count:]) for count in range(most + 1)]
    missing = [frozenset(names[count:least]) for count in range(most + 1)]

    def check(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        count = len(args)
        if not kwargs:
            if least <= count <= most and by_position_alone:
                return
        elif (
            plain
            and count <= most
            and kwargs.keys() <= optional[count]
            and (count >= least or missing[count] <= kwargs.keys())
        ):
            return
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}{signature} {error}") from None

    return check


def anew(
    fun: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    new_args: Sequence[Any] | None,
    new_kwargs: Mapping[str, Any] | None,
) -> tuple[Any, Any]:
    """The arguments of `fun` in its next run, when this one had `args` and `kwargs` and a retry names others.

    What is None stays. Where only one of them is new, it takes the place of what the other one says of the same
    parameters, however those were given.
    """
    if (new_args is None) is (new_kwargs is None):
        return (args, kwargs) if new_args is None else (new_args, new_kwargs)
    try:
        signature = inspect.signature(fun)
    except (TypeError, ValueError):
        return (args if new_args is None else new_args), (kwargs if new_kwargs is None else new_kwargs)
    if new_args is not None:
        positional = [each for each in signature.parameters.values() if each.kind in _POSITIONAL][: len(new_args)]
        filled = {each.name for each in positional if each.kind is each.POSITIONAL_OR_KEYWORD}
        return new_args, {name: value for name, value in kwargs.items() if name not in filled}
    try:
        bound = signature.bind_partial(*args)
    except TypeError:
        return args, new_kwargs
    left = dict(new_kwargs or {})
    for name in tuple(left):
        if name in bound.arguments and signature.parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            bound.arguments[name] = left.pop(name)
    return bound.args, {**bound.kwargs, **left}


def _anything(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    return None


def takes(fun: Callable[..., Any], args: Sequence[Any]) -> bool:
    """Whether `fun` can be called with these positional arguments."""
    try:
        inspect.signature(fun).bind(*args)
    except (TypeError, ValueError):
        return False
    return True
