"""Sensitive arguments: which of a call's arguments nobody may read, and texts without them.

What is sensitive is said by the task (`sensitive=("password",)`, or True for all) and travels in the message's header
"sensitive", so that a process which does not know the task hides the same: True, or [positions, names, from], where
`from` is the position from which on all are sensitive (those of `*args`), or None.
"""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from djtasks.exceptions import FATAL, safe_repr

#: What stands in the place of a sensitive value.
MASK: Final = "********"
#: A value whose text is shorter than this is hidden where it is an argument, and not looked for in other texts.
SHORTEST: Final = 4
#: So many texts of a call are looked for; in so many levels of containers.
_MOST, _DEEPEST = 1000, 20

Hide = Callable[[str], str]


class _Masked:
    """Shown in the place of a value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return MASK


masked: Final = _Masked()


def header_of(run: Callable[..., Any], sensitive: Any, name: str) -> Any:
    """What a message says of the sensitive arguments of `run`, the code of the task `name`; None for nothing.

    `sensitive` is True, the name of a parameter, or several. Raises TypeError for anything else, and ValueError for
    what is no parameter of the task: a name that is misspelt would hide nothing.
    """
    if sensitive is True:
        return True
    if not sensitive:
        return None
    wanted = [sensitive] if isinstance(sensitive, str) else sensitive
    if not isinstance(wanted, list | tuple | set | frozenset) or not all(isinstance(each, str) for each in wanted):
        raise TypeError(f"sensitive of {name} must be True or names of parameters, not {safe_repr(sensitive, 200)}")
    try:
        parameters = list(inspect.signature(run).parameters.values())
    except (TypeError, ValueError):
        return [[], sorted(wanted), None]
    known = {each.name: (position, each.kind) for position, each in enumerate(parameters)}
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    positions: list[int] = []
    names: list[str] = []
    rest: int | None = None
    for each in sorted(wanted):
        position, kind = known.get(each, (None, None))
        if position is None:
            if not takes_any:
                raise ValueError(f"sensitive of {name}: the task has no parameter {each!r}; it has {', '.join(known)}")
            names.append(each)
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            rest = position
        elif kind is inspect.Parameter.VAR_KEYWORD:
            return True
        else:
            names.append(each)
            if kind is not inspect.Parameter.KEYWORD_ONLY:
                positions.append(position)
    return [positions, names, rest]


def of(task: Any) -> Any:
    """The header for calls of this task, or None: nothing of it is sensitive. Raises as `header_of` does."""
    if not getattr(task, "sensitive", None):
        return None
    known = task.__dict__.get("_sensitive")
    if known is None or known[0] is not task.sensitive:
        known = task._sensitive = (task.sensitive, header_of(task.run, task.sensitive, task.name))
    return known[1]


def mask(said: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments of a call with `********` in the place of what `said`, a message's header, calls sensitive.

    A header that cannot be read hides everything.
    """
    if not said:
        return args, kwargs
    positions, names, rest = _parts(said)
    if isinstance(args, list | tuple):
        hidden = [masked if _is_hidden(nth, positions, rest) else each for nth, each in enumerate(args)]
        args = tuple(hidden) if isinstance(args, tuple) else hidden
    elif args is not None:
        args = masked
    if isinstance(kwargs, Mapping):
        kwargs = {key: masked if names is None or key in names else each for key, each in kwargs.items()}
    elif kwargs is not None:
        kwargs = masked
    return args, kwargs


def hider(said: Any, args: Any, kwargs: Any) -> Hide:
    """A function that puts `********` in the place of the sensitive values of this call wherever a text has them.

    Found are the texts and numbers themselves and those in containers, as they are and as `repr` and JSON write them.
    """
    positions, names, rest = _parts(said)
    found: set[str] = set()
    if isinstance(args, list | tuple):
        for nth, each in enumerate(args):
            if _is_hidden(nth, positions, rest):
                found.update(_texts(each))
    if isinstance(kwargs, Mapping):
        for key, each in kwargs.items():
            if names is None or key in names:
                found.update(_texts(each))
    # The longest first: a value may be the beginning of another one.
    wanted = sorted(found, key=len, reverse=True)[:_MOST]

    def hide(text: str) -> str:
        for each in wanted:
            text = text.replace(each, MASK)
        return text

    return hide


def cleaned(value: Any, hide: Hide) -> Any:
    """`value` with `hide` applied to all texts and numbers in it."""
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, Mapping):
        return {cleaned(key, hide): cleaned(each, hide) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(each, hide) for each in value]
    text = safe_repr(value, 10_000)
    return value if hide(text) == text else MASK


def shown(said: Any, args: Any, kwargs: Any) -> tuple[str, str]:
    """The arguments of a call as text, without what is sensitive."""
    args, kwargs = mask(said, args, kwargs)
    return safe_repr(args), safe_repr(kwargs)


def _parts(said: Any) -> tuple[frozenset[int] | None, frozenset[str] | None, int | None]:
    """Positions, names (None: all), and the position from which on all are sensitive."""
    if isinstance(said, list | tuple) and len(said) == 3 and all(isinstance(part, list | tuple) for part in said[:2]):
        positions, names, rest = said
        return frozenset(positions), frozenset(names), rest if isinstance(rest, int) else None
    return None, None, 0


def _is_hidden(nth: int, positions: frozenset[int] | None, rest: int | None) -> bool:
    return positions is None or nth in positions or (rest is not None and nth >= rest)


def _texts(value: Any) -> Iterator[str]:
    """The texts by which a value would be known, in all the ways in which it may be written."""
    for each in _scalars(value, 0):
        text = each.decode("utf-8", "replace") if isinstance(each, bytes) else _text(each)
        for written in (text, repr(text)[1:-1], json.dumps(text)[1:-1]):
            if len(written) >= SHORTEST:
                yield written


def _text(value: Any) -> str:
    try:
        return str(value)
    except FATAL:
        raise
    except BaseException:
        return ""


def _scalars(value: Any, depth: int) -> Iterator[Any]:
    if value is None or isinstance(value, bool):
        return
    inside: Sequence[Any] | None = None
    if isinstance(value, Mapping):
        inside = list(value.values())
    elif isinstance(value, list | tuple | set | frozenset):
        inside = list(value)
    if inside is None:
        yield value
    elif depth < _DEEPEST:
        for each in inside[:_MOST]:
            yield from _scalars(each, depth + 1)
