"""Calling tasks, looking at what became of them, and keeping them from running."""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from djtasks import control
from djtasks.appstate import current_app
from djtasks.conf import settings
from djtasks.contrib.abortable import AbortableAsyncResult
from djtasks.exceptions import DjtasksError, OperationalError, PayloadTooLarge, TimeoutError, safe_repr
from djtasks.monitor.api.entry import Answer, Asked, answers
from djtasks.monitor.api.tasks import row_of
from djtasks.monitor.api.workers import known
from djtasks.monitor.respond import Problem
from djtasks.registry import tasks
from djtasks.result import AsyncResult
from djtasks.states import EXCEPTION_STATES, FAILURE, READY_STATES

logger = logging.getLogger("djtasks.monitor")
#: What of a call can be said beside its arguments: nothing that names code, databases or other tasks.
OPTIONS: Final = (
    "countdown",
    "eta",
    "exchange",
    "expires",
    "ignore_result",
    "priority",
    "queue",
    "routing_key",
    "soft_time_limit",
    "task_id",
    "time_limit",
)
_CALLS: Final = answers("POST", needs=("add_message",))


@_CALLS
def apply(asked: Asked, name: str) -> Answer:
    """Call a task, and wait for its end, MONITOR_API_TIMEOUT at the most; 202 when that is over."""
    asked.must("view_result", "view_payload_result")
    result = _call(asked, name, _task(name).apply_async)
    return _ended(asked, result, _patience(asked))


@_CALLS
def async_apply(asked: Asked, name: str) -> Answer:
    """Call a task that this process knows; its arguments are checked."""
    result = _call(asked, name, _task(name).apply_async)
    return Answer({"task-id": result.id, "state": "PENDING"})


@_CALLS
def send_task(asked: Asked, name: str) -> Answer:
    """Call a task by its name; arguments are not checked."""
    if not settings.MONITOR_API_SEND_UNKNOWN:
        _task(name)
    known(name)
    result = _call(asked, name, lambda args, kwargs, **options: current_app.send_task(name, args, kwargs, **options))
    return Answer({"task-id": result.id, "state": "PENDING"})


def _task(name: str) -> Any:
    found = tasks.get(known(name))
    if found is None:
        text = "GET api/task/types lists those that there are; MONITOR_API_SEND_UNKNOWN lets send-task call others"
        raise Problem(f"There is no task {safe_repr(name, 200)} here: {text}.", 404)
    return found


def _call(asked: Asked, name: str, send: Callable[..., Any]) -> Any:
    """Enqueue it. Raises Problem for what is no call."""
    args, kwargs, options = _arguments(asked.object())
    try:
        return send(args, kwargs, **options)
    except OperationalError:
        raise
    except PayloadTooLarge as error:
        raise Problem(f"The task was not called: {error}", 413) from None
    except (DjtasksError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Problem(f"The task was not called: {str(error)[:1000] or type(error).__name__}") from None
    except Exception as error:
        # A receiver of a signal, or a function of the project's that makes a key, may raise anything.
        logger.exception("%s was not called", name)
        raise Problem(f"The task was not called: {type(error).__name__} was raised; the log has it.") from None


def _arguments(said: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """What a call has. Raises Problem."""
    args, kwargs = said.get("args", []), said.get("kwargs", {})
    if not isinstance(args, list):
        raise Problem(f"args must be an array, as [1, 2], not {safe_repr(args, 100)}.")
    if not isinstance(kwargs, dict):
        raise Problem(f'kwargs must be an object, as {{"n": 1}}, not {safe_repr(kwargs, 100)}.')
    options = {key: each for key, each in said.items() if key not in ("args", "kwargs") and each is not None}
    if unknown := options.keys() - {*OPTIONS}:
        text = f"There is no option {safe_repr(min(unknown), 100)} here; there are args, kwargs, {', '.join(OPTIONS)}."
        raise Problem(text)
    if "eta" in options:
        options["eta"] = _time("eta", options["eta"])
    if isinstance(options.get("expires"), str):
        options["expires"] = _time("expires", options["expires"])
    return args, kwargs, options


def _time(name: str, text: Any) -> Any:
    try:
        found = parse_datetime(text) if isinstance(text, str) else None
    except ValueError:
        found = None
    if found is None:
        raise Problem(f"{name} must be a time as 2031-01-31T09:30:00+01:00, not {safe_repr(text, 100)}.")
    # As the command line reads it.
    return found if timezone.is_aware(found) else timezone.make_aware(found)


# -- what became of it ----------------------------------------------------------------------------------------------


def _patience(asked: Asked) -> float:
    """Seconds to wait for an end. Raises Problem."""
    most: float = settings.MONITOR_API_TIMEOUT
    said = asked.request.GET.get("timeout")
    if said is None:
        return most
    seconds = asked.seconds("timeout")
    if seconds is None or not 0 <= seconds <= most:
        raise Problem(f"timeout must be seconds from 0 to {most:g} (MONITOR_API_TIMEOUT), not {safe_repr(said, 100)}.")
    return seconds


def _ended(asked: Asked, result: AsyncResult[Any], seconds: float) -> Answer:
    """What became of it, by then."""
    if result.ignored:
        return Answer({"task-id": result.id, "state": "PENDING", "message": "Its result is ignored."})
    try:
        if not result.ready() and seconds > 0:
            result.get(timeout=seconds, propagate=False)
    except TimeoutError:
        pass
    told: dict[str, Any] = {"task-id": result.id, "state": result.state}
    if told["state"] not in READY_STATES:
        text = f"It has not ended within {seconds:g} s: ask for api/task/result/{result.id}"
        return Answer({**told, "message": text}, 202)
    if not asked.by.may("view_payload_result"):
        return Answer(told)
    try:
        value = result.result
    except DjtasksError as error:
        return Answer({**told, "result": f"cannot be read: {error}"})
    told["result"] = safe_repr(value, 10_000) if told["state"] in EXCEPTION_STATES else _plain(value)
    if told["state"] == FAILURE:
        told["traceback"] = result.traceback
    return Answer(told)


def _plain(value: Any) -> Any:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return safe_repr(value, 10_000)
    return value


@answers("GET", "result")
def result(asked: Asked, task_id: str) -> Answer:
    """`{"task-id": …, "state": …, "result": …}`; with `timeout` it waits so many seconds for the end."""
    row_of(task_id)
    found: AsyncResult[Any] = AsyncResult(task_id)
    seconds = _patience(asked) if asked.text("timeout") else 0.0
    if not found.exists():
        raise Problem(f"No task {safe_repr(task_id, 200)} is here: it left no result, or was never called.", 404)
    told = _ended(asked, found, seconds)
    return told if told.status == 200 or seconds else Answer({key: told.data[key] for key in ("task-id", "state")})


# -- keeping it from running ----------------------------------------------------------------------------------------


@answers("POST", needs=("revoke_message",))
def revoke(asked: Asked, task_id: str) -> Answer:
    """Let it not run; with `terminate` its process gets `signal`, if it runs already."""
    row_of(task_id)
    terminate = asked.flag("terminate")
    if terminate:
        asked.must("terminate_message")
    try:
        said = control.revoke([task_id], terminate=terminate, signal=asked.text("signal") or None, by=asked.by.name)
    except (TypeError, ValueError) as error:
        raise Problem(f"{error}.") from None
    what = said.get(task_id, "")
    return Answer({"message": f"Revoked {task_id!r}: {_MEANS.get(what, what)}.", "state": what})


_MEANS: Final = {
    "prevented": "it waited, and will not run",
    "signalled": "it runs, and is being ended",
    "running": "it runs, and goes on",
    "done": "it had ended before",
    "noted": "it is not there, and is refused should it come",
    "pending": "it is, when this request is over",
}


@answers("POST", needs=("revoke_message",))
def abort(asked: Asked, task_id: str) -> Answer:
    """Ask a task that is abortable to stop."""
    row_of(task_id)
    if not AbortableAsyncResult[Any](task_id).abort():
        raise Problem(f"No task {safe_repr(task_id, 200)} is here that has not ended: nothing was there to stop.", 404)
    return Answer({"message": f"Aborted {task_id!r}: it stops where it looks whether it is to."})
