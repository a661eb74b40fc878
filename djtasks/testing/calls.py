"""What has been enqueued and not been run, as tests want to look at it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from djtasks.db import drain as table
from djtasks.db.connections import borrow
from djtasks.payload import headers_of, unpack_call
from djtasks.registry import tasks
from djtasks.result import AsyncResult
from djtasks.testing.commit import as_if_committed


class Call(NamedTuple):
    """One call of a task that waits."""

    id: str
    #: The task's name.
    name: str
    #: As the task will get them.
    args: Sequence[Any]
    kwargs: dict[str, Any]
    queue: str
    priority: int
    eta: datetime | None
    expires: datetime | None
    #: When it was enqueued.
    created: datetime
    retries: int
    #: What djtasks says of it beside all that, and the caller's own headers.
    headers: dict[str, Any]

    @property
    def countdown(self) -> float | None:
        """Seconds from the call to its eta, or None."""
        return None if self.eta is None else (self.eta - self.created).total_seconds()

    @property
    def task(self) -> Any:
        """The task. Raises NotRegistered."""
        return tasks[self.name]

    @property
    def result(self) -> AsyncResult[Any]:
        """Its result."""
        return AsyncResult(self.id, task_name=self.name)

    def __str__(self) -> str:
        args = [repr(arg) for arg in self.args] + [f"{name}={value!r}" for name, value in self.kwargs.items()]
        more = [f"queue={self.queue!r}"]
        if self.priority:
            more.append(f"priority={self.priority}")
        if self.countdown is not None:
            more.append(f"countdown={self.countdown:g}")
        return f"{self.name}({', '.join(args)}) [{', '.join(more)}]"


def enqueued(task: Any = None, *, after: int = 0) -> list[Call]:
    """What waits now or for later, oldest first; only calls of `task` (a task or its name).

    What waits for the commit of this thread's transaction is written into it first, as its commit would have it.
    """
    as_if_committed()
    name = None if task is None else name_of(task)
    found = table.waiting(borrow(), after)
    return [_call_of(row) for row in found if name is None or row.name == name]


def name_of(task: Any) -> str:
    """The name of a task, or the name itself."""
    name: str = task if isinstance(task, str) else task.name
    return name


@contextmanager
def captured(task: Any = None) -> Iterator[list[Call]]:
    """A list of the calls that were enqueued inside, and still wait; it is filled when the block ends.

    Only calls of `task`, where one is named.
    """
    as_if_committed()
    last = table.last_position(borrow())
    calls: list[Call] = []
    yield calls
    calls.extend(enqueued(task, after=last))


def _call_of(row: table.Waiting) -> Call:
    args, kwargs = unpack_call(row.body, row.content_type, row.content_encoding, row.name, row.id, row.headers)
    return Call(
        row.id,
        row.name,
        args,
        kwargs,
        row.queue,
        row.priority,
        _moment(row.eta),
        _moment(row.expires),
        datetime.fromtimestamp(row.created, UTC),
        row.retries,
        dict(headers_of(row.headers)),
    )


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
