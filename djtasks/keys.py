"""Keys: which messages exclude one another, or share a limit, as a text of bounded length.

A key is written as a text with fields, `"export-{0}-{user}"`, which are filled in from the call's arguments, or as a
function of them.
"""

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from djtasks.exceptions import EncodeError, safe_repr
from djtasks.ratelimits import parse
from djtasks.registry import tasks
from djtasks.serializers import dumps

#: Longer keys are replaced by a digest of themselves: an index holds them.
KEY_MAX = 200
RETURN, REPLACE, RAISE = POLICIES = ("return", "replace", "raise")
MOST_MAX = 2**31 - 1


class Definition(NamedTuple):
    """What is limited of a key."""

    #: How many of it may run at a time; None for any number.
    most: int | None
    #: How many of it may start in a second; None for any number.
    rate: float | None


class Keys(NamedTuple):
    """The keys of one call."""

    unique: str | None = None
    on_conflict: str = RETURN
    limit: str | None = None


NONE = Keys()
#: The call options that say something about keys.
OPTIONS = frozenset({"unique", "unique_key", "on_conflict", "concurrency_key"})


def keyed(task: Any) -> bool:
    """Whether the messages of the task have keys, as far as the task says."""
    return (
        task.unique is not None
        or task.unique_key is not None
        or task.concurrency_key is not None
        or task.max_concurrency is not None
        or task.global_rate_limit is not None
    )


def of_call(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any], task: Any) -> Keys:
    """The keys of a call: what its options say, else the task.

    Raises TypeError and ValueError for what is no key, EncodeError when the arguments cannot be made one.
    """
    unique = _either(options.get("unique"), None if task is None else task.unique)
    unique_key = _either(options.get("unique_key"), None if task is None else task.unique_key)
    on_conflict = _either(options.get("on_conflict"), None if task is None else task.on_conflict) or RETURN
    check_policy(on_conflict)
    unique_text = None
    if unique_key is not None and unique is not False:
        unique_text = filled(unique_key, args, kwargs, task, "unique_key")
    elif unique:
        unique_text = f"{name}:{_digest_of_call(name, args, kwargs, task)}"
    return Keys(
        None if unique_text is None else bounded(unique_text),
        on_conflict,
        _limit_key(name, args, kwargs, options.get("concurrency_key"), task),
    )


def _either(said: Any, otherwise: Any) -> Any:
    return otherwise if said is None else said


def _limit_key(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], said: Any, task: Any) -> str | None:
    key, what = said, "concurrency_key"
    if key is None and task is not None:
        key = task.concurrency_key
        if key is None and task.max_concurrency is not None:
            key = name.replace("{", "{{").replace("}", "}}")
        if key is None and parse(task.global_rate_limit, "global_rate_limit") is not None:
            key, what = task.global_rate_key, "global_rate_key"
            key = name.replace("{", "{{").replace("}", "}}") if key is None else key
    return None if key is None else bounded(filled(key, args, kwargs, task, what))


def filled(key: Any, args: Sequence[Any], kwargs: Mapping[str, Any], task: Any, what: str) -> str:
    """The key of a call with these arguments. Raises TypeError, ValueError."""
    if callable(key):
        text = key(*args, **kwargs)
        if not isinstance(text, str):
            raise TypeError(f"{what}: {safe_repr(key, 100)} must return a text, and returned {safe_repr(text, 100)}")
    elif isinstance(key, str):
        try:
            text = key.format(*args, **_named(args, kwargs, task)) if "{" in key or "}" in key else key
        except (LookupError, AttributeError, ValueError, TypeError) as error:
            raise ValueError(
                f"{what} {safe_repr(key, 200)} cannot be filled in with the arguments of this call:"
                f" {type(error).__name__}: {error}. Its fields are positions, as {{0}}, or names of arguments"
            ) from error
    else:
        raise TypeError(f"{what} must be a text or a function of the task's arguments, not {safe_repr(key, 100)}")
    if not text:
        raise ValueError(f"{what} must not be empty")
    return text


def _named(args: Sequence[Any], kwargs: Mapping[str, Any], task: Any) -> Mapping[str, Any]:
    """The arguments by name, those given by position and the defaults too, where the signature is known."""
    if task is None:
        return kwargs
    try:
        bound = inspect.signature(task.run).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return kwargs
    bound.apply_defaults()
    return {**bound.arguments, **kwargs}


def _digest_of_call(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], task: Any) -> str:
    """The same for `f(1)` and `f(x=1)`. Raises EncodeError."""
    named: Any = None
    if task is not None:
        try:
            bound = inspect.signature(task.run).bind(*args, **kwargs)
        except (TypeError, ValueError):
            pass
        else:
            bound.apply_defaults()
            named = list(bound.args), bound.kwargs
    try:
        said = dumps(_ordered(named or (list(args), dict(kwargs))), "json")[1]
    except EncodeError as error:
        raise EncodeError(
            f"unique: the arguments of {name} cannot be made a key ({error}); give a unique_key of your own"
        ) from error
    return hashlib.blake2s(said, digest_size=16).hexdigest()


def _ordered(value: Any) -> Any:
    """The same value for dicts and sets that are equal: in the order of their keys."""
    if isinstance(value, Mapping):
        pairs = [(_ordered(key), _ordered(each)) for key, each in value.items()]
        return {"pairs": sorted(pairs, key=lambda pair: repr(pair[0]))}
    if isinstance(value, set | frozenset):
        return {"set": sorted((_ordered(each) for each in value), key=repr)}
    if isinstance(value, list | tuple):
        return [_ordered(each) for each in value]
    return value


def bounded(key: str) -> str:
    """The key, or its digest where it is too long for an index. Raises ValueError for what no column holds."""
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the key {safe_repr(key, 200)} is no Unicode text") from None
    if "\0" in key:
        raise ValueError(f"the key {safe_repr(key, 200)} holds a NUL character, which PostgreSQL cannot store")
    if len(encoded) <= KEY_MAX:
        return key
    return f"{key[:40]}…{hashlib.blake2s(encoded, digest_size=16).hexdigest()}"


def definition(name: str) -> Definition | None:
    """What the task of this name limits its keys to; None where this process does not know the task."""
    task = tasks.get(name)
    if task is None:
        return None
    most, rate = task.max_concurrency, parse(task.global_rate_limit, "global_rate_limit")
    return Definition(1 if most is None and (task.concurrency_key is not None or rate is None) else most, rate)


# -- what a task may say ------------------------------------------------------------------------------------------


def check_policy(policy: Any) -> None:
    """Raise ValueError for what is no `on_conflict`."""
    if policy not in POLICIES:
        raise ValueError(f"on_conflict must be one of {', '.join(POLICIES)}, not {safe_repr(policy, 100)}")


def check_options(options: Mapping[str, Any]) -> None:
    """Raise TypeError or ValueError for options of a task about rates, limits and keys that do not fit."""
    for option in ("rate_limit", "global_rate_limit"):
        parse(options.get(option), option)
    if options.get("on_conflict") is not None:
        check_policy(options["on_conflict"])
    most = options.get("max_concurrency")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= MOST_MAX):
        raise ValueError(f"max_concurrency must be a whole number, 1 or more, not {safe_repr(most, 100)}")
    for option in ("unique_key", "concurrency_key", "global_rate_key"):
        key = options.get(option)
        if key is not None and (not key or not (isinstance(key, str) or callable(key))):
            raise TypeError(
                f"{option} must be a text, with fields as {{0}} or {{name}}, or a function of the task's arguments,"
                f" not {safe_repr(key, 100)}"
            )
    concurrent = options.get("concurrency_key") is not None or most is not None
    if options.get("global_rate_key") is not None and (concurrent or not options.get("global_rate_limit")):
        raise ValueError(
            "global_rate_key goes with global_rate_limit alone: with concurrency_key or max_concurrency the rate is"
            " that of their key"
        )
