"""What follows a task: callbacks after a success, errbacks after a failure.

They are made into messages, as plain tuples, for the transaction in which the task ends: either it has ended and they
are there, or neither. What cannot be made of an errback is logged; what cannot be made of a callback is the task's own
failure.
"""

import inspect
import logging
from collections.abc import Mapping
from typing import Any

from djtasks.canvas.signature import Signature, maybe_signature
from djtasks.conf import settings
from djtasks.current import Context
from djtasks.exceptions import FATAL, safe_repr
from djtasks.messages import Claimed
from djtasks.payload import headers_of, is_genuine
from djtasks.publisher import build
from djtasks.registry import tasks
from djtasks.serializers.exceptions import encode_exception

logger = logging.getLogger("djtasks.tracer")

Link = tuple[Any, ...]
#: The task that calls an errback with request, exception and traceback where no run of the failed task can.
ERRBACK = "djtasks.errback"
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def callbacks(request: Context, value: Any) -> tuple[Link, ...]:
    """The messages that follow the success of the task that runs. Raises as `Signature.to_message` does."""
    return tuple(_link(each, (value,), request) for each in request.callbacks)


def send(request: Context, value: Any) -> None:
    """Call what follows the success of a task that has run where it was called."""
    for each in request.callbacks:
        _signature(each).apply_async((value,), root_id=request.root_id or request.id, parent_id=request.id)


def errbacks(request: Context) -> tuple[list[Signature], list[Link]]:
    """What follows the failure of the task that runs: what is to be called here and now, and messages."""
    called: list[Signature] = []
    sent: list[Link] = []
    for each in request.errbacks:
        try:
            signature = _signature(each)
            if wants_exception(signature):
                called.append(signature)
            elif request.is_eager:
                signature.apply((request.id,), root_id=request.root_id or request.id, parent_id=request.id)
            else:
                sent.append(_link(each, (request.id,), request))
        except FATAL:
            raise
        except BaseException as error:
            _not_sent(each, request.id, error)
    return called, sent


def errbacks_of(message: Claimed, error: BaseException, traceback: str | None) -> tuple[Link, ...]:
    """The messages that follow the failure of a message whose run did not end by itself."""
    if message.headers is None or '"errbacks"' not in message.headers or not is_genuine(message):
        return ()
    said = headers_of(message.headers)
    found = said.get("errbacks")
    request = Context(
        id=said.get("task_id") or message.id,
        task=message.name,
        retries=message.retries,
        root_id=said.get("root_id"),
        parent_id=said.get("parent_id"),
        errbacks=found if isinstance(found, list) else [],
        headers=said.get("headers"),
        hooked=said.get("hooked"),
        delivery_info={"exchange": "", "routing_key": message.queue, "priority": message.priority},
    )
    made = []
    for each in request.errbacks:
        try:
            if wants_exception(_signature(each)):
                made.append(_caller(each, message, request, error, traceback))
            else:
                made.append(_link(each, (request.id,), request, **_lineage(request, message)))
        except FATAL:
            raise
        except BaseException as raised:
            _not_sent(each, request.id, raised)
    return tuple(made)


def wants_exception(signature: Signature) -> bool:
    """Whether it is to be called with request, exception and traceback: an unbound function with room for them.

    Any other is sent as a task, with the failed one's id.
    """
    task = tasks.get(signature.task)
    if task is None or inspect.ismethod(task.run):
        return False
    left = -len(signature.args)
    for parameter in inspect.signature(task.run).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            return True
        left += parameter.kind in _POSITIONAL
    return left > 1


def _signature(each: Any) -> Signature:
    found: Signature = maybe_signature(each)
    return found


def _link(each: Any, args: tuple[Any, ...], request: Context, **options: Any) -> Link:
    signature = _signature(each)
    if (hooked := _hooked(request)) is not None:
        options["headers"] = {**hooked, **(signature.options.get("headers") or {})}
        options["hooked"] = list(hooked)
    return tuple(signature.to_message(args, **options))


def _hooked(request: Context) -> dict[str, Any] | None:
    """The headers that hooks have added to the message, a trace's for instance: they travel on."""
    names = request.get("hooked")
    if not isinstance(names, list) or not isinstance(request.headers, Mapping):
        return None
    return {name: request.headers[name] for name in names if name in request.headers}


def _lineage(request: Context, message: Claimed) -> dict[str, Any]:
    """Outside of the run itself, what a call inside of it would find out."""
    said: dict[str, Any] = {"root_id": request.root_id or request.id, "parent_id": request.id}
    if settings.TASK_INHERIT_PARENT_PRIORITY:
        said["priority"] = message.priority
    return said


def _caller(each: Any, message: Claimed, request: Context, error: BaseException, traceback: str | None) -> Link:
    """The message of the task that calls an errback."""
    shown = {key: value for key, value in request.__dict__.items() if key != "errbacks"}
    args = (dict(each), shown, encode_exception(error)[1].decode(), traceback)
    serializer = "json" if "json" in settings.ACCEPT_CONTENT else None
    options = {"queue": message.queue, "serializer": serializer, **_lineage(request, message)}
    return tuple(build(ERRBACK, args, {}, options))


def _not_sent(each: Any, task_id: str | None, error: BaseException) -> None:
    logger.error("The errback %s of task %s could not be sent: %s", safe_repr(each, 200), task_id, safe_repr(error))
