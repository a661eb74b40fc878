"""Tasks that can be asked to stop: the caller aborts the result, and the task looks now and then whether it was.

@shared_task(bind=True, base=AbortableTask)
def export(self):
    for row in rows:
        if self.is_aborted():
            return "stopped"
        ...

result = export.delay()
result.abort()
"""

from collections.abc import Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, Unpack

from djtasks.calls import CallOptions
from djtasks.db.connections import borrow
from djtasks.db.results import report
from djtasks.ids import as_task_id
from djtasks.messages import Progress
from djtasks.payload import pack_value
from djtasks.result import AsyncResult
from djtasks.task import Task

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

#: The state of a task that has been asked to stop.
ABORTED = "ABORTED"


class AbortableAsyncResult(AsyncResult[R_co]):
    """The result of a task that can be asked to stop."""

    __slots__ = ()

    def is_aborted(self) -> bool:
        """Whether it has been asked to, and has not ended since."""
        return self.state == ABORTED

    def abort(self) -> bool:
        """Ask it to stop. Whether there was anything to ask: False for a task that has ended, or is not known."""
        content_type, encoding, body = pack_value(None)
        progress = Progress(0, as_task_id(self.id), ABORTED, body, content_type, encoding)
        return bool(report(borrow(), [progress]))


class AbortableTask(Task[P, R]):
    """The base class of tasks that can be asked to stop."""

    abstract = True

    def AsyncResult(self, task_id: str, **kwargs: Any) -> AbortableAsyncResult[R]:
        """The result of a call of this task, by its id."""
        return AbortableAsyncResult(task_id, task_name=self.name, **kwargs)

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Enqueue the task with these arguments; an AbortableAsyncResult, or an EagerResult in eager mode."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> Any:
        """As `Task.apply_async`; an AbortableAsyncResult, or an EagerResult in eager mode."""
        sent = super().apply_async(args, kwargs, **options)
        if type(sent) is not AsyncResult:
            return sent
        result = self.AsyncResult(sent.id)
        result.ignored = sent.ignored
        return result

    def is_aborted(self, **kwargs: Any) -> bool:
        """Whether the task that runs (or that of `task_id`) has been asked to stop. It asks the database each time."""
        task_id = kwargs.get("task_id", self.request.id)
        result = None if task_id is None else self.AsyncResult(task_id)
        return isinstance(result, AbortableAsyncResult) and result.is_aborted()
