"""Tasks and queues: what there is."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from django.utils import timezone

from djtasks.conf import settings
from djtasks.db import glimpses, health, monitor, queues, tasklists, taskpage
from djtasks.db.connections import borrow
from djtasks.db.tasklists import Task
from djtasks.exceptions import safe_repr
from djtasks.ids import as_task_id
from djtasks.monitor import search
from djtasks.monitor.api import shown
from djtasks.monitor.api.entry import Answer, Asked, answers, storable
from djtasks.monitor.respond import Problem
from djtasks.registry import tasks as registered
from djtasks.routing import known_queues

#: How many tasks a page has, where nobody says otherwise, and at the most; and how many can be passed over.
SIZE, MOST, MOST_OFFSET = 100, 1000, 10_000
#: By when they were called, and by when they ended, with flower's names beside.
_SORTS: Final[Mapping[str, str]] = {
    "received": "called",
    "sent": "called",
    "called": "called",
    "ended": "ended",
    "timestamp": "ended",
}
_WAITING: Final = ("waiting", "running", "parked", "reason")
#: A queue is counted up to here.
DEEPEST: Final = 100_000


@answers("GET", "message", "result")
def tasks(asked: Asked) -> Answer:
    """`{id: {…}}`, the last called first; the header Link has the address of the next page."""
    wanted, uuid, payload = _wanted(asked)
    tables = _tables(asked, payload)
    size, offset = asked.whole("limit", SIZE, 1, MOST), asked.whole("offset", 0, 0, MOST_OFFSET)
    key = asked.text("sort_by") or "-received"
    if key.removeprefix("-") not in _SORTS:
        raise Problem(f"sort_by must be one of {', '.join(_SORTS)}, with - before it for the last one first.")
    found, rest = _listed(asked, wanted, uuid, tables, size + offset)
    listed = found[offset:]
    private = _private(asked, listed)
    told = {str(task.id): shown.task(task, private.get(task.id)) for task in listed}
    return Answer(told, headers=_next(asked, rest) if rest else {})


def _listed(
    asked: Asked, wanted: Mapping[str, Any], uuid: UUID | None, tables: Sequence[str], size: int
) -> tuple[list[Task], str]:
    """The tasks, and behind what the next page begins."""
    conn, key = borrow(), asked.text("sort_by") or "-received"
    seconds, oldest_first = settings.MONITOR_SEARCH_TIMEOUT, not key.startswith("-")
    after = asked.text("after")
    if uuid is not None:
        return tasklists.by_ids(conn, [uuid], tables), ""
    if _SORTS[key.removeprefix("-")] == "ended":
        if tasklists.RESULTS not in tables or any(name in wanted for name in _WAITING):
            raise Problem("What waits or runs has not ended: sort it by received.")
        end = tasklists.ended(conn, wanted, after=_end(after), oldest_first=oldest_first, size=size, seconds=seconds)
        return end.tasks, "" if end.rest is None else f"{end.rest[0].isoformat()}~{end.rest[1]}"
    found = tasklists.listed(
        conn, wanted, after=_uuid(after), oldest_first=oldest_first, size=size, seconds=seconds, tables=tables
    )
    return found.tasks, str(found.rest or "")


def _wanted(asked: Asked) -> tuple[dict[str, Any], UUID | None, bool]:
    """What is looked for: by the search, and by flower's filters beside it. Raises Problem."""
    said = search.read(asked.text("search"))
    wanted = dict(said.wanted)
    for name, prefix in (("workername", "worker"), ("taskname", "name"), ("state", "state"), ("queue", "queue")):
        if text := asked.text(name):
            wanted |= search.FILTERS[prefix](text)
    for name, key in (("received_start", "since"), ("received_end", "until")):
        if text := asked.text(name):
            wanted |= search.FILTERS[key](text)
    if said.uuid is not None and wanted:
        raise Problem("An id is one task: ask for nothing else beside it.")
    return wanted, said.uuid, said.payload


def _tables(asked: Asked, payload: bool) -> list[str]:
    """The tables that may be seen, and searched through so. Raises Problem."""
    found = [
        table
        for model, table in (("message", tasklists.MESSAGES), ("result", tasklists.RESULTS))
        if asked.sees(model) and (not payload or asked.by.may(f"view_payload_{model}"))
    ]
    if not found:
        raise Problem("To search in arguments and results needs the permission djtasks.view_payload_result.", 403)
    return found


def _private(asked: Asked, listed: Sequence[Task]) -> Mapping[UUID, Any]:
    messages = [task.id for task in listed if task.waits] if asked.by.may("view_payload_message") else []
    results = [task.id for task in listed if not task.waits] if asked.by.may("view_payload_result") else []
    return glimpses.glimpses(borrow(), messages, results) if messages or results else {}


_NO_PAGE: Final = "There is no such page: `after` must be as the header Link of the page before has it."


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        raise Problem(_NO_PAGE) from None


def _end(text: str) -> tuple[datetime, UUID] | None:
    done, _tilde, uuid = text.partition("~")
    if not text:
        return None
    try:
        # A plus sign that nobody has escaped is a blank.
        found = datetime.fromisoformat(done.replace(" ", "+"))
        if timezone.is_naive(found):
            raise Problem(_NO_PAGE)
        # Zones and times that Python has and the database has not.
        return found.astimezone(UTC), UUID(uuid)
    except (ValueError, OverflowError):
        raise Problem(_NO_PAGE) from None


def _next(asked: Asked, rest: str) -> dict[str, str]:
    query = {key: value for key, value in asked.request.GET.items() if key not in ("after", "offset")}
    url = f"{asked.request.path}?{urlencode({**query, 'after': rest})}"
    return {"Link": f'<{url}>; rel="next"'}


@answers("GET", "message", "result")
def types(asked: Asked) -> Answer:
    """`{"task-types": [names]}`: the tasks that this process knows."""
    return Answer({"task-types": sorted(registered)})


@answers("GET", "message", "result")
def info(asked: Asked, task_id: str) -> Answer:
    """All that is known of one task."""
    key = row_of(task_id)
    payloads = {
        "payload": asked.by.may("view_payload_message"),
        "payload_of_result": asked.by.may("view_payload_result"),
    }
    found = taskpage.one(borrow(), key, **payloads)
    seen = found._replace(
        message=found.message if asked.sees("message") else None, result=found.result if asked.sees("result") else None
    )
    if seen.message is None and seen.result is None:
        if found.message is not None or found.result is not None:
            raise Problem("You may not see where this task stands: it needs djtasks.view_message or view_result.", 403)
        told = f"; the task {found.alias_of} stands for it" if found.alias_of else ""
        raise Problem(f"No task {safe_repr(task_id, 200)} is here{told}. It left no result, or was never called.", 404)
    return Answer(shown.one(seen, payloads["payload"], payloads["payload_of_result"]))


def row_of(task_id: str) -> UUID:
    """The key of a task. Raises Problem."""
    storable("the task's id", task_id)
    try:
        return UUID(as_task_id(task_id))
    except (TypeError, ValueError) as error:
        raise Problem(f"{error}.") from None


@answers("GET", "queue")
def lengths(asked: Asked) -> Answer:
    """`{"active_queues": [{"name": …, "messages": …}]}`: of those that workers take from, or that hold something."""
    conn = borrow()
    names = {*known_queues(), *health.filled(conn)}
    for row in monitor.workers(conn):
        names |= {str(each) for each in row["queues"] if "\0" not in str(each)} if row["queues"] else set()
    paused = queues.paused(conn)
    found = queues.depths(conn, sorted(names)[: monitor.MOST], DEEPEST)
    told = [
        {"name": name, "messages": each.known, "oldest": each.oldest, "paused": name in paused}
        for name, each in sorted(found.items())
    ]
    return Answer({"active_queues": told})
