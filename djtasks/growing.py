"""`self.replace()` and `self.add_to_chord()`: a task that runs changes the workflow that it is a part of."""

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from djtasks import ending, publisher, rings
from djtasks.canvas.links import message_of
from djtasks.canvas.plan import Plan
from djtasks.canvas.results import result_of
from djtasks.canvas.signature import Signature, hint_for, maybe_signature
from djtasks.canvas.trees import (
    CHAIN,
    CHORD,
    GROUP,
    Node,
    calls_of,
    chain_of,
    is_empty,
    kind_of,
    link,
    place,
    size,
    terminals,
    thaw,
)
from djtasks.current import Context, Frame, running
from djtasks.db import chords
from djtasks.db.connections import Connection, borrow, in_transaction, open_private
from djtasks.einfo import hide_frames_of
from djtasks.exceptions import Ignore, ImproperlyConfigured, safe_repr
from djtasks.ids import as_task_id
from djtasks.messages import Message

hide_frames_of(__file__)

#: Returns the list that it is called with.
_LIST = Signature("celery.accumulate", kwargs={"index": 0})


class Growing:
    """What a task may do with its workflow while it runs."""

    #: The request of the run that goes on.
    request: Any

    def replace(self, sig: Any) -> Any:
        """End this run, and let `sig` do the task's work: `return self.replace(other.s(1))`.

        `sig` is any signature: what comes of it is this task's result, under its id. It takes over this task's place in
        its group, its chord and its chain, and what is linked to it. A group's result is the list of its members'.

        It is written in the transaction in which this run ends, so that either is there or neither is. Raises Ignore,
        which ends the run; in an eager run returns what comes of `sig`. Raises ImproperlyConfigured for what cannot
        replace a task, TypeError for what is no signature.
        """
        return self.on_replace(_replacement(self.request, _checked(sig)))

    def on_replace(self, sig: Any) -> Any:
        """Called with what replaces the task, to stamp it for instance; must return `super().on_replace(sig)`."""
        frame = running()
        if self.request.is_eager:
            return sig.apply().get(disable_sync_subtasks=False)
        if frame is None or frame.message is None or frame.task is not self:
            sig.delay()
        else:
            _replace(frame, sig)
        raise Ignore("Replaced by new task")

    def add_to_chord(self, sig: Any, lazy: bool = False) -> Any:
        """Let the chord that this task is a part of wait for `sig` as well; its result comes last in the body's list.

        It is enqueued at once, whatever becomes of this run and of the transaction that is open here (that of an atomic
        task excepted). Returns its result; with `lazy` it is not enqueued, but returned, for the caller to do that.
        Raises ValueError when the task is no part of a chord, TypeError for what is no signature.
        """
        frame = running()
        if frame is None or frame.message is None or frame.message.chord is None or frame.task is not self:
            raise ValueError("Current task is not member of any chord")
        tree = thaw(_checked(sig))
        for terminal in terminals(tree):
            terminal["options"]["group_id"] = frame.request.group
        if not _grow(frame, frame.message.chord, tree, lazy):
            raise ValueError(f"the chord {frame.message.chord} has ended already, and waits for nothing more")
        if lazy:
            return maybe_signature(tree)
        result = result_of(tree)
        publisher.add_to_parent(frame, result)
        return result


def _checked(sig: Any) -> Any:
    if not isinstance(sig, Mapping):
        raise TypeError(f"a signature was expected, not {safe_repr(sig, 200)}{hint_for(sig)}")
    return maybe_signature(sig)


# -- replacing ----------------------------------------------------------------------------------------------------


def _replacement(request: Context, sig: Signature) -> Signature:
    """A copy of `sig` that has all that the task has got: its id, its place, and what follows it."""
    if "chord" in sig.options:
        raise ImproperlyConfigured("A signature replacing a task must not be part of a chord")
    tree = thaw(sig)
    if kind_of(tree) == CHAIN and not tree["kwargs"]["tasks"]:
        raise ImproperlyConfigured("Cannot replace with an empty chain")
    if is_empty(tree):
        tree = thaw(_LIST.clone(([],)))
    elif size(tree) != 1 or _ends_in_group(tree):
        # One task is to end where this one would have ended.
        tree = chain_of([*_steps(tree), thaw(_LIST)])
    if request.is_eager:
        return _signature(tree)
    (last,) = terminals(tree)
    last["options"].update(task_id=request.id, group_id=request.group, group_index=request.group_index)
    link(last, "link", request.callbacks)
    link(tree, "link_error", request.errbacks)
    nesting = (request.replaced_task_nesting or 0) + 1
    for call in calls_of(tree):
        options: Any = call["options"]
        options["replaced_task_nesting"] = nesting
        for name in request.stamped_headers or ():
            options.setdefault(name, (request.stamps or {}).get(name))
            options["stamped_headers"] = list(dict.fromkeys((*(options.get("stamped_headers") or ()), name)))
    made = _signature(tree)
    for each in reversed(request.chain or ()):
        behind = maybe_signature(each).clone()
        behind.set(replaced_task_nesting=nesting)
        made = made | behind
    return made


def _ends_in_group(tree: Node) -> bool:
    while (kind := kind_of(tree)) in (CHAIN, CHORD):
        inner = tree["kwargs"]
        if kind == CHORD and inner.get("body") is None:
            return False
        tree = inner["body"] if kind == CHORD else inner["tasks"][-1]
    return kind == GROUP


def _steps(tree: Node) -> list[Node]:
    steps: list[Node] = tree["kwargs"]["tasks"] if kind_of(tree) == CHAIN else [tree]
    return steps


def _signature(tree: Node) -> Signature:
    found: Signature = maybe_signature(tree)
    return found


def _replace(frame: Frame, sig: Signature) -> None:
    """Note what is to be written when the run ends."""
    request, own = frame.request, frame.message
    if own is None:
        return
    tree = thaw(sig)
    if not request.chain and own.chord is not None:
        place(tree, own.chord, own.part or 0)
    plan = Plan(tree, root=request.root_id or request.id, parent=request.id)
    made = [message_of(call, request) for call in plan.calls]
    frame.replaced = [_in_the_place_of(frame, each) if each.id == own.id else each for each in made], plan.chords


def _in_the_place_of(frame: Frame, message: Message) -> Message:
    """It came of what the task came of, and not of itself."""
    request = frame.request
    root = None if request.root_id in (None, request.id) else as_task_id(request.root_id)
    parent = None if request.parent_id in (None, request.id) else as_task_id(request.parent_id)
    return message._replace(root_id=root, parent_id=parent)


# -- chords that grow -----------------------------------------------------------------------------------------------


def _grow(frame: Frame, chord: str, tree: Node, lazy: bool) -> bool:
    """Let the chord wait for the parts that `tree` is, and write it; False when there is no such chord any more.

    The chord's row is locked until the commit, which therefore is not that of whatever transaction is open here.
    """
    own = borrow()
    if in_transaction(own) and not frame.task.atomic:
        with open_private("chord") as conn:
            with conn.transaction():
                made = _grown(frame, conn, chord, tree, lazy)
            if made is not None:
                rings.ring_now(conn, made)
                return True
        # It may be a chord of this very transaction, as where a test runs tasks.
    with transaction.atomic(using=own.alias):
        made = _grown(frame, own, chord, tree, lazy)
        if made:
            rings.ring_later(own, made)
    return made is not None


def _grown(frame: Frame, conn: Connection, chord: str, tree: Node, lazy: bool) -> list[Message] | None:
    number = chords.grow(conn, chord, size(tree))
    if number is None:
        return None
    place(tree, chord, number)
    if lazy:
        return []
    plan = Plan(tree, root=frame.request.root_id or frame.request.id, parent=frame.request.id)
    made = [message_of(call, frame.request) for call in plan.calls]
    ending.follow(conn, ending.Sequel(made, plan.chords), ending.Ended(set(), [], []))
    return made
