"""`xmap`, `xstarmap` and `chunks`: one task for many calls."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from djtasks.canvas.composite import Composite
from djtasks.canvas.group import group
from djtasks.canvas.linked import signature_of
from djtasks.canvas.signature import Signature, part_of
from djtasks.canvas.types import kept
from djtasks.exceptions import safe_repr


class _Map(Signature):
    __slots__ = ()
    _task_name = ""
    _shown = ""

    def __init__(self, task: Any, it: Any, **options: Any) -> None:
        """`task` is the task, or a signature of it, `it` what it is called with, one after the other."""
        super().__init__(self._task_name, (), {"task": task, "it": kept(it)}, immutable=True, **options)

    @classmethod
    def from_dict(cls, d: dict[str, Any], app: Any = None) -> Any:
        """The map that a dict describes."""
        return cls(part_of(d, "task"), part_of(d, "it"), **(d.get("options") or {}))

    def __repr__(self) -> str:
        return f"[{_name(self['kwargs']['task'])}({self._shown}) for x in {_short(self['kwargs']['it'])}]"


@Signature.register_type()
class xmap(_Map):
    """One task that calls another for each of `it`, and returns the list of what it returned."""

    __slots__ = ()
    _task_name = "celery.map"
    _shown = "x"


@Signature.register_type()
class xstarmap(_Map):
    """As `xmap`, where each of `it` is a row of arguments."""

    __slots__ = ()
    _task_name = "celery.starmap"
    _shown = "*x"


@Signature.register_type()
class chunks(Composite):
    """The calls of a task, so many at a time: a group of `xstarmap`. Its result is a list of lists."""

    __slots__ = ()

    def __init__(self, task: Any, it: Any, n: int, **options: Any) -> None:
        """`it` are rows of arguments, `n` how many of them are one task. Raises ValueError for less than one."""
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(f"a chunk holds at least one row, not {safe_repr(n, 200)}")
        super().__init__("celery.chunks", (), {"task": task, "it": kept(it), "n": n}, immutable=True, **options)

    @classmethod
    def from_dict(cls, d: dict[str, Any], app: Any = None) -> Any:
        """The chunks that a dict describes."""
        return cls(part_of(d, "task"), part_of(d, "it"), part_of(d, "n"), **(d.get("options") or {}))

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Enqueue them; a GroupResult."""
        return self.apply_async(**options)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        route_name: str | None = None,
        **options: Any,
    ) -> Any:
        """Enqueue them, a task for each chunk; a GroupResult. `options` are those of all."""
        return self.group().apply_async(None, None, **{**self["options"], **options})

    def apply(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run them here and now; a GroupResult."""
        return self.group().apply(None, None, **{**self["options"], **options})

    def group(self) -> Any:
        """The group of chunks: made when it is sent, one by one."""
        said = self["kwargs"]
        return group(xstarmap(said["task"], part) for part in _parts(iter(said["it"]), said["n"]))

    def __or__(self, other: Any) -> Any:
        """A chord with the group of chunks as its header."""
        return self.group() | other

    @classmethod
    def apply_chunks(cls, task: Any, it: Any, n: int, app: Any = None) -> Any:
        """Enqueue the calls of a task, so many at a time; a GroupResult."""
        return cls(task, it, n)()


def _parts(rows: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while part := list(islice(rows, size)):
        yield part


def _name(task: Any) -> str:
    return str(getattr(task, "name", None) or signature_of(task).task)


def _short(value: Any) -> str:
    return text if len(text := repr(value)) <= 100 else text[:97] + "..."
