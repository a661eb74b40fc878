"""`PostgresBackend`: Django's own tasks in djtasks' tables, run by djtasks' workers."""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.checks import CheckMessage
from django.db import DEFAULT_DB_ALIAS, connections, transaction

from djtasks import announce, outbox, publisher, signals
from djtasks.backends import checks, options, results
from djtasks.backends.compat import (
    TASK_MAX_PRIORITY,
    TASK_MIN_PRIORITY,
    AnyResult,
    AnyTask,
    BaseTaskBackend,
    InvalidTask,
    InvalidTaskBackend,
    TaskResultDoesNotExist,
    task_enqueued,
)
from djtasks.backends.runner import Runner, register
from djtasks.backends.task import PostgresTask
from djtasks.conf import settings
from djtasks.conf.kinds import Unfit, queue_name
from djtasks.db.connections import borrow
from djtasks.db.known import Known, known
from djtasks.delivery import Posting
from djtasks.eager import EagerResult
from djtasks.exceptions import QueueNotFound, safe_repr
from djtasks.ids import as_task_id, new_task_id
from djtasks.messages import Message
from djtasks.registry import tasks
from djtasks.states import SUCCESS

#: The longest id that Django allows for.
ID_MAX = 64
Call = tuple[AnyTask, Sequence[Any], Mapping[str, Any]]


class PostgresBackend(BaseTaskBackend):
    """TASKS = {"default": {"BACKEND": "djtasks.backends.PostgresBackend", "QUEUES": […], "OPTIONS": {…}}}.

    OPTIONS are those of `djtasks.backends.options`. Raises InvalidTaskBackend when they are wrong.
    """

    task_class: ClassVar[type[AnyTask]] = PostgresTask  # type: ignore[misc]
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, checks.checked(alias, params))
        where = f"TASKS[{alias!r}]['OPTIONS']"
        for problem in options.problems(self.options, where):
            raise InvalidTaskBackend(problem)
        #: OPTIONS in their one form.
        self.said = options.read(self.options)

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """What is wrong with the settings around it."""
        return list(checks.problems(self.alias, self.queues, self.said))

    # -- validating -----------------------------------------------------------------------------------------------

    def validate_task(self, task: AnyTask) -> None:
        """Raise InvalidTask when the task cannot be enqueued here; else have it known here, and so in workers."""
        if task.run_after is not None and not isinstance(task.run_after, datetime):
            raise InvalidTask(f"run_after must be a datetime, not {safe_repr(task.run_after, 200)}.")
        if not isinstance(task.priority, int | float) or task.priority != task.priority:
            raise InvalidTask(f"priority must be a whole number between {TASK_MIN_PRIORITY} and {TASK_MAX_PRIORITY}.")
        try:
            queue_name(task.queue_name)
        except Unfit as error:
            raise InvalidTask(f"queue_name {error}.") from None
        super().validate_task(task)
        if isinstance(task, PostgresTask) and task.options is not None:
            for problem in options.problems(task.options, f"options of {task.module_path}", of_task=True):
                raise InvalidTask(f"{problem}.")
        self._register(task)

    def _register(self, task: AnyTask) -> Runner:
        found = tasks.get(task.module_path)
        if isinstance(found, Runner) and found.django_task.func is task.func:
            return found
        return register(task, options.attributes(self.said, _own(task)))

    def adopt(self, task: AnyTask) -> None:
        """Have a task that is another backend's known here, without asking whether it may be enqueued."""
        register(task, options.attributes(self.said))

    # -- enqueueing -----------------------------------------------------------------------------------------------

    def enqueue(self, task: AnyTask, args: Any, kwargs: Any) -> Any:
        """Enqueue a call; its result, READY.

        Inside a transaction it is written as ENQUEUE says. Raises InvalidTask, TypeError for arguments that JSON cannot
        carry, PayloadTooLarge, and OperationalError when the database cannot be reached.
        """
        self.validate_task(task)
        result = results.new(task, self.alias, args, kwargs)
        runner = self._register(task)
        said = self._call_options(task, runner)
        if settings.TASK_ALWAYS_EAGER:
            return _run_eagerly(result, runner, said)
        with _queues_known():
            sent = publisher.publish(runner.name, result.args, result.kwargs, said, runner)
        results.change(result, id=sent.id, enqueued_at=results.now())
        self._tell_enqueued([result], said.get("enqueue"))
        return result

    def enqueue_all(self, calls: Iterable[Call]) -> list[AnyResult]:
        """Enqueue many calls, each (task, args, kwargs), in one statement; their results, in order.

        All of them are enqueued or none is. Raises as `enqueue` does, and TypeError for what is no call.
        """
        given = [_checked(call, number) for number, call in enumerate(calls)]
        for task, _, _ in given:
            self.validate_task(task)
        made = [results.new(task, self.alias, args, kwargs) for task, args, kwargs in given]
        if settings.TASK_ALWAYS_EAGER:
            return [self.enqueue(task, args, kwargs) for task, args, kwargs in given]
        modes: dict[str | None, list[AnyResult]] = {}
        messages: dict[str | None, list[Message]] = {}
        for result in made:
            runner = self._register(result.task)
            said = self._call_options(result.task, runner)
            with _queues_known():
                message = publisher.build(runner.name, result.args, result.kwargs, said, runner)
            results.change(result, id=str(said.get("task_id") or message.id), enqueued_at=results.now())
            modes.setdefault(said.get("enqueue"), []).append(result)
            messages.setdefault(said.get("enqueue"), []).append(message)
            if signals.after_task_publish.receivers or signals.task_sent.receivers:
                announce.after(message, result.args, result.kwargs, said)
        posting = Posting(anew="ID_FUNCTION" in self.said)
        for mode, some in messages.items():
            with publisher.all_or_none(mode, None):
                outbox.enqueue_many(some, mode=mode, chunk=len(some) + 1, posting=posting)
            self._tell_enqueued(modes[mode], mode)
        return made

    async def aenqueue_all(self, calls: Iterable[Call]) -> list[AnyResult]:
        """As `enqueue_all`, where Django's asynchronous ORM does its own work."""
        return await sync_to_async(self.enqueue_all, thread_sensitive=True)(calls)

    def _call_options(self, task: AnyTask, runner: Runner) -> dict[str, Any]:
        said = runner.call_options(task, self.alias)
        if (mode := _own(task).get("ENQUEUE", self.said.get("ENQUEUE"))) is not None:
            said["enqueue"] = mode
        if (make := self.said.get("ID_FUNCTION")) is not None:
            said["task_id"] = _id_of(make())
        return said

    def _tell_enqueued(self, enqueued: Sequence[AnyResult], mode: str | None) -> None:
        """Tell the receivers of Django's signal, once it is true."""
        tell = functools.partial(_tell_enqueued, type(self), enqueued)
        if (mode or settings.ENQUEUE) == outbox.ON_COMMIT and connections[DEFAULT_DB_ALIAS].in_atomic_block:
            transaction.on_commit(tell, robust=True)
        else:
            tell()

    # -- looking --------------------------------------------------------------------------------------------------

    def get_result(self, result_id: str) -> AnyResult:
        """The result of a call, as it is now. Raises TaskResultDoesNotExist."""
        try:
            row = as_task_id(result_id)
        except (TypeError, ValueError):
            raise TaskResultDoesNotExist(result_id) from None
        found = known(borrow(), [row]).get(row) or _uncommitted(row)
        if found is None:
            raise TaskResultDoesNotExist(result_id)
        runner = tasks.get(found.name)
        if not isinstance(runner, Runner):
            raise TaskResultDoesNotExist(
                f"{result_id} is a call of {found.name!r}, which is no task of django.tasks that is imported here"
            )
        return results.of_known(found, runner.django_task, self.alias, runner.track_started)


def _own(task: AnyTask) -> dict[str, Any]:
    """The options of a task itself."""
    return options.read(task.options) if isinstance(task, PostgresTask) and task.options else {}


@contextmanager
def _queues_known() -> Iterator[None]:
    """What TASK_CREATE_MISSING_QUEUES=False does not allow is an invalid task."""
    try:
        yield
    except QueueNotFound as error:
        raise InvalidTask(f"{error}.") from error


def _checked(call: Any, number: int) -> Call:
    try:
        task, args, kwargs = call
    except (TypeError, ValueError):
        task = args = kwargs = None
    if hasattr(task, "module_path") and isinstance(args, list | tuple) and isinstance(kwargs, Mapping):
        return task, args, kwargs
    raise TypeError(f"call {number} must be (task, args, kwargs), not {safe_repr(call, 200)}")


def _id_of(made: Any) -> str:
    """What ID_FUNCTION has returned, as an id. Raises ValueError."""
    text = str(made) if isinstance(made, UUID) else made
    if not isinstance(text, str) or not 0 < len(text) <= ID_MAX:
        raise ValueError(f"ID_FUNCTION must return a UUID or a text of 1 to {ID_MAX} characters, not {safe_repr(made)}")
    as_task_id(text)
    return text


def _tell_enqueued(sender: type[PostgresBackend], enqueued: Sequence[AnyResult]) -> None:
    for result in enqueued:
        task_enqueued.send_robust(sender, task_result=result)


def _run_eagerly(result: AnyResult, runner: Runner, said: dict[str, Any]) -> AnyResult:
    """TASK_ALWAYS_EAGER: what Django's ImmediateBackend does."""
    said.setdefault("task_id", new_task_id())
    results.change(result, id=said["task_id"], enqueued_at=results.now())
    sender = type(result.task.get_backend())
    task_enqueued.send_robust(sender, task_result=result)
    began = results.now()
    done = runner.apply_async(result.args, result.kwargs, **said)
    assert isinstance(done, EagerResult)  # noqa: S101 -- what TASK_ALWAYS_EAGER makes of a call
    times = {"started_at": began, "last_attempted_at": began, "finished_at": results.now()}
    if done.state == SUCCESS:
        results.change(result, status=results.SUCCESSFUL, _return_value=done.result, **times)
    else:
        results.change(result, status=results.FAILED, **times)
        if isinstance(done.result, BaseException):
            result.errors.append(results.error_of(done.result, done.traceback))
    result.worker_ids.append("eager")
    return result


def _uncommitted(row: str) -> Known | None:
    """What is known of a call that waits for the commit of a transaction of this thread."""
    message = outbox.pending(row)
    if message is None:
        return None
    return Known(
        id=row,
        name=message.name,
        queue=message.queue,
        priority=message.priority,
        state=None,
        unended=True,
        held=False,
        created=results.now().timestamp(),
        started=None,
        done=None,
        worker=None,
        headers=message.headers,
        body=message.body,
        body_content_type=message.content_type,
        body_content_encoding=message.content_encoding,
        result=None,
        content_type=None,
        content_encoding=None,
        traceback=None,
    )
