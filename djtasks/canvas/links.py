"""What follows a task: its links and the next of its chain after a success, errbacks after a failure.

They are made into messages, as plain tuples, for the transaction in which the task ends: either it has ended and they
are there, or neither. What stands behind a failure in a chain never runs, and ends with it. What cannot be made of an
errback is logged; what cannot be made of a link, or of the next of a chain, is the task's own failure.
"""

import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from djtasks import keyed
from djtasks.canvas.plan import OF_THE_CALLER, Call, Plan
from djtasks.canvas.signature import Signature, maybe_signature
from djtasks.canvas.trees import fallen, kind_of, thaw
from djtasks.canvas.types import as_list
from djtasks.conf import settings
from djtasks.current import Context
from djtasks.exceptions import FATAL, safe_repr
from djtasks.ids import as_task_id
from djtasks.messages import Claimed, Message
from djtasks.payload import headers_of, is_genuine
from djtasks.publisher import build
from djtasks.registry import tasks
from djtasks.serializers.exceptions import encode_exception
from djtasks.steps import raw

logger = logging.getLogger("djtasks.tracer")

Link = tuple[Any, ...]
#: The task that calls an errback with request, exception and traceback where no run of the failed task can.
ERRBACK = "djtasks.errback"
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def follow(request: Context, value: Any) -> tuple[tuple[Link, ...], tuple[Link, ...]]:
    """The messages, and the chords, that follow the success of the task that runs; its links come first.

    Raises as `Task.apply_async` does.
    """
    made: list[Link] = []
    opened: list[Link] = []
    for each in request.callbacks or ():
        if kind_of(each) is None:
            made.append(_link(each, (value,), request))
        else:
            _send(made, opened, each, (), value, request)
    if chain := request.chain:
        _send(made, opened, chain[-1], raw(chain)[-2::-1], value, request)
    return tuple(made), tuple(opened)


def _send(made: list[Link], opened: list[Link], tree: Any, behind: Sequence[Any], value: Any, request: Context) -> None:
    root = request.root_id or request.id
    plan = Plan(thaw(tree), (value,), root=root, parent=request.id, behind=behind)
    plan.hooked = _hooked(request) or {}
    made.extend(tuple(message_of(call, request)) for call in plan.calls)
    opened.extend(tuple(chord) for chord in plan.chords)


def message_of(call: Call, request: Context | None = None) -> Message:
    """The message of a planned call; of one that follows `request` with the headers that hooks have added to that.

    Raises as `Task.apply_async` does.
    """
    name, args, kwargs, options, task = call
    for option in OF_THE_CALLER:
        options.pop(option, None)
    if request is not None and (hooked := _hooked(request)) is not None:
        options["headers"] = {**hooked, **(options.get("headers") or {})}
        options["hooked"] = list(hooked)
    if task is not None:
        args, kwargs = task.dump_arguments(args, kwargs, options.get("serializer"))
    return build(name, args, kwargs, options, task)


def behind(request: Context) -> tuple[Link, ...]:
    """What never runs because the task that runs has not succeeded: the rest of its chain."""
    if not request.chain or request.id is None:
        return ()
    return _fallen(request.chain, request.root_id or request.id, request.id)


def behind_of(message: Claimed) -> tuple[Link, ...]:
    """As `behind`, for a message whose run did not end by itself."""
    if message.headers is None or '"chain"' not in message.headers or not is_genuine(message):
        return ()
    return behind_in(message.id, message.headers)


def behind_in(task_id: str, headers: str | None) -> tuple[Link, ...]:
    """As `behind`, by the id of a row and its headers."""
    if headers is None or '"chain"' not in headers:
        return ()
    said = headers_of(headers)
    chain = said.get("chain")
    if not isinstance(chain, list):
        return ()
    return _fallen(chain, said.get("root_id") or task_id, task_id)


def _fallen(chain: Sequence[Any], root: str, own: str) -> tuple[Link, ...]:
    try:
        return tuple(tuple(each) for each in fallen(reversed(chain), as_task_id(root), as_task_id(own)))
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        logger.error("What stands behind task %s cannot be read: %s", own, safe_repr(error))
        return ()


def send(request: Context, value: Any) -> None:
    """Run what follows the success of a task that has run where it was called; what is not known here is sent."""
    for each in request.callbacks:
        signature = _signature(each)
        here = signature.task in tasks and not settings.TASK_ALWAYS_EAGER
        call = signature.apply if here else signature.apply_async
        call((value,), root_id=request.root_id or request.id, parent_id=request.id)


def errbacks(request: Context) -> tuple[list[Signature], tuple[Link, ...], tuple[Link, ...]]:
    """What follows the failure of the task that runs: what is to be called here and now, messages, and chords."""
    called: list[Signature] = []
    made: list[Link] = []
    opened: list[Link] = []
    for each in request.errbacks:
        try:
            signature = _signature(each)
            if wants_exception(signature):
                called.append(signature)
            elif request.is_eager:
                signature.apply((request.id,), root_id=request.root_id or request.id, parent_id=request.id)
            elif kind_of(signature) is None:
                made.append(_link(each, (request.id,), request))
            else:
                _send(made, opened, each, (), request.id, request)
        except FATAL:
            raise
        except BaseException as error:
            _not_sent(each, request.id, error)
    return called, tuple(made), tuple(opened)


def errbacks_of(
    message: Claimed, error: BaseException, traceback: str | None
) -> tuple[tuple[Link, ...], tuple[Link, ...]]:
    """The messages, and the chords, that follow the failure of a message whose run did not end by itself."""
    if message.headers is None or '"errbacks"' not in message.headers or not is_genuine(message):
        return (), ()
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
    return _errbacks_outside(request, error, traceback)


def errbacks_about(
    call: Mapping[str, Any], error: BaseException, root: str | None
) -> tuple[tuple[Link, ...], tuple[Link, ...]]:
    """As `errbacks_of`, for a frozen call that was never sent."""
    options = call["options"]
    queue = options.get("queue")
    request = Context(
        id=options.get("task_id"),
        task=call["task"],
        root_id=options.get("root_id") or root,
        parent_id=options.get("parent_id"),
        errbacks=as_list(options.get("link_error")),
        delivery_info={"exchange": "", "routing_key": queue if isinstance(queue, str) else None, "priority": None},
    )
    return _errbacks_outside(request, error, None)


def _errbacks_outside(
    request: Context, error: BaseException, traceback: str | None
) -> tuple[tuple[Link, ...], tuple[Link, ...]]:
    made: list[Link] = []
    opened: list[Link] = []
    for each in request.errbacks:
        try:
            signature = _signature(each)
            if wants_exception(signature):
                made.append(_caller(each, request, error, traceback))
            elif kind_of(signature) is None:
                made.append(_link(each, (request.id,), request, **_lineage(request)))
            else:
                _send(made, opened, each, (), request.id, request)
        except FATAL:
            raise
        except BaseException as raised:
            _not_sent(each, request.id, raised)
    return tuple(made), tuple(opened)


def wants_exception(signature: Signature) -> bool:
    """Whether it is to be called with request, exception and traceback: an unbound function with room for them.

    Any other is sent as a task, with the failed one's id.
    """
    task = tasks.get(signature.task) if kind_of(signature) is None else None
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


def _lineage(request: Context) -> dict[str, Any]:
    """Outside of the run itself, what a call inside of it would find out."""
    said: dict[str, Any] = {"root_id": request.root_id or request.id, "parent_id": request.id}
    if settings.TASK_INHERIT_PARENT_PRIORITY:
        said["priority"] = (request.delivery_info or {}).get("priority")
    return said


def _caller(each: Any, request: Context, error: BaseException, traceback: str | None) -> Link:
    """The message of the task that calls an errback."""
    shown = {key: value for key, value in request.__dict__.items() if key != "errbacks"}
    args = (dict(each), shown, encode_exception(error)[1].decode(), traceback)
    serializer = "json" if "json" in settings.ACCEPT_CONTENT else None
    queue = (request.delivery_info or {}).get("routing_key")
    return tuple(build(ERRBACK, args, {}, {"queue": queue, "serializer": serializer, **_lineage(request)}))


def _not_sent(each: Any, task_id: str | None, error: BaseException) -> None:
    logger.error("The errback %s of task %s could not be sent: %s", safe_repr(each, 200), task_id, safe_repr(error))


keyed.hand_over(behind_in)
