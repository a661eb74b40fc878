"""The commands that workers know: `@control_command` changes something, `@inspect_command` only looks.

    @inspect_command(args=[("unit", str)], signature="[unit=MB]")
    def memory(state, unit="MB"):
        "How much memory the worker uses."
        return {"ok": ...}

`state` knows the worker: `state.hostname`, `state.app`, `state.consumer`. What is returned is the worker's answer: what
JSON can say; by custom {"ok": …} or {"error": …}. A command is known where its module is imported: in the
worker, which obeys it, and in `manage.py djtasks inspect`, which reads its arguments.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar, overload

#: The first argument of a command is the worker; the others are its own.
Work = Callable[..., Any]
F = TypeVar("F", bound=Work)


class Info(NamedTuple):
    """What is known of a command."""

    type: str
    help: str
    #: Its arguments, as `--list` shows them.
    signature: str | None
    #: Names and types of those that stand in order on the command line.
    args: Sequence[tuple[str, Callable[[str], Any] | None]]
    #: The name of the argument that takes the rest of the line.
    variadic: str | None
    alias: str | None
    visible: bool
    default_timeout: float
    #: It may be answered by another thread of the worker, while the worker itself is at a task.
    anywhere: bool


class Panel:
    """All commands of this process."""

    data: ClassVar[dict[str, Work]] = {}
    meta: ClassVar[dict[str, Info]] = {}

    @classmethod
    def register(cls, fun: Work | None = None, *, type: str = "control", **options: Any) -> Any:
        """Make a function a command; a decorator, with or without options. Raises TypeError for an unknown option."""
        if fun is None:
            return lambda function: cls._register(function, type, **options)
        return cls._register(fun, type, **options)

    @classmethod
    def _register(
        cls,
        fun: Work,
        kind: str,
        *,
        name: str | None = None,
        alias: str | None = None,
        help: str | None = None,
        signature: str | None = None,
        args: Sequence[tuple[str, Callable[[str], Any] | None]] | None = None,
        variadic: str | None = None,
        visible: bool = True,
        default_timeout: float = 1.0,
        anywhere: bool = False,
    ) -> Work:
        known = name or fun.__name__
        says = (help or fun.__doc__ or "").strip().partition("\n")[0]
        cls.data[known] = fun
        cls.meta[known] = Info(kind, says, signature, args or (), variadic, alias, visible, default_timeout, anywhere)
        if alias:
            cls.data[alias] = fun
        return fun

    @classmethod
    def info(cls, name: str) -> Info | None:
        """What is known of the command of this name, or alias."""
        return cls.meta.get(name) or next((each for each in cls.meta.values() if each.alias == name), None)

    @classmethod
    def names(cls, kind: str) -> list[str]:
        """The commands of a type that are shown."""
        return sorted(name for name, info in cls.meta.items() if info.type == kind and info.visible)

    @classmethod
    def reading(cls) -> list[str]:
        """The commands that change nothing: what was asked and answered is soon forgotten."""
        found = [name for name, info in cls.meta.items() if info.type == "inspect"]
        return [*found, *(info.alias for info in cls.meta.values() if info.type == "inspect" and info.alias)]


@overload
def control_command(fun: F) -> F: ...
@overload
def control_command(fun: None = None, **options: Any) -> Callable[[F], F]: ...
def control_command(fun: Any = None, **options: Any) -> Any:
    """A command that changes something: its options are those of `Panel.register`."""
    return Panel.register(fun, type="control", **options)


@overload
def inspect_command(fun: F) -> F: ...
@overload
def inspect_command(fun: None = None, **options: Any) -> Callable[[F], F]: ...
def inspect_command(fun: Any = None, **options: Any) -> Any:
    """A command that only looks: its options are those of `Panel.register`."""
    return Panel.register(fun, type="inspect", **options)
