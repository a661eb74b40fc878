"""`self.retry()`: the message that runs now is to run again later. Nothing is sent: the worker moves the row itself."""

import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

from djtasks import calls, masking
from djtasks.arguments import anew
from djtasks.current import Frame
from djtasks.einfo import hide_frames_of
from djtasks.exceptions import MaxRetriesExceededError, Retry, safe_repr
from djtasks.messages import Again, Claimed
from djtasks.payload import pack_call
from djtasks.routing import route
from djtasks.serializers import auth
from djtasks.serializers.json import dumps, loads

hide_frames_of(__file__)

_HEADER_OPTIONS = frozenset(
    {
        *("headers", "shadow", "time_limit", "soft_time_limit", "ignore_result", "argsrepr", "kwargsrepr"),
        *("link", "link_error", "callback"),
    }
)
_BODY_OPTIONS = frozenset({"serializer", "compression"})
_ROUTE_OPTIONS = frozenset({"queue", "routing_key", "priority"})


def retry(
    task: Any,
    frame: Frame | None,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    exc: BaseException | None,
    eta: datetime | str | None,
    countdown: Any,
    max_retries: int | None,
    options: Mapping[str, Any],
) -> Retry:
    """Note in `frame` that its message is to run again, and return the exception that ends this run.

    Raises `exc` (MaxRetriesExceededError when it is None) when the task has been retried as often as it may, and
    outside of a run.
    """
    if frame is None or frame.request.called_directly:
        _raise(exc or Retry("Task can be retried", None))
    request = frame.request
    if max_retries is None:
        max_retries = task.max_retries
    else:
        frame.max_retries = max_retries
    calls.check_arguments(args, kwargs)
    new_args, new_kwargs = anew(task.run, request.args, request.kwargs, args, kwargs)
    if task.dumps_models:
        new_args, new_kwargs = task.dump_arguments(new_args, new_kwargs, options.get("serializer"))
    if max_retries is not None and request.retries + 1 > max_retries:
        args, kwargs = masking.mask(request.sensitive or masking.of(task), tuple(new_args), new_kwargs)
        text = f"Can't retry {task.name}[{request.id}] args:{args} kwargs:{kwargs}"
        _raise(exc or MaxRetriesExceededError(text, task_args=new_args, task_kwargs=new_kwargs))
    if not eta and countdown is None:
        countdown = task.default_retry_delay
    frame.again = _again(task, frame, new_args, new_kwargs, eta, countdown, options)
    frame.rerun = new_args, new_kwargs
    when = _when(frame.again)
    return Retry(exc=exc, when=when, is_eager=request.is_eager)


def _raise(exc: BaseException) -> NoReturn:
    """Raise `exc`, with the exception that is being handled as its cause."""
    handled = sys.exception()
    if handled is None or handled is exc:
        raise exc
    raise exc from handled


def _again(
    task: Any,
    frame: Frame,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    eta: Any,
    countdown: Any,
    options: Mapping[str, Any],
) -> Again:
    """What changes in the row: all else is kept, its expiry among it."""
    calls.check(options)
    if countdown is not None:
        delay, at = calls.seconds(countdown, "countdown"), None
    else:
        delay, at = None, calls.instant(eta, "eta")
    again = Again(countdown=delay, eta=at)
    request, message = frame.request, frame.message
    if not _HEADER_OPTIONS.isdisjoint(options):
        again = again._replace(headers=_headers(task, frame, options))
    changed = args is not request.args or kwargs is not request.kwargs or not _BODY_OPTIONS.isdisjoint(options)
    if message is not None and (changed or (again.headers is not None and message.content_type in auth.NAMES)):
        again = _with_body(again, message, args, kwargs, options)
    if not _ROUTE_OPTIONS.isdisjoint(options):
        queue, priority = route(task.name, args, kwargs, options, task)
        if options.get("queue") is None and options.get("routing_key") is None and message is not None:
            queue = message.queue
        if options.get("priority") is None and message is not None:
            priority = message.priority
        # As plain values: members of enumerations do not travel from a child to its worker.
        again = again._replace(queue=str.__str__(queue), priority=int(priority))
    if options.get("expires") is not None:
        after, expires = calls.expiry(options["expires"], task.name)
        again = again._replace(expires=expires if after is None else time.time() + after)
    return again


def _with_body(
    again: Again, message: Claimed, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]
) -> Again:
    args, kwargs = calls.check_arguments(args, kwargs)
    serializer = options.get("serializer") or message.content_type
    compression = options.get("compression") or message.content_encoding
    headers = message.headers if again.headers is None else again.headers
    content_type, encoding, body = pack_call(message.name, args, kwargs, serializer, compression, message.id, headers)
    return again._replace(body=body, content_type=content_type, content_encoding=encoding)


def _headers(task: Any, frame: Frame, options: Mapping[str, Any]) -> str | None:
    """What the message says now, with what the retry says laid over it."""
    text = None if frame.message is None else frame.message.headers
    said: dict[str, Any] = loads(text.encode()) if text else {}
    new = calls.headers({name: options[name] for name in _HEADER_OPTIONS & options.keys()}, task, None, None)
    if new is None:
        return text
    more: dict[str, Any] = loads(new.encode())
    if "headers" in more:
        more["headers"] = {**said.get("headers", {}), **more["headers"]}
    return dumps({**said, **more}).decode()


def _when(again: Again) -> float | datetime | None:
    if again.eta is not None:
        return datetime.fromtimestamp(again.eta, UTC)
    delay = again.countdown
    return int(delay) if delay is not None and delay == int(delay) else delay


def check_options(options: Mapping[str, Any]) -> None:
    """Raise TypeError or ValueError, at a task's definition, for options about failures that would fail its runs."""
    for option in ("autoretry_for", "dont_autoretry_for", "throws"):
        if (classes := options.get(option)) is None:
            continue
        for each in classes if isinstance(classes, tuple | list | set | frozenset) else (classes,):
            if not (isinstance(each, type) and issubclass(each, BaseException)):
                raise TypeError(f"{option} must be exception classes, not {safe_repr(each)}")
    for option in ("max_retries", "default_retry_delay", "retry_backoff", "retry_backoff_max"):
        value = options.get(option)
        if value is None or (option == "retry_backoff" and isinstance(value, bool)):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{option} must be a number, not {safe_repr(value)}")
        if not value >= 0:
            raise ValueError(f"{option} must be 0 or more, not {value!r}")
    if not isinstance(options.get("retry_kwargs") or {}, Mapping):
        raise TypeError(
            f"retry_kwargs must be the keyword arguments of retry(), not {safe_repr(options['retry_kwargs'])}"
        )
