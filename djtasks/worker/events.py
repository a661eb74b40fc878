"""What a worker tells of its tasks while events are switched on: collected here, written by the pulse.

The consumer's thread puts things down in a deque that has a bound, and goes on; what finds it full is dropped and
counted. While events are off all of this is one test of a flag for each batch.
"""

import time
from collections import deque
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from djtasks import masking
from djtasks.conf import settings
from djtasks.described import request_of
from djtasks.events import sent
from djtasks.exceptions import FATAL, safe_repr
from djtasks.messages import Claimed, Message, Outcome
from djtasks.payload import headers_of, unpack_exception, unpack_value
from djtasks.registry import tasks
from djtasks.states import FAILURE, REJECTED, RETRY, REVOKED, SUCCESS

#: So many events may wait for the pulse.
MOST: Final = 20_000
#: The longest text of arguments, and the end of a traceback that is told of.
LONGEST, TRACEBACK = 1024, 10_000

Fields = dict[str, Any]


class Told(NamedTuple):
    """One event, before it is written."""

    type: str
    #: Seconds since the epoch.
    at: float
    fields: Fields
    #: The id of the task's row; None for what is not about a task.
    row: str | None = None
    #: The run that has ended with it, and when that began (0: it never did).
    claim: int = 0
    began: float = 0.0
    #: The name of the task.
    name: str = ""


class Events:
    """What is to be told. What is not about tasks may be called from any thread, and so may `ended_elsewhere`."""

    def __init__(self) -> None:
        #: Whether anything is told. To be looked at before anything else is called.
        self.on = False
        self.waiting: deque[Told] = deque()
        #: How many were not told, because too many waited.
        self.dropped = 0
        #: By claim: the signal that ended a run because its task was revoked.
        self.signals: dict[int, int] = {}

    def switch(self, on: bool) -> bool:
        """Tell of tasks from now on, or not any more; False when that is so already."""
        if self.on == on:
            return False
        self.on = on
        if on:
            self.put(Told("worker-online", time.time(), {}))
        return True

    def beat(self) -> None:
        """The worker lives."""
        if self.on:
            self.put(Told("worker-heartbeat", time.time(), {}))

    def put(self, told: Told) -> None:
        """One more."""
        if len(self.waiting) >= MOST:
            self.dropped += 1
        else:
            self.waiting.append(told)

    def received(self, messages: Sequence[Claimed], hostname: str) -> None:
        """These have come to this worker, and are about to begin."""
        now = time.time()
        for message in messages:
            if is_silent(message.name):
                continue
            if len(self.waiting) >= MOST:
                self.dropped += 1
                continue
            said = request_of(message, hostname)
            args, kwargs = masking.shown(said.sensitive, said.args, said.kwargs)
            fields = {
                "uuid": said.id,
                "name": said.shadow or message.name,
                "args": said.argsrepr or args,
                "kwargs": said.kwargsrepr or kwargs,
                "retries": message.retries,
                "eta": said.eta,
                "expires": said.expires,
                "root_id": said.root_id,
                "parent_id": said.parent_id,
            }
            self.waiting.append(Told("task-received", now, fields, message.id, 0, 0.0, message.name))

    def ended(
        self,
        outcomes: Iterable[Outcome],
        held: Mapping[int, Claimed],
        accepted: Container[str],
    ) -> None:
        """These runs have ended, and that is committed for those which were accepted."""
        for outcome in outcomes:
            message = held.get(outcome.claim)
            if message is None or outcome.id not in accepted:
                continue
            if len(self.waiting) >= MOST:
                self.dropped += 1
                continue
            self._end(message, outcome)

    def ended_elsewhere(self, message: Claimed, outcome: Outcome) -> None:
        """This one has ended although nobody ran it: it expired, it was revoked, its worker was lost."""
        if self.on:
            self._end(message, outcome._replace(claim=0))

    def _end(self, message: Claimed, outcome: Outcome) -> None:
        type_, fields = self._said(message, outcome)
        if type_ is None or is_silent(message.name):
            return
        fields["uuid"] = shown_id(message)
        if settings.TASK_SEND_SENT_EVENT:
            for each in map(Message._make, outcome.successors):
                self.put(Told("task-sent", time.time(), sent.fields_of(each), each.id, name=each.name))
        at = outcome.started + outcome.runtime if outcome.started else time.time()
        began = outcome.started if outcome.runtime else 0.0
        self.put(Told(type_, at, fields, message.id, outcome.claim, began, message.name))

    def _said(self, message: Claimed, outcome: Outcome) -> tuple[str | None, Fields]:
        """The type of the event and its own fields; None for an end of which nothing is told."""
        state = outcome.state
        if state == SUCCESS:
            return "task-succeeded", {"result": _result(message, outcome), "runtime": outcome.runtime}
        if state == REVOKED:
            signum = self.signals.pop(outcome.claim, None)
            expired = signum is None and str(_error(outcome)) == "expired"
            return "task-revoked", {"terminated": signum is not None, "signum": signum, "expired": expired}
        if state == REJECTED or outcome.dead == "rejected":
            requeue = outcome.again is not None
            return ("task-rejected", {"requeue": requeue}) if requeue or state == FAILURE else (None, {})
        if state in (FAILURE, RETRY):
            return ("task-failed" if state == FAILURE else "task-retried"), _failure(message, outcome)
        return None, {}


def is_silent(name: str) -> bool:
    """Whether the task has `send_events=False`."""
    task = tasks.get(name)
    return task is not None and not task.send_events


def shown_id(message: Claimed) -> str:
    """The id as its caller knows it."""
    said = message.headers
    return str(headers_of(said).get("task_id", message.id)) if said and '"task_id"' in said else message.id


def _result(message: Claimed, outcome: Outcome) -> str | None:
    """What it returned, as text; None where that is not kept."""
    if outcome.result is None:
        return None
    task = tasks.get(message.name)
    try:
        value = unpack_value(outcome.result, outcome.content_type, outcome.content_encoding)
    except FATAL:
        raise
    except BaseException as error:
        return f"<a result that cannot be read: {safe_repr(error, 200)}>"
    return _hidden(message, safe_repr(value, LONGEST if task is None else task.resultrepr_maxsize))


def _failure(message: Claimed, outcome: Outcome) -> Fields:
    error, traceback = _error(outcome), outcome.traceback
    text = None if error is None else _hidden(message, safe_repr(error, LONGEST))
    if text is None and traceback:
        text = traceback.rstrip().rpartition("\n")[2]
    return {"exception": text, "traceback": None if traceback is None else _hidden(message, traceback[-TRACEBACK:])}


def _error(outcome: Outcome) -> Any:
    """The exception of an outcome; None where it is not kept."""
    if not outcome.result:
        return None
    try:
        return unpack_exception(outcome.result, outcome.content_type, outcome.content_encoding)
    except FATAL:
        raise
    except BaseException as error:
        return error


def _hidden(message: Claimed, text: str) -> str:
    """The text without the sensitive arguments of the call."""
    task, headers = tasks.get(message.name), message.headers
    if not (headers and '"sensitive"' in headers) and not getattr(task, "sensitive", None):
        return text
    said = request_of(message, "")
    sensitive = said.sensitive or masking.of(task)
    return masking.hider(sensitive, said.args, said.kwargs)(text) if sensitive else text
