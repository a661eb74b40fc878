"""Tasks: those that wait, run and have ended, in one list; searched as in flower."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _t

from djtasks.admin import payload
from djtasks.admin.payload import Bytes
from djtasks.admin.text import duration, label, moment
from djtasks.conf import settings
from djtasks.db import glimpses, tasklists
from djtasks.db.connections import borrow
from djtasks.db.glimpses import Glimpse
from djtasks.db.tasklists import Task
from djtasks.db.timeouts import TooSlow
from djtasks.monitor import search
from djtasks.monitor.access import may, may_see, page
from djtasks.monitor.numbers import count
from djtasks.monitor.respond import Problem, is_live, render, to
from djtasks.monitor.search import Search

SIZE: Final = 50
CALLED, ENDED = "called", "ended"
#: "-" before it: the last one first.
SORTS: Final = (f"-{CALLED}", CALLED, f"-{ENDED}", ENDED)


class Column(NamedTuple):
    """A column of the list."""

    title: Promise
    read: Callable[[Task], str]
    sort: str = ""
    #: Whether it shows payload.
    private: bool = False


def _ran(task: Task) -> str:
    return duration(task.done - task.started) if task.done and task.started else "–"


def _waited(task: Task) -> str:
    return duration(task.started - max(task.created, task.eta or task.created)) if task.started else "–"


COLUMNS: Final[Mapping[str, Column]] = {
    "name": Column(_t("Task"), lambda task: label(task.name)),
    "state": Column(_t("State"), lambda task: state_of(task)[0]),
    "queue": Column(_t("Queue"), lambda task: label(task.queue)),
    "worker": Column(_t("Worker"), lambda task: label(task.worker)),
    "called": Column(_t("Called"), lambda task: moment(task.created), CALLED),
    "eta": Column(_t("Not before"), lambda task: moment(task.eta)),
    "started": Column(_t("Began"), lambda task: moment(task.started)),
    "ended": Column(_t("Ended"), lambda task: moment(task.done), ENDED),
    "waited": Column(_t("Waited"), _waited),
    "ran": Column(_t("Ran for"), _ran),
    "retries": Column(_t("Retries"), lambda task: count(task.retries)),
    "priority": Column(_t("Priority"), lambda task: str(task.priority)),
    "dead": Column(_t("Dead letter"), lambda task: label(task.dead)),
    "root": Column(_t("Root"), lambda task: str(task.root_id or "–")),
    "parent": Column(_t("Parent"), lambda task: str(task.parent_id or "–")),
    "args": Column(_t("Arguments"), lambda task: "", private=True),
    "kwargs": Column(_t("Named arguments"), lambda task: "", private=True),
    "result": Column(_t("Result"), lambda task: "", private=True),
}
USUAL: Final = ("name", "state", "queue", "worker", "called", "ran", "retries")


def state_of(task: Task) -> tuple[str, str]:
    """The state of a task in words, and what kind of a state it is."""
    if task.waits and task.owner is not None:
        return _("running"), "run"
    if task.waits and task.parked:
        reasons = {
            "eta": _("waits for its time"),
            "name": _("no worker knows it"),
            "limit": _("waits for its limit"),
            "rate": _("waits for its rate"),
        }
        found = reasons.get(task.reason or "", label(task.reason))
        return (f"{label(task.state)}: {found}" if task.state else found), "wait"
    if task.waits:
        return (f"{label(task.state)}: {_('waiting')}" if task.state else _("waiting")), "wait"
    kinds = {"SUCCESS": "good", "FAILURE": "bad", "REVOKED": "warn"}
    return label(task.state), kinds.get(task.state or "", "wait")


@page("message", "result")
def tasks(request: HttpRequest) -> HttpResponse:
    """A page of the list."""
    text = request.GET.get("q", "")
    context: dict[str, Any] = {
        "title": _("Tasks"),
        "q": text,
        "rows": [],
        "heads": [],
        "next": "",
        "filters": _filters(),
    }
    try:
        columns = _columns(request)
        context |= {"columns": _chosen(columns), "sort": request.GET.get("sort", "")}
        found = _found(request, search.read(text), columns)
    except Problem as error:
        if is_live(request):
            raise
        shown = {"columns": _chosen(USUAL), **context}
        return render(request, "tasks", {**shown, "error": error.text}, error.status)
    except TooSlow:
        text = _(
            "This search takes too long: narrow it, by since:1h, by a state, or by the id of a workflow (root_id:)."
        )
        return render(request, "tasks", {**context, "error": text})
    return render(request, "tasks", {**context, **found})


def _found(request: HttpRequest, wanted: Search, columns: Sequence[str]) -> dict[str, Any]:
    tables = _tables(request, wanted)
    sort = _sort(request, wanted)
    conn, oldest_first = borrow(), not sort.startswith("-")
    rest, searched = "", False
    if wanted.uuid is not None:
        listed = tasklists.by_ids(conn, [wanted.uuid], tables)
    elif sort.endswith(ENDED):
        if tasklists.RESULTS not in tables or _waits(wanted):
            raise Problem(_("What waits or runs has not ended: sort it by when it was called."))
        last = tasklists.ended(
            conn, wanted.wanted, after=end_of(request), oldest_first=oldest_first, size=SIZE, seconds=_seconds()
        )
        listed, searched = last.tasks, last.searched
        rest = "" if last.rest is None else f"{last.rest[0].isoformat()}~{last.rest[1]}"
    else:
        found = tasklists.listed(
            conn,
            wanted.wanted,
            after=_id(request),
            oldest_first=oldest_first,
            size=SIZE,
            seconds=_seconds(),
            tables=tables,
        )
        listed, searched, rest = found.tasks, found.searched, str(found.rest or "")
    return {
        "heads": [_head(request, name, sort) for name in columns],
        "rows": _rows(request, listed, columns),
        "next": link(request, after=rest) if rest else "",
        "next_text": _("Search on") if searched else _("Next page"),
        "first": link(request, after=None) if request.GET.get("after") else "",
        "summary": _summary(len(listed), searched),
        "sort": sort,
        # What was looked for in payload is not looked for again and again.
        "still": wanted.payload,
    }


def _summary(shown: int, searched: bool) -> str:
    if searched:
        text = _("%(shown)s found among those that were looked at; there may be more behind them.")
        return text % {"shown": count(shown)}
    return _("%s on this page.") % count(shown)


def _seconds() -> float:
    return settings.MONITOR_SEARCH_TIMEOUT


def _tables(request: HttpRequest, wanted: Search) -> list[str]:
    """The tables that the user may see, and search through so. Raises Problem."""
    found = []
    for model, table in (("message", tasklists.MESSAGES), ("result", tasklists.RESULTS)):
        if may_see(request, model) and (not wanted.payload or may(request, f"view_payload_{model}")):
            found.append(table)
    if not found:
        raise Problem(_("To search in arguments and results needs the permission to see them."), 403)
    return found


def _waits(wanted: Search) -> bool:
    return any(key in wanted.wanted for key in ("waiting", "running", "parked", "reason"))


def _sort(request: HttpRequest, wanted: Search) -> str:
    usual = f"-{ENDED}" if wanted.by_end and may_see(request, "result") else f"-{CALLED}"
    found = request.GET.get("sort") or usual
    if found not in SORTS:
        raise Problem(_("Tasks can be sorted by %(known)s, and not by %(name)s.")
                      % {"known": ", ".join(SORTS), "name": label(found)})  # fmt: skip
    return found


def _columns(request: HttpRequest) -> list[str]:
    """The columns that are asked for, in our order. Raises Problem."""
    asked = request.GET.getlist("col") or list(USUAL)
    if unknown := [name for name in asked if name not in COLUMNS]:
        raise Problem(_("There is no column %(name)s; there are %(known)s.")
                      % {"name": label(unknown[0]), "known": ", ".join(COLUMNS)})  # fmt: skip
    return [name for name in COLUMNS if name in asked]


def _chosen(columns: Sequence[str]) -> list[dict[str, Any]]:
    return [{"name": name, "title": each.title, "chosen": name in columns} for name, each in COLUMNS.items()]


def _filters() -> list[str]:
    return [f"{name}:" for name in search.FILTERS]


_NO_PAGE = _t("There is no such page of this list. Go to its first one.")


def _id(request: HttpRequest) -> UUID | None:
    text = request.GET.get("after", "")
    try:
        return UUID(text) if text else None
    except ValueError:
        raise Problem(str(_NO_PAGE)) from None


def end_of(request: HttpRequest) -> tuple[datetime, UUID] | None:
    text = request.GET.get("after", "")
    if not text:
        return None
    done, _tilde, uuid = text.partition("~")
    try:
        # A plus sign that nobody has escaped is a blank.
        found = datetime.fromisoformat(done.replace(" ", "+"))
        if found.tzinfo is None:
            raise ValueError(done)
        # Zones and times that Python has and the database has not.
        return found.astimezone(UTC), UUID(uuid)
    except (ValueError, OverflowError):
        raise Problem(str(_NO_PAGE)) from None


def link(request: HttpRequest, **changes: str | None) -> str:
    """The address of this list with something else in it."""
    query = {key: request.GET.getlist(key) for key in ("q", "sort", "col", "after") if key in request.GET}
    for key, value in changes.items():
        query[key] = [value] if value else []
    return f"{request.path}?{urlencode(query, doseq=True)}"


def _head(request: HttpRequest, name: str, sort: str) -> dict[str, Any]:
    column = COLUMNS[name]
    current = bool(column.sort) and sort.endswith(column.sort)
    other = column.sort if current and sort.startswith("-") else f"-{column.sort}"
    return {
        "name": name,
        "title": column.title,
        "url": link(request, sort=other, after=None) if column.sort else "",
        "order": ("descending" if sort.startswith("-") else "ascending") if current else "",
    }


def _rows(request: HttpRequest, listed: Sequence[Task], columns: Sequence[str]) -> list[dict[str, Any]]:
    seen = _glimpses(request, listed) if any(COLUMNS[name].private for name in columns) else {}
    rows = []
    for task in listed:
        private = _private(seen.get(task.id))
        cells = []
        for name in columns:
            column = COLUMNS[name]
            cells.append({"name": name, "text": private.get(name, "–") if column.private else column.read(task)})
        rows.append({"id": str(task.id), "url": to("task", task.id), "kind": state_of(task)[1], "cells": cells})
    return rows


def _glimpses(request: HttpRequest, listed: Sequence[Task]) -> Mapping[UUID, Glimpse]:
    """The payload of those of these whose payload the user may see."""
    messages = [task.id for task in listed if task.waits] if may(request, "view_payload_message") else []
    results = [task.id for task in listed if not task.waits] if may(request, "view_payload_result") else []
    return glimpses.glimpses(borrow(), messages, results)


def _private(seen: Glimpse | None) -> dict[str, str]:
    if seen is None:
        return {}
    body = None if seen.body is None else bytes(seen.body)
    found = payload.arguments(Bytes(body, seen.body_size, seen.content_type, seen.content_encoding), seen.headers)
    result = None if seen.result is None else bytes(seen.result)
    outcome = payload.outcome(Bytes(result, seen.result_size, seen.result_type, seen.result_encoding))
    return {"args": found[0], "kwargs": found[1], "result": outcome}
