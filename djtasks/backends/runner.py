"""What a worker knows a `django.tasks` task as: a task of djtasks that runs its function, and keeps Django's promises.

It is registered when the task is made, by the module that defines it: what a row names is looked up among these, and
nothing is imported for it.
"""

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from inspect import iscoroutinefunction
from typing import Any

from djtasks import signals
from djtasks.backends import results
from djtasks.backends.compat import (
    AnyResult,
    AnyTask,
    InvalidTask,
    TaskContext,
    normalize_json,
    task_backends,
    task_finished,
    task_started,
)
from djtasks.backends.history import History
from djtasks.canvas.signature import Signature
from djtasks.current import Context
from djtasks.einfo import ExceptionInfo, hide_frames_of
from djtasks.exceptions import Retry, TaskRevokedError
from djtasks.registry import tasks
from djtasks.task import Task

hide_frames_of(__file__)


class Runner(Task[..., Any]):
    """Runs a task of Django's."""

    django_task: AnyTask
    # get_result() is promised, and with it the arguments, and when a task has begun.
    ignore_result = False
    result_extended = True
    track_started = True
    # A call that does not fit the function fails when it runs, as with Django's own backends.
    typing = False

    @property
    def queue(self) -> str:
        """Where its calls go that do not say it themselves."""
        return results.queue_of(self.django_task.queue_name)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function. Raises what it raises, and TypeError when JSON cannot carry what it returns."""
        result, args = self._begin(args, kwargs)
        if not self.request.called_directly:
            task_started.send_robust(sender_of(result), task_result=result)
        return normalize_json(self.django_task.func(*args, **kwargs))

    def _begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[AnyResult, tuple[Any, ...]]:
        """The result of the run that begins, and what its function is called with."""
        request = self.request
        result = request.__dict__["_django_result"] = begun(self, request, args, kwargs)
        if self.django_task.takes_context:
            args = (TaskContext(task_result=result), *args)
        return result, args

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | str | None = None,
        countdown: float | timedelta | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """As that of every task; the attempt that ends with it is remembered."""
        frame = self._frame()
        if frame is not None and not frame.request.called_directly:
            history = History.read(frame.request.headers).after(frame, exc)
            options["headers"] = {**(options.get("headers") or {}), **history.as_headers()}
        return super().retry(args, kwargs, exc, throw, eta, countdown, max_retries, **options)

    def signature_of(self, task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Signature:
        """A call of `task`, a variant of this one, as data. Raises TypeError for what JSON cannot carry."""
        positional: Any = normalize_json(args)
        named: Any = normalize_json(kwargs)
        return Signature(self, positional, named, self.call_options(task, task.backend))

    def call_options(self, task: AnyTask, alias: str) -> dict[str, Any]:
        """The options of a call of `task`, a variant of this one, through the backend `alias`."""
        options: dict[str, Any] = {"queue": results.queue_of(task.queue_name), "priority": int(task.priority)}
        run_after = None
        if task.run_after is not None:
            options["eta"] = run_after = results.aware(task.run_after).isoformat()
        history = History(alias if alias != self.django_task.backend else None, run_after)
        if headers := history.as_headers():
            options["headers"] = headers
        return options

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Tell the receivers of Django's signal."""
        result = self._result(args, kwargs)
        results.change(result, status=results.SUCCESSFUL, _return_value=retval)
        finish(result)

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: ExceptionInfo) -> None:
        """Tell the receivers of Django's signal."""
        result = self._result(args, kwargs)
        results.change(result, status=results.FAILED)
        result.errors.append(results.error_of(exc, einfo.traceback))
        if sys.exception() is not None:
            finish(result)
            return
        try:
            # Django's own receiver logs the exception that is being handled.
            raise exc
        except type(exc):
            finish(result)

    def _result(self, args: Any, kwargs: Any) -> AnyResult:
        """That of the run that goes on; of one that has ended before it began, or with its process, a new one."""
        request = self.request
        known: AnyResult | None = request.__dict__.get("_django_result")
        return begun(self, request, args or (), kwargs or {}) if known is None else known


class AsyncRunner(Runner):
    """Runs one that is a coroutine: pools look at `run` to know."""

    async def run(self, *args: Any, **kwargs: Any) -> Any:
        """As that of `Runner`, awaited."""
        result, args = self._begin(args, kwargs)
        if not self.request.called_directly:
            await task_started.asend_robust(sender_of(result), task_result=result)
        return normalize_json(await self.django_task.func(*args, **kwargs))


def begun(runner: Runner, request: Context, args: Any, kwargs: Any) -> AnyResult:
    """The result of a run that begins now, as its context has it."""
    task, history = runner.django_task, History.read(request.headers)
    backend = results.alias_of(history, task, task.backend)
    delivery = request.delivery_info or {}
    asked = results.variant(
        task,
        priority=delivery.get("priority", task.priority),
        queue_name=results.queue_name_of(delivery["routing_key"]) if "routing_key" in delivery else task.queue_name,
        run_after=results.local(history.moment),
        backend=backend,
    )
    frame = runner._frame()
    now = None if frame is None else frame.began
    created = None if frame is None or frame.message is None else frame.message.created
    return results.new(
        asked,
        backend,
        results.fitting(args),
        results.fitting(kwargs),
        id=request.id or "",
        status=results.RUNNING,
        enqueued_at=results.moment(created),
        started_at=results.moment(history.first or now),
        last_attempted_at=results.moment(now),
        errors=results.errors_of(history),
        worker_ids=[*history.workers, request.hostname or ""],
    )


def finish(result: AnyResult) -> None:
    """It has ended: tell the receivers of Django's signal. What they raise is logged, and changes nothing."""
    results.change(result, finished_at=results.now())
    task_finished.send_robust(sender_of(result), task_result=result)


def sender_of(result: AnyResult) -> type[Any]:
    """The sender of Django's signals about it: the class of its backend."""
    return type(task_backends[result.backend])


def _tell_revoked(sender: Any, request: Context, expired: bool = False, **about: Any) -> None:
    """A task that was revoked, or has expired, is FAILED for Django, and has finished."""
    if not isinstance(sender, Runner):
        return
    result = begun(sender, request, request.args or (), request.kwargs or {})
    error = results.error_of(TaskRevokedError("expired" if expired else "revoked"), None)
    results.change(result, status=results.FAILED, errors=[*result.errors, error], started_at=None)
    results.change(result, last_attempted_at=None, worker_ids=result.worker_ids[:-1])
    finish(result)


signals.task_revoked.connect(_tell_revoked, weak=False, dispatch_uid="djtasks.backends")


# -- the registry -------------------------------------------------------------------------------------------------


def register(task: AnyTask, attributes: Mapping[str, Any]) -> Runner:
    """Have workers know `task`; returns what they know it as. What was known of the function already stays.

    `attributes` are those of a djtasks task. Raises InvalidTask when another task has the name.
    """
    name = task.module_path
    known = tasks.get(name)
    if isinstance(known, Runner):
        if known.django_task.func is task.func:
            return known
    elif known is not None:
        raise InvalidTask(f"{name} is the name of another task already, of @shared_task; rename the function.")
    names = {
        **attributes,
        "name": name,
        "django_task": task,
        "priority": int(task.priority),
        "abstract": False,
        "__doc__": task.func.__doc__,
        "__module__": task.func.__module__,
        "__name__": task.func.__name__,
    }
    base = AsyncRunner if iscoroutinefunction(task.func) else Runner
    made: Runner = type(task.func.__name__, (base,), names)()
    tasks[name] = made
    made.bind()
    return made
