"""What the tables know of a call, as the `TaskResult` of `django.tasks`."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.conf import settings as django_settings
from django.utils import timezone

from djtasks.backends.compat import (
    DEFAULT_TASK_QUEUE_NAME,
    AnyResult,
    AnyTask,
    TaskError,
    TaskResult,
    TaskResultStatus,
    normalize_json,
    task_backends,
)
from djtasks.backends.history import History, path_of
from djtasks.conf import settings
from djtasks.db.known import Known
from djtasks.described import plain
from djtasks.exceptions import DjtasksError
from djtasks.payload import headers_of, unpack_call, unpack_exception, unpack_value
from djtasks.states import EXCEPTION_STATES, READY_STATES, RETRY, REVOKED, SUCCESS

READY, RUNNING = TaskResultStatus.READY, TaskResultStatus.RUNNING
FAILED, SUCCESSFUL = TaskResultStatus.FAILED, TaskResultStatus.SUCCESSFUL


# -- queues: Django's "default" is whatever our default queue is called -------------------------------------------


def _has_default_of_its_own() -> bool:
    return settings.TASK_QUEUES is not None and DEFAULT_TASK_QUEUE_NAME in settings.TASK_QUEUES


def queue_of(queue_name: str) -> str:
    """The queue in which the tasks of Django's queue of this name wait."""
    if queue_name == DEFAULT_TASK_QUEUE_NAME and not _has_default_of_its_own():
        return settings.TASK_DEFAULT_QUEUE
    return queue_name


def queue_name_of(queue: str) -> str:
    """The other way round."""
    if queue == settings.TASK_DEFAULT_QUEUE and not _has_default_of_its_own():
        return DEFAULT_TASK_QUEUE_NAME
    return queue


# -- time ---------------------------------------------------------------------------------------------------------


def moment(seconds: float | None) -> datetime | None:
    """Seconds since the epoch as Django's own clock says it: aware, but without USE_TZ."""
    if seconds is None:
        return None
    return local(datetime.fromtimestamp(seconds, UTC))


def aware(when: datetime) -> datetime:
    """A moment of Django's with its zone: without USE_TZ that is TIME_ZONE."""
    return timezone.make_aware(when) if timezone.is_naive(when) else when


def local(when: datetime | None) -> datetime | None:
    """The other way round."""
    return when if when is None or django_settings.USE_TZ else timezone.make_naive(when)


def now() -> datetime:
    """This moment."""
    return timezone.now()


# -- making -------------------------------------------------------------------------------------------------------


def variant(task: AnyTask, **changes: Any) -> AnyTask:
    """`task` with other attributes, as `using` makes it; without asking the backend whether that may be."""
    if all(getattr(task, name) == value for name, value in changes.items()):
        return task
    made: AnyTask = object.__new__(type(task))
    for field in dataclasses.fields(task):
        object.__setattr__(made, field.name, changes.get(field.name, getattr(task, field.name)))
    return made


def new(task: AnyTask, backend: str, args: Any, kwargs: Any, **known: Any) -> AnyResult:
    """A result of this call, READY where `known` says nothing else. Raises TypeError for what JSON cannot carry."""
    said: dict[str, Any] = {
        "id": "",
        "status": READY,
        "enqueued_at": None,
        "started_at": None,
        "last_attempted_at": None,
        "finished_at": None,
        "errors": [],
        "worker_ids": [],
    }
    return TaskResult(task=task, backend=backend, args=args, kwargs=kwargs, **(said | known))


def change(result: AnyResult, **changes: Any) -> None:
    """Change a result, which nobody else may."""
    for name, value in changes.items():
        object.__setattr__(result, name, value)


def fitting(value: Any) -> Any:
    """Arguments as JSON has them: a call that did not come from Django may carry what its JSON does not."""
    try:
        return normalize_json(value)
    except (TypeError, ValueError):
        return plain(value)


def alias_of(history: History, task: AnyTask, default: str) -> str:
    """The backend that a call was made with; `default` where there is none of that name any more."""
    said = history.backend or task.backend
    return said if said in task_backends.settings else default


def errors_of(history: History) -> list[TaskError]:
    """The errors of the attempts before."""
    return [TaskError(exception_class_path=path, traceback=text) for path, text in history.errors]


def error_of(error: BaseException, traceback: str | None) -> TaskError:
    """An error as Django keeps it."""
    return TaskError(exception_class_path=path_of(type(error)), traceback=traceback or "")


# -- reading ------------------------------------------------------------------------------------------------------


def of_known(found: Known, task: AnyTask, alias: str, tracked: bool = True) -> AnyResult:
    """The result of a call of `task`, of which the tables know this; `alias` is that of the backend that was asked.

    `tracked` says that its beginning is stored; else it is taken to run once a worker has it. Raises ContentDisallowed,
    DecodeError and their kin when what was returned cannot be read.
    """
    history = History.of_row(found.headers)
    backend = alias_of(history, task, alias)
    asked = variant(
        task,
        priority=found.priority,
        queue_name=queue_name_of(found.queue),
        run_after=local(history.moment),
        backend=backend,
    )
    args, kwargs = _arguments(found)
    status = _status(found, tracked)
    ran = found.state not in (None, RETRY, REVOKED)
    workers = [*history.workers, *([found.worker] if ran and found.worker else [])]
    last = moment(found.started if ran or history.workers else None)
    result = new(
        asked,
        backend,
        fitting(args),
        fitting(kwargs),
        id=str(headers_of(found.headers).get("task_id") or found.id),
        status=status,
        enqueued_at=moment(found.created),
        started_at=moment(history.first) if len(workers) > 1 and history.first else last,
        last_attempted_at=last,
        finished_at=moment(found.done),
        errors=errors_of(history),
        worker_ids=workers,
    )
    if status == SUCCESSFUL and found.result is not None:
        value = unpack_value(found.result, found.content_type or "", found.content_encoding or "")
        change(result, _return_value=fitting(value))
    elif status == FAILED and found.state in EXCEPTION_STATES and found.result is not None:
        error = unpack_exception(found.result, found.content_type or "", found.content_encoding or "")
        result.errors.append(error_of(error if isinstance(error, BaseException) else Exception(), found.traceback))
    return result


def _status(found: Known, tracked: bool) -> TaskResultStatus:
    if not found.unended and found.state in READY_STATES:
        return SUCCESSFUL if found.state == SUCCESS else FAILED
    if not found.unended:
        # It has raised Ignore: it has ended, and says nothing of how.
        return SUCCESSFUL
    begun = found.state not in (None, RETRY) or not tracked
    return RUNNING if found.held and begun else READY


def _arguments(found: Known) -> tuple[Sequence[Any], Mapping[str, Any]]:
    if found.body is None:
        return (), {}
    try:
        return unpack_call(
            found.body,
            found.body_content_type or "",
            found.body_content_encoding or "",
            found.name,
            found.id,
            found.headers,
        )
    except DjtasksError:
        # It cannot be run either, and its errors say why.
        return (), {}
