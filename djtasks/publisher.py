"""A call becomes a `Message`, and the message is handed to the outbox.

All that can be wrong with a call is found here, before anything is stored, and is raised in the caller.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from djtasks import calls, outbox, signals
from djtasks.conf import settings
from djtasks.current import Frame, running
from djtasks.delivery import Posting
from djtasks.exceptions import safe_repr
from djtasks.ids import as_task_id, new_task_id
from djtasks.messages import Message
from djtasks.payload import pack_call
from djtasks.result import AsyncResult, Results
from djtasks.routing import route

Options = Mapping[str, Any]


def publish(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Options, task: Any = None
) -> AsyncResult[Any]:
    """Enqueue one call of the task `name`; `task` is that task, where it is registered here.

    Raises what `build` raises, and what the outbox does when the database refuses or does not answer.
    """
    message = build(name, args, kwargs, options, task)
    get = options.get
    own_id = get("task_id")
    ignored = _ignored(get("ignore_result"), task)
    outbox.enqueue(
        message,
        mode=_mode(options, task),
        using=get("using"),
        own_id=own_id is not None,
        ignore_result=ignored,
        retry=_retries(get("retry")),
        policy=get("retry_policy"),
    )
    if signals.after_task_publish.receivers:
        _announce_after(message, args, kwargs)
    result: AsyncResult[Any] = AsyncResult(message.id if own_id is None else own_id)
    if ignored:
        result.ignored = True
    return result


def publish_many(
    name: str,
    pairs: Iterable[tuple[Sequence[Any] | None, Mapping[str, Any] | None]],
    options: Options,
    task: Any = None,
) -> Results[Any]:
    """Enqueue a call of the task `name` for each (args, kwargs) of `pairs`, which are read while they are written.

    Nothing but 16 bytes a call is kept. Raises as `publish` does, and TypeError for what is no such pair; nothing of it
    stays in a transaction then.
    """
    if options.get("task_id") is not None:
        raise TypeError("bulk_apply_async() has no option 'task_id': each of its calls is a task of its own")
    ids = bytearray()

    def messages() -> Iterator[Message]:
        for number, pair in enumerate(pairs):
            args, kwargs = _pair(pair, number)
            if task is not None and task.typing:
                task.check_arguments(args, kwargs)
            message = build(name, args, kwargs, options, task)
            ids.extend(bytes.fromhex(message.id.replace("-", "")))
            yield message
            if signals.after_task_publish.receivers:
                _announce_after(message, args, kwargs)

    ignored = _ignored(options.get("ignore_result"), task)
    posting = Posting(False, ignored, _retries(options.get("retry")), options.get("retry_policy"))
    mode, using = _mode(options, task), options.get("using")
    with _all_or_none(mode or settings.ENQUEUE, using):
        outbox.enqueue_many(messages(), mode=mode, using=using, posting=posting)
    return Results(ids, ignored)


def _all_or_none(mode: str, using: str | None) -> AbstractContextManager[Any]:
    """Inside of a transaction: a savepoint, so that an error half-way leaves nothing for its commit."""
    alias = settings.DATABASE if mode == outbox.IN_TRANSACTION else using or DEFAULT_DB_ALIAS
    if mode == outbox.IMMEDIATELY or not connections[alias].in_atomic_block:
        return nullcontext()
    return transaction.atomic(using=alias)


def build(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Options, task: Any = None) -> Message:
    """The message of a call.

    Raises TypeError and ValueError for options that do not fit, QueueNotFound, EncodeError, PayloadTooLarge,
    ImproperlyConfigured; NotSupportedYet for what djtasks does not have yet.
    """
    frame = running()
    if options:
        calls.check(options)
    if signals.before_task_publish.receivers:
        options = _announce_before(name, args, kwargs, options, frame)
    get = options.get
    queue, priority = route(name, args, kwargs, options, task)
    serializer, compression = get("serializer"), get("compression")
    if task is not None:
        serializer, compression = serializer or task.serializer, compression or task.compression
    content_type, encoding, body = pack_call(name, args, kwargs, serializer, compression)
    if not options and (task is None or (task.expires is None and task.time_limit is None)):
        said = calls.lineage(frame)
        return Message(
            new_task_id(), name, queue, body, content_type, encoding, priority, None, None, None, None, 0, said
        )
    countdown, eta = calls.start(get("countdown"), get("eta"))
    expires = get("expires")
    expires_in, expires_at = calls.expiry(task.expires if expires is None and task is not None else expires, name)
    task_id, own_id = _identity(get("task_id"))
    said = calls.headers(options, task, frame, own_id)
    return Message(
        task_id,
        name,
        queue,
        body,
        content_type,
        encoding,
        priority,
        eta,
        countdown,
        expires_at,
        expires_in,
        calls.retries(get("retries")),
        said,
    )


def _identity(own: Any) -> tuple[str, str | None]:
    """The id of the row, and the caller's own text where it is another one."""
    if own is None:
        return new_task_id(), None
    task_id = as_task_id(own)
    return task_id, None if task_id == str(own) else own


def _mode(options: Options, task: Any) -> str | None:
    mode: str | None = options.get("enqueue")
    if mode is None and task is not None:
        mode = task.enqueue
    return mode


def _ignored(said: bool | None, task: Any) -> bool:
    if said is None and task is not None:
        said = task.ignore_result
    return settings.TASK_IGNORE_RESULT if said is None else bool(said)


def _retries(said: bool | None) -> bool:
    return settings.TASK_PUBLISH_RETRY if said is None else bool(said)


def _pair(pair: Any, number: int) -> tuple[Sequence[Any], Mapping[str, Any]]:
    try:
        args, kwargs = pair
        return calls.check_arguments(args, kwargs)
    except (TypeError, ValueError) as error:
        raise TypeError(f"call {number} must be a pair (args, kwargs), not {safe_repr(pair, 200)}") from error


# -- signals ------------------------------------------------------------------------------------------------------


def _announce_before(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Options, frame: Frame | None
) -> Options:
    """Let receivers of `before_task_publish` see the call; what they add to its headers travels with it.

    They see headers as Celery's; of those that djtasks writes itself, changes are not taken over. Raises TypeError and
    ValueError for a malformed id.
    """
    if (task_id := options.get("task_id")) is None:
        task_id = new_task_id()
    as_task_id(task_id)
    request = None if frame is None else frame.request
    shown: dict[str, Any] = {
        "lang": "py",
        "task": name,
        "id": task_id,
        "root_id": task_id if request is None else request.root_id or request.id,
        "parent_id": None if request is None else request.id,
        "group": None,
        "group_index": None,
        "retries": options.get("retries") or 0,
        "eta": options.get("eta"),
        "expires": options.get("expires"),
        "timelimit": [options.get("time_limit"), options.get("soft_time_limit")],
        "shadow": options.get("shadow"),
        "argsrepr": options.get("argsrepr") or safe_repr(args),
        "kwargsrepr": options.get("kwargsrepr") or safe_repr(kwargs),
        "origin": options.get("origin"),
        "ignore_result": options.get("ignore_result"),
    }
    own = frozenset(shown)
    seen = {**shown, **(options.get("headers") or {})}
    signals.before_task_publish.send(
        name,
        body=(args, kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}),
        exchange=options.get("exchange") or "",
        routing_key=options.get("routing_key") or options.get("queue"),
        headers=seen,
        properties={"correlation_id": task_id, "reply_to": options.get("reply_to") or ""},
        declare=[],
        retry_policy=options.get("retry_policy"),
    )
    said = {key: value for key, value in seen.items() if key not in own}
    return {**options, "task_id": task_id, "headers": said}


def _announce_after(message: Message, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    headers = {"task": message.name, "id": message.id, "eta": message.eta, "expires": message.expires}
    signals.after_task_publish.send(
        message.name, headers=headers, body=(args, kwargs, {}), exchange="", routing_key=message.queue
    )
    if signals.task_sent.receivers:
        eta = None if message.eta is None else datetime.fromtimestamp(message.eta, UTC)
        signals.task_sent.send(
            message.name, task_id=message.id, task=message.name, args=args, kwargs=kwargs, eta=eta, taskset=None
        )
