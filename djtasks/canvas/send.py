"""Sending workflows: the calls that begin are written, with all that waits for them, and the result is handed back."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from djtasks import announce, outbox, publisher, signals
from djtasks.canvas.plan import Call, Plan
from djtasks.canvas.results import Members, result_of
from djtasks.canvas.signature import hand_over_sender
from djtasks.canvas.trees import CHAIN, CHORD, GROUP, Node, calls_of, kind_of, thaw
from djtasks.canvas.types import Lazy
from djtasks.current import running
from djtasks.delivery import Part, Posting
from djtasks.ids import as_task_id
from djtasks.messages import Message

#: So many messages are written at a time.
CHUNK = 1000


def send(signature: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any], options: dict[str, Any]) -> Any:
    """Enqueue a chain, a group or a chord; its result, or None for an empty chain.

    `args` and `kwargs` are for what begins: the first of a chain, each member of a group or of a chord's header. So are
    the options, with these exceptions: `task_id` is that of a chain's last task, of a chord's body, or the group's own;
    a chord's body gets all but countdown and eta as well; the mode, its database and the retries of the enqueue are the
    workflow's. Raises as `Task.apply_async` does, TypeError for links on groups.
    """
    options = {key: value for key, value in options.items() if value is not None}
    anew = options.get("task_id") is not None or _is_frozen(signature)
    tree = thaw(_named(signature, options.pop("task_id", None)), lazy=True)
    frame = running()
    root, parent = options.pop("root_id", None), options.pop("parent_id", None)
    if frame is not None:
        root = root or frame.request.root_id or frame.request.id
        parent = parent or frame.request.id
    noted = _note_members(tree, options.get("ignore_result"))
    plan = Plan(tree, args, kwargs, options, root=root, parent=parent)
    first = next(plan.calls, None)
    task = None if first is None else first.task
    ignored = publisher.is_ignored(options.get("ignore_result"), task)
    result = None if noted is not None else _result_of(tree)
    posting = Posting(
        anew,
        ignored,
        publisher.retried(options.get("retry")),
        options.get("retry_policy"),
        behind=_ids_behind(tree),
    )
    mode, using = publisher.mode_of(options, task), options.get("using")
    with publisher.all_or_none(mode, using):
        outbox.enqueue_parts(_parts(plan, first), mode=mode, using=using, posting=posting)
    if noted is not None:
        result = _result_of(tree, noted)
    if result is not None and frame is not None and options.get("add_to_parent") is not False:
        publisher.add_to_parent(frame, result)
    return result


def _ids_behind(tree: Node) -> tuple[str, ...]:
    """The ids of rows for which somebody may wait before the workflow is there."""
    kind = kind_of(tree)
    if kind == CHORD:
        return _ids_behind(tree["kwargs"]["body"])
    if kind == CHAIN:
        return tuple(each for step in tree["kwargs"]["tasks"] for each in _ids_behind(step))
    return () if kind == GROUP else (as_task_id(tree["options"]["task_id"]),)


def _is_frozen(signature: Mapping[str, Any]) -> bool:
    """Whether some of its calls have their ids already, and may have been sent before."""
    inner = signature.get("kwargs") or {}
    if isinstance(inner.get("tasks"), Lazy) or isinstance(inner.get("header"), Lazy):
        return False
    return any(call["options"].get("task_id") is not None for call in calls_of(signature) if call.get("options"))


def _named(signature: Mapping[str, Any], task_id: Any) -> Mapping[str, Any]:
    """The signature with this id, where a workflow has its id; None: its own."""
    kind = kind_of(signature)
    inner = signature["kwargs"]
    options = dict(signature.get("options") or {})
    if kind is None or kind == GROUP:
        return {**signature, "options": {**options, "task_id": task_id}} if task_id else signature
    own = options.pop("task_id", None)
    if (task_id := task_id or own) is None:
        return signature
    if kind == CHORD:
        body = None if inner.get("body") is None else _named(inner["body"], task_id)
        return {**signature, "options": options, "kwargs": {**inner, "body": body}}
    tasks = list(inner.get("tasks") or ())
    if tasks:
        tasks[-1] = _named(tasks[-1], task_id)
    return {**signature, "options": options, "kwargs": {**inner, "tasks": tasks}}


def _note_members(tree: Node, ignore_result: bool | None) -> Members | None:
    """What notes the members of a group, or of a chord's header, while they are made."""
    kind = kind_of(tree)
    if kind is None or kind == CHAIN:
        return None
    group = tree["kwargs"]["header"] if kind == CHORD else tree
    noted = Members(ignore_result)
    group["kwargs"]["tasks"] = noted.note(group["kwargs"]["tasks"])
    return noted


def _result_of(tree: Node, noted: Members | None = None) -> Any:
    if noted is not None:
        chord = kind_of(tree) == CHORD
        group = tree["kwargs"]["header"] if chord else tree
        group["kwargs"]["tasks"] = ()
        whole = result_of(group)
        whole.results = noted.results()
        return result_of(tree["kwargs"]["body"], whole) if chord else whole
    return result_of(tree)


def _parts(plan: Plan, first: Call | None) -> Iterator[Part]:
    """The messages of a plan, so many at a time, and with the last of a chord's header the chord."""
    part: list[Message] = []
    size = 0
    for message in _messages(plan, first):
        part.append(message)
        size += len(message.body)
        if len(part) >= CHUNK or size >= outbox.STATEMENT_BYTES:
            yield Part(part, *_chords(plan))
            part, size = [], 0
    if part or plan.chords:
        yield Part(part, *_chords(plan))


def _chords(plan: Plan) -> tuple[tuple[Any, ...], bool]:
    if plan.open:
        return (), False
    chords = tuple(plan.chords)
    plan.chords.clear()
    return chords, True


def _messages(plan: Plan, first: Call | None) -> Iterator[Message]:
    call = first
    while call is not None:
        name, args, kwargs, options, task = call
        if task is not None:
            args, kwargs, said = publisher.as_called(task, args, kwargs, options)
            options = dict(said)
        message = publisher.build(name, args, kwargs, options, task)
        if call is first and (hooked := options.get("hooked")):
            plan.hooked = {name: options["headers"][name] for name in hooked}
        yield message
        if signals.after_task_publish.receivers or signals.task_sent.receivers:
            announce.after(message, args, kwargs, options)
        call = next(plan.calls, None)


hand_over_sender(send)
