"""A call becomes a `Message`, and the message is handed to the outbox.

All that can be wrong with a call is found here, before anything is stored, and is raised in the caller.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from djtasks import announce, calls, keyed, keys, outbox, signals
from djtasks.conf import settings
from djtasks.current import Frame, running
from djtasks.delivery import Posting
from djtasks.exceptions import safe_repr
from djtasks.ids import as_task_id, new_task_id
from djtasks.messages import Message
from djtasks.payload import pack_call
from djtasks.result import AsyncResult
from djtasks.result_lists import Results
from djtasks.routing import checked_priority, route

Options = Mapping[str, Any]
#: A task that enqueues more is not to hold them all.
_CHILDREN_MAX = 1000


def publish(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Options, task: Any = None
) -> AsyncResult[Any]:
    """Enqueue one call of the task `name`; `task` is that task, where it is registered here.

    Raises what `build` raises, and what the outbox does when the database refuses or does not answer.
    """
    own_id = options.get("task_id")
    if signals.before_task_publish.receivers:
        options = dict(options)
    message = build(name, args, kwargs, options, task)
    get = options.get
    ignored = is_ignored(get("ignore_result"), task)
    outbox.enqueue(
        message,
        mode=mode_of(options, task),
        using=get("using"),
        own_id=own_id is not None,
        ignore_result=ignored,
        retry=retried(get("retry")),
        policy=get("retry_policy"),
    )
    if signals.after_task_publish.receivers or signals.task_sent.receivers:
        announce.after(message, args, kwargs, options)
    holder = None
    if message.unique_key is not None and not outbox.is_pending(message.id):
        holder = keyed.stands_for(message.id)
    result: AsyncResult[Any] = AsyncResult(holder or (message.id if own_id is None else own_id))
    if ignored:
        result.ignored = True
    if (frame := running()) is not None and get("add_to_parent") is not False:
        add_to_parent(frame, result)
    return result


def add_to_parent(frame: Frame, result: Any) -> None:
    """Let the task that runs know its children, the first ones."""
    if frame.task.trail and len(children := frame.request.children) < _CHILDREN_MAX:
        children.append(result)


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
            own = options
            if task is not None:
                args, kwargs, own = as_called(task, args, kwargs, options)
            if signals.before_task_publish.receivers:
                own = dict(own)
            message = build(name, args, kwargs, own, task)
            ids.extend(bytes.fromhex(message.id.replace("-", "")))
            yield message
            if signals.after_task_publish.receivers or signals.task_sent.receivers:
                announce.after(message, args, kwargs, own)

    ignored = is_ignored(options.get("ignore_result"), task)
    posting = Posting(False, ignored, retried(options.get("retry")), options.get("retry_policy"))
    mode, using = mode_of(options, task), options.get("using")
    with all_or_none(mode, using):
        outbox.enqueue_many(messages(), mode=mode, using=using, posting=posting)
    return Results(ids, ignored)


def all_or_none(mode: str | None, using: str | None) -> AbstractContextManager[Any]:
    """Inside of a transaction: a savepoint, so that an error half-way leaves nothing for its commit."""
    mode = mode or settings.ENQUEUE
    alias = settings.DATABASE if mode == outbox.IN_TRANSACTION else using or DEFAULT_DB_ALIAS
    if mode == outbox.IMMEDIATELY or not connections[alias].in_atomic_block:
        return nullcontext()
    return transaction.atomic(using=alias)


def build(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Options, task: Any = None) -> Message:
    """The message of a call. Receivers of `before_task_publish` may change `options`, where it is a dict.

    Raises TypeError, ValueError, QueueNotFound, EncodeError, PayloadTooLarge and ImproperlyConfigured.
    """
    frame = running()
    if options:
        calls.check(options)
    queue, priority = route(name, args, kwargs, options, task)
    if signals.before_task_publish.receivers:
        options = announce.before(name, args, kwargs, options, task, queue)
        priority = checked_priority(priority if (said := options.get("priority")) is None else said)
    get = options.get
    serializer, compression = get("serializer"), get("compression")
    if task is not None:
        serializer, compression = serializer or task.serializer, compression or task.compression
    own_keys = keys.NONE
    if (task is not None and keys.keyed(task)) or (options and not keys.OPTIONS.isdisjoint(options)):
        own_keys = keys.of_call(name, args, kwargs, options, task)
    elif not options and (task is None or (task.expires is None and task.time_limit is None and not task.sensitive)):
        message = _plain(name, queue, priority, args, kwargs, serializer, compression, frame)
        if frame is None:
            return message
        return message._replace(root_id=_root(options, frame), parent_id=_parent(options, frame))
    countdown, eta = calls.start(get("countdown"), get("eta"))
    expires = get("expires")
    expires_in, expires_at = calls.expiry(task.expires if expires is None and task is not None else expires, name)
    task_id, own_id = _identity(get("task_id"))
    said = calls.headers(options, task, frame, own_id)
    content_type, encoding, body = pack_call(name, args, kwargs, serializer, compression, task_id, said)
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
        own_keys.unique,
        own_keys.on_conflict,
        own_keys.limit,
        *_place(options, frame),
    )


def _plain(
    name: str,
    queue: str,
    priority: int,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    serializer: str | None,
    compression: str | None,
    frame: Frame | None,
) -> Message:
    """The message of a call that says nothing but its arguments."""
    task_id, said = new_task_id(), calls.lineage(frame)
    content_type, encoding, body = pack_call(name, args, kwargs, serializer, compression, task_id, said)
    return Message(task_id, name, queue, body, content_type, encoding, priority, None, None, None, None, 0, said)


def _place(
    options: Options, frame: Frame | None
) -> tuple[str | None, str | None, str | None, str | None, int | None, int | None]:
    """Where a call belongs, as the last fields of `Message`: root, parent, group, chord, part, periodic task."""
    group, part = options.get("group_id"), options.get("part")
    return (
        _root(options, frame),
        _parent(options, frame),
        # A chord's body knows the group of its header, but is no member of it.
        None if group is None or options.get("group_index") is None else as_task_id(group),
        # What names no part of it is none: a copy of a call that was one.
        None if part is None else options.get("chord"),
        part,
        options.get("periodic"),
    )


def _root(options: Options, frame: Frame | None) -> str | None:
    """The id of the row that everything began with; None when it is this very call."""
    root = options.get("root_id")
    if root is None and frame is not None:
        root = frame.request.root_id or frame.request.id
    return None if root is None else as_task_id(root)


def _parent(options: Options, frame: Frame | None) -> str | None:
    """The id of the row that this call came of."""
    parent = options.get("parent_id")
    if parent is None and frame is not None:
        parent = frame.request.id
    return None if parent is None else as_task_id(parent)


def _identity(own: Any) -> tuple[str, str | None]:
    """The id of the row, and the caller's own text where it is another one."""
    if own is None:
        return new_task_id(), None
    task_id = as_task_id(own)
    return task_id, None if task_id == str(own) else own


def mode_of(options: Options, task: Any) -> str | None:
    """When its message is written, as the call or its task says."""
    mode: str | None = options.get("enqueue")
    if mode is None and task is not None:
        mode = task.enqueue
    return mode


def is_ignored(said: bool | None, task: Any) -> bool:
    """Whether its result is not kept."""
    if said is None and task is not None:
        said = task.ignore_result
    return settings.TASK_IGNORE_RESULT if said is None else bool(said)


def retried(said: bool | None) -> bool:
    """Whether an enqueue is tried again when the database is lost."""
    return settings.TASK_PUBLISH_RETRY if said is None else bool(said)


def as_called(
    task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], options: Options
) -> tuple[Sequence[Any], Mapping[str, Any], Options]:
    """What `apply_async` does with the arguments and options of one call. Raises TypeError."""
    if task.typing:
        task.check_arguments(args, kwargs)
    shadow = task.shadow_name(args, kwargs, options)
    if shadow and not options.get("shadow"):
        options = {**options, "shadow": shadow}
    if task.dumps_models:
        args, kwargs = task.dump_arguments(args, kwargs, options.get("serializer"))
    return args, kwargs, options


def _pair(pair: Any, number: int) -> tuple[Sequence[Any], Mapping[str, Any]]:
    try:
        args, kwargs = pair
        return calls.check_arguments(args, kwargs)
    except (TypeError, ValueError) as error:
        raise TypeError(f"call {number} must be a pair (args, kwargs), not {safe_repr(pair, 200)}") from error
