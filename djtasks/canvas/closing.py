"""The end of a chord: when the last of its parts has ended, its body is sent with what they returned, or fails.

It runs in whoever ends that part, in the transaction of that end, and must not raise: what cannot be made of a body is
the body's failure.
"""

import logging
from collections.abc import Sequence
from contextvars import copy_context
from typing import Any

from djtasks import current, ending
from djtasks.canvas.links import errbacks_about, message_of
from djtasks.canvas.plan import Plan
from djtasks.canvas.trees import CHAIN, GROUP, Node, fallen, kind_of, terminals, thaw
from djtasks.conf import settings
from djtasks.db.chords import Cause, Complete, Ended
from djtasks.ending import Sequel
from djtasks.exceptions import FATAL, ChordError, DjtasksError, safe_repr
from djtasks.messages import Chord, Fallen, Message
from djtasks.payload import pack_exception, unpack_body, unpack_exception, unpack_value
from djtasks.serializers import loads
from djtasks.serializers.json import loads as read_json
from djtasks.states import FAILURE

logger = logging.getLogger("djtasks.tracer")

_JSON = "application/json"


def close(chord: Complete, parts: Sequence[Ended]) -> Sequel:
    """What is to be written because all parts of the chord have ended; these are they, in their order."""
    # Whoever ends the last part has nothing to do with the body: it may be a task that runs.
    return copy_context().run(_close_outside, chord, parts)


def _close_outside(chord: Complete, parts: Sequence[Ended]) -> Sequel:
    current.leave()
    try:
        body: Node = read_json(unpack_body(chord.id, chord.body).encode())
        try:
            if chord.failed is not None:
                return _failed(chord, body, next(part for part in parts if part.part == chord.failed))
            return _sent(chord, body, parts)
        except FATAL:
            raise
        except BaseException as error:
            logger.error("The body of chord %s could not be sent: %s", chord.id, safe_repr(error), exc_info=True)
            return _fallen(chord, body, error)
    except FATAL:
        raise
    except BaseException as error:
        logger.error("The body of chord %s cannot be read: %s", chord.id, safe_repr(error))
        return _unread(chord, error)


def _unread(chord: Complete, error: BaseException) -> Sequel:
    """All that is known of the body is its id."""
    if chord.body_id is None:
        return Sequel()
    content_type, encoding, result = pack_exception(error)
    cause = Cause(FAILURE.value, result, content_type, encoding)
    return Sequel((), (), [(cause, [Fallen(chord.body_id, "celery.chord", root_id=chord.root_id)])])


def _sent(chord: Complete, body: Node, parts: Sequence[Ended]) -> Sequel:
    plan = _plan(chord, body, values(parts))
    messages = list(map(message_of, plan.calls))
    return Sequel(messages, plan.chords)


def _plan(chord: Complete, body: Node, results: list[Any]) -> Plan:
    said = body["options"]
    root, parent = said.get("root_id") or chord.root_id, said.get("parent_id")
    return Plan(thaw(body), (results,), root=root, parent=parent)


def values(parts: Sequence[Ended]) -> list[Any]:
    """What the parts returned, in their order. Raises as `unpack_value` does."""
    if all(part.content_type == _JSON and not part.content_encoding for part in parts):
        # In one go: many parts cost little more than one.
        joined = b"[" + b",".join(part.result or b"null" for part in parts) + b"]"
        try:
            found: list[Any] = loads(joined, _JSON, settings.RESULT_ACCEPT_CONTENT)
        except DjtasksError:
            # One by one it is seen which one it is.
            found = []
        if len(found) == len(parts):
            return found
    return [
        None if part.result is None else unpack_value(part.result, part.content_type, part.content_encoding)
        for part in parts
    ]


# -- failures -----------------------------------------------------------------------------------------------------


def _failed(chord: Complete, body: Node, part: Ended) -> Sequel:
    error: Any = None
    if part.result is not None:
        try:
            error = unpack_exception(part.result, part.content_type, part.content_encoding)
        except Exception as unread:
            error = unread
    if _first_kind(body) == GROUP and part.result is not None:
        cause = Cause(FAILURE.value, part.result, part.content_type, part.content_encoding)
        return _fall(chord, body, cause, error if isinstance(error, BaseException) else ChordError(repr(error)))
    return _fallen(chord, body, ChordError(f"Dependency {part.task} raised {safe_repr(error)}"))


def _first_kind(body: Node) -> str | None:
    while kind_of(body) == CHAIN:
        body = body["kwargs"]["tasks"][0]
    return kind_of(body)


def _fallen(chord: Complete, body: Node, error: BaseException) -> Sequel:
    content_type, encoding, result = pack_exception(error)
    return _fall(chord, body, Cause(FAILURE.value, result, content_type, encoding), error)


def _fall(chord: Complete, body: Node, cause: Cause, error: BaseException) -> Sequel:
    root, parent = chord.root_id, body["options"].get("parent_id")
    steps = body["kwargs"]["tasks"] if kind_of(body) == CHAIN else [body]
    messages: list[Message] = []
    chords: list[Chord] = []
    for call in terminals(body):
        made, opened = errbacks_about(call, error, root)
        messages.extend(map(Message._make, made))
        chords.extend(map(Chord._make, opened))
    return Sequel(messages, chords, [(cause, fallen(steps, root, parent))])


ending.hand_over_closer(close)
