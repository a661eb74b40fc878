"""What all signatures share below them: the types there are, members that are read when they are needed, and a bound.

Whatever must reach a type that stands above it finds it here by its name: `TYPES["group"]`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

#: The classes of signatures by their `subtask_type`.
TYPES: Final[dict[str, Any]] = {}
#: How deep groups, chains, chords and links may stand in one another.
NESTING_MAX: Final = 100
#: So many members of a generator are kept when they are sent, so that they can be sent again.
_KEPT: Final = 10_000


class Lazy(list[Any]):
    """The items of a generator, read when they are needed and then kept; to others a list.

    `isinstance(tasks, Lazy)` says that nobody knows yet how many there are.
    """

    __slots__ = ("_error", "_read", "_source", "_spent")
    __hash__ = None

    def __init__(self, source: Iterable[Any]) -> None:
        super().__init__()
        self._source = iter(source)
        self._read: list[Any] = []
        self._spent = False
        self._error: BaseException | None = None

    def has(self, count: int) -> bool:
        """Whether there are at least so many; reads no further."""
        self._take(max(0, count - len(self._read)))
        return len(self._read) >= count

    def _take(self, count: int | None) -> None:
        """Read so many more, or all. What the generator raises is raised again, whoever reads on: it has no end."""
        self._refuse_if_spent()
        if self._error is not None:
            raise self._error
        try:
            self._read.extend(islice(self._source, count))
        except BaseException as error:
            self._error = error
            raise

    @property
    def read(self) -> list[Any]:
        """Those that have been read already."""
        return self._read

    def map(self, change: Callable[[Any], Any]) -> None:
        """Put `change(item)` in the place of each, of those to come when they are read."""
        self._refuse_if_spent()
        self._read[:] = map(change, self._read)
        self._source = map(change, self._source)

    def stream(self) -> Iterator[Any]:
        """All of them, once: more than a few thousand are not kept, and cannot be read again."""
        self._refuse_if_spent()
        yield from self._read
        while not self._spent and self.has(len(self._read) + 1):
            yield self._read[-1]
            if len(self._read) == _KEPT:
                self._read, self._spent = [], True
        if self._spent:
            yield from self._source

    def _whole(self) -> list[Any]:
        self._take(None)
        return self._read

    def _refuse_if_spent(self) -> None:
        if self._spent:
            raise RuntimeError(
                "these members came from a generator and have been sent; give the group a list to send it more often"
            )

    def __iter__(self) -> Iterator[Any]:
        number = 0
        while self.has(number + 1):
            yield self._read[number]
            number += 1

    def __bool__(self) -> bool:
        return self.has(1)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int) and index >= 0:
            self.has(index + 1)
            return self._read[index]
        return self._whole()[index]

    def __length_hint__(self) -> int:
        return len(self._read)

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self._whole()),)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Lazy":
        return self

    def __repr__(self) -> str:
        return "[<many, sent already>]" if self._spent else repr(self._whole())


def _of_all(name: str) -> Callable[..., Any]:
    def method(self: Lazy, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._whole(), name)(*args, **kwargs)

    return method


for _name in (
    *("append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort"),
    *("__add__", "__contains__", "__delitem__", "__eq__", "__ge__", "__gt__", "__le__", "__len__", "__lt__"),
    *("__mul__", "__ne__", "__reversed__", "__rmul__", "__setitem__"),
):
    setattr(Lazy, _name, _of_all(_name))


def kept(items: Iterable[Any]) -> list[Any]:
    """A list of its own of what is one, else a Lazy one."""
    return list(items) if isinstance(items, list | tuple) and not isinstance(items, Lazy) else Lazy(items)


def is_list(value: Any) -> bool:
    """Whether it is some sequence of things and not one thing; a signature is one thing."""
    return isinstance(value, Iterable) and not isinstance(value, Mapping | str | bytes)


def as_list(value: Any) -> list[Any]:
    """An option that may be one thing, several or None, as a list of its own."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple | set | frozenset) else [value]


def without_repetition(task: Any, text: str) -> str:
    """`text` with the module of this task's name at its first place only: `shop.add(1) | add(2)`."""
    module = str(task).rpartition(".")[0] + "."
    head, found, rest = text.partition(module)
    return head + found + rest.replace(module, "") if found and module != "." else text


def check_nesting(made: Any) -> None:
    """Raise RecursionError for a signature that is nested too deep, RuntimeError for one that holds itself."""
    heights: dict[int, int] = {}
    path = [(made, _held(made))]
    above = {id(made)}
    while path:
        parent, held = path[-1]
        for each in held:
            if id(each) in above:
                raise RuntimeError(f"a signature of {each.get('task')} holds itself: nothing could ever begin with it")
            if id(each) not in heights:
                path.append((each, _held(each)))
                above.add(id(each))
                break
        else:
            path.pop()
            above.discard(id(parent))
            heights[id(parent)] = 1 + max((heights[id(each)] for each in _held(parent)), default=0)
        if len(path) > NESTING_MAX or heights.get(id(made), 0) > NESTING_MAX:
            raise RecursionError(
                f"groups, chains, chords and links stand more than {NESTING_MAX} deep in one another;"
                " start what is further in from a task"
            )


def _held(made: Any) -> Iterator[Any]:
    """The signatures that this one holds, as far as they are known."""
    options, kwargs = made.get("options"), made.get("kwargs")
    if options:
        yield from _signatures(options.get("link"))
        yield from _signatures(options.get("link_error"))
    if made.get("subtask_type") is not None and isinstance(kwargs, Mapping):
        yield from _signatures(kwargs.get("tasks"))
        yield from _signatures(kwargs.get("header"))
        yield from _signatures(kwargs.get("body"))


def _signatures(value: Any) -> Iterator[Any]:
    if isinstance(value, Lazy):
        value = value.read
    for each in value if isinstance(value, list | tuple) else (value,):
        if isinstance(each, dict) and (each.get("subtask_type") is not None or each.get("options")):
            yield each
