"""What a task's class may override, and what a task makes signatures of."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec

from djtasks.canvas import maps
from djtasks.canvas.signature import Signature
from djtasks.einfo import ExceptionInfo

_P = ParamSpec("_P")


def _does_nothing(handler: Callable[_P, None]) -> Callable[_P, None]:
    """Mark a handler that a run need not call. (A mark, because a class or a test may put another in its place.)"""
    handler.does_nothing = True  # type: ignore[attr-defined]
    return handler


class Handlers:
    """What becomes of a run: for classes to override. What they return is ignored."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Called in the worker before the task; what it raises is the task's failure."""

    @_does_nothing
    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Called in the worker when the task has returned and its result can be stored."""

    @_does_nothing
    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: ExceptionInfo) -> None:
        """Called in the worker when the task has failed for good."""

    def on_retry(self, exc: BaseException | None, task_id: str, args: Any, kwargs: Any, einfo: ExceptionInfo) -> None:
        """Called in the worker when the task is to run again."""

    @_does_nothing
    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called in the worker after a success or a failure; `einfo` is None."""

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Called when a task of this class has been registered."""


class Signatures:
    """Calls of a task as data."""

    def signature(self, args: Sequence[Any] | None = None, *more: Any, **kwargs: Any) -> Signature:
        """A call of the task as data: `task.signature((1, 2), countdown=5)`, with what `Signature` takes."""
        return Signature(self, args, *more, **kwargs)

    subtask = signature

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """A call with these arguments as data; what it is sent with is put before them."""
        return Signature(self, args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """A call with these arguments as data, which takes no others."""
        return Signature(self, args, kwargs, immutable=True)

    def map(self, it: Iterable[Any]) -> maps.xmap:
        """One task that calls this one for each of `it`, and returns the list of what they returned."""
        return maps.xmap(self.s(), it)

    def starmap(self, it: Iterable[Sequence[Any]]) -> maps.xstarmap:
        """As `map`, where each of `it` is a row of arguments."""
        return maps.xstarmap(self.s(), it)

    def chunks(self, it: Iterable[Sequence[Any]], n: int) -> maps.chunks:
        """A group of tasks: one `starmap` for every `n` rows of arguments."""
        return maps.chunks(self.s(), it, n)
