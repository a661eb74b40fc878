"""Tasks as JSON, with the keys that flower has and ours beside them."""

from datetime import datetime
from typing import Any

from djtasks import masking
from djtasks.admin import payload
from djtasks.admin.payload import Bytes, Unreadable
from djtasks.conf import settings
from djtasks.db.glimpses import Glimpse
from djtasks.db.tasklists import Task
from djtasks.db.taskpage import One
from djtasks.exceptions import safe_repr
from djtasks.states import EXCEPTION_STATES, PENDING, STARTED

#: Characters of an argument list or a result.
LONGEST = 10_000


def task(found: Task, seen: Glimpse | None) -> dict[str, Any]:
    """A task of a list; `seen` is the beginning of its payload, for those who may see that."""
    told = _common(found, found.state, found.waits, found.owner is not None)
    told |= {"worker": found.worker, "eta": _at(found.eta), "dead": found.dead, "parked": found.reason}
    if seen is None:
        return told
    body = _bytes(seen.body, seen.body_size, seen.content_type, seen.content_encoding)
    result = _bytes(seen.result, seen.result_size, seen.result_type, seen.result_encoding)
    return told | _call(body, seen.headers) | _outcome(result, told["state"])


def one(found: One, see_arguments: bool, see_result: bool) -> dict[str, Any]:
    """All that is known of one task."""
    message, result = found.message, found.result
    row = result if message is None else message
    state = None if result is None else result.state
    told = _common(row, state, message is not None, message is not None and message.owner is not None, result)
    said = payload.headers(row.headers_start)
    told |= {
        "worker": (result.worker if result is not None else None) or found.worker,
        "eta": _at(message.eta) if message is not None else None,
        "expires": _at(message.expires) if message is not None else None,
        "parked": message.reason if message is not None and message.lane is None else None,
        "dead": result.dead if result is not None else None,
        "revoked": found.revoked,
        "group_id": None if row.group_id is None else str(row.group_id),
        "task_id": said["task_id"] if isinstance(said.get("task_id"), str) else str(row.id),
        "events": found.events,
    }
    if message is not None and see_arguments:
        body = payload.stored(message, "body", message.content_type, message.content_encoding)
        told |= _call(body, message.headers_start)
    elif message is None and see_result:
        body = payload.stored(result, "body", result.body_content_type, result.body_content_encoding)
        told |= _call(body, result.headers_start)
    if result is not None and see_result:
        told |= _outcome(payload.stored(result, "result", result.content_type, result.content_encoding), told["state"])
        told["traceback"] = result.traceback_end
    if not (see_result and see_arguments):
        # Their bodies may have arguments and results in them.
        told["events"] = [{key: each[key] for key in ("at", "type", "worker")} for each in found.events]
    return told


def _common(row: Any, state: str | None, waits: bool, held: bool, result: Any = None) -> dict[str, Any]:
    """What stands in every row; times are seconds since the epoch, as in flower."""
    times = row if result is None else result
    started, done = getattr(times, "started", None), getattr(times, "done", None)
    state = state or (STARTED if held else PENDING)
    return {
        "uuid": str(row.id),
        "name": row.name,
        "state": state,
        "queue": row.queue,
        "priority": row.priority,
        "retries": row.retries,
        "received": _at(row.created),
        "sent": _at(row.created),
        "started": _at(started),
        "succeeded": _at(done) if state == "SUCCESS" else None,
        "failed": _at(done) if state == "FAILURE" else None,
        "timestamp": _at(done or started or row.created),
        "runtime": (done - started).total_seconds() if done and started else None,
        "waiting": waits and not held,
        "root_id": None if row.root_id is None else str(row.root_id),
        "parent_id": None if row.parent_id is None else str(row.parent_id),
    }


def _at(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _bytes(start: Any, size: int, content_type: str, encoding: str) -> Bytes:
    return Bytes(None if start is None else bytes(start), size, content_type, encoding)


def _call(body: Bytes, header_text: str | None) -> dict[str, str | None]:
    """The arguments as texts, without what is sensitive."""
    said = payload.headers(header_text)
    sensitive = said.get("sensitive") if said else bool(header_text and '"sensitive"' in header_text)
    args: str | None
    kwargs: str | None
    try:
        call = payload.decode(body, settings.ACCEPT_CONTENT)
        args, kwargs = masking.shown(sensitive, *call)
    except (Unreadable, TypeError, ValueError) as error:
        args, kwargs = (None if body.start is None else "sensitive" if sensitive else str(error)), None
    own = [found if isinstance(found := said.get(key), str) else None for key in ("argsrepr", "kwargsrepr")]
    return {"args": (own[0] or args or "")[:LONGEST] or None, "kwargs": (own[1] or kwargs or "")[:LONGEST] or None}


def _outcome(result: Bytes, state: str) -> dict[str, Any]:
    """What it returned, or the exception, as text."""
    try:
        value = None if result.start is None else payload.decode(result, (*settings.RESULT_ACCEPT_CONTENT, "json"))
        text = None if result.start is None else safe_repr(value, LONGEST)
        if isinstance(value, dict) and "exc_type" in value:
            text = f"{value['exc_type']}: {value.get('exc_text') or safe_repr(value.get('exc_message'), LONGEST)}"
    except Unreadable as error:
        text = str(error)
    failed = state in EXCEPTION_STATES
    return {"result": None if failed else text, "exception": text if failed else None}
