"""What stands behind a task in its chain, as its message carries it: a long chain is read a step at a time.

It is the last of the headers, a line for each step: `{…,"chain":[` and, of JSON that has no line breaks of its own, the
steps, the next one last. So a step is taken off without reading the others, and the rest is written as it came.
"""

from collections.abc import Iterable, Iterator, Mapping, MutableSequence
from typing import Any, overload

from djtasks.exceptions import safe_repr
from djtasks.serializers import dumps
from djtasks.serializers.json import loads

_BEGIN, _BETWEEN, _END = '"chain":[\n', ",\n", "\n]}"


class Steps(MutableSequence[Any]):
    """Signatures, as dicts; those that came as JSON are read when they are asked for.

    Reading one raises ValueError when it is no JSON.
    """

    __slots__ = ("items",)

    def __init__(self, items: Iterable[Any] = ()) -> None:
        #: Dicts, and texts that are JSON.
        self.items: list[Any] = list(items)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> "Steps": ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Steps(self.items[index])
        found = self.items[index]
        if isinstance(found, str):
            found = self.items[index] = opened(found)
        return found

    def __setitem__(self, index: Any, value: Any) -> None:
        self.items[index] = value

    def __delitem__(self, index: Any) -> None:
        del self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(len(self.items)))

    def insert(self, index: int, value: Any) -> None:
        """Put a step in front of another one."""
        self.items.insert(index, value)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Steps | list | tuple) else NotImplemented

    def __repr__(self) -> str:
        return repr(list(self))

    def __json__(self) -> list[Any]:
        return list(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


def opened(step: Any) -> Any:
    """A step as a dict. Raises ValueError when it is no JSON."""
    return loads(step.encode()) if isinstance(step, str) else step


def raw(steps: Any) -> list[Any]:
    """The steps as they came: signatures, or JSON that was not read. Raises TypeError for what is none of ours."""
    if isinstance(steps, Steps):
        return steps.items
    for step in steps:
        if not isinstance(step, Mapping):
            raise TypeError(f"chain takes signatures, not {safe_repr(step, 200)}")
    return list(steps)


def join(headers: str | None, steps: Any) -> str:
    """The headers, which are JSON or None, with these steps at their end. Raises EncodeError, TypeError."""
    lines = _BETWEEN.join(map(_line, raw(steps)))
    before = "{" if headers is None or headers == "{}" else headers[:-1] + ","
    return f"{before}{_BEGIN}{lines}{_END}"


def split(headers: str) -> tuple[str, Steps | None]:
    """The headers without the steps that `join` has put there, and these; None for those of any other writer."""
    if not headers.endswith(_END):
        return headers, None
    before, found, lines = headers.partition(_BEGIN)
    if not found:
        return headers, None
    return before.rstrip(",") + "}", Steps(lines[: -len(_END)].split(_BETWEEN))


def _line(step: Any) -> str:
    return step if isinstance(step, str) else dumps(step, "json")[1].decode()
