"""One task: what is known of it, what came of what, and what can be done with it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _

from djtasks.admin import payload
from djtasks.admin.links import as_uuid
from djtasks.admin.text import duration, label, moment
from djtasks.admin.workflow import tree
from djtasks.db import families, taskpage, workflows
from djtasks.db.connections import borrow
from djtasks.db.families import Open, Relation
from djtasks.db.tasklists import Task
from djtasks.db.taskpage import One
from djtasks.monitor import pictures, timeline
from djtasks.monitor.access import may, may_do, may_see, page
from djtasks.monitor.deeds import DEEDS
from djtasks.monitor.numbers import count
from djtasks.monitor.respond import Problem, render, to
from djtasks.monitor.views_tasks import state_of

#: So many tasks of a workflow are listed.
LISTED = 500


@page("message", "result")
def task(request: HttpRequest, task_id: UUID) -> HttpResponse:
    """Its page."""
    found = one(request, task_id)
    row = found.result if found.message is None else found.message
    tasks, chords = _workflow(task_id)
    state, kind = state_of(as_task(found))
    context = {
        "title": label(row.name),
        "id": str(task_id),
        "name": label(row.name),
        "state": state,
        "kind": kind,
        "facts": _facts(found, row),
        "times": _times(found, row),
        "timeline": timeline.of_task(found),
        "related": _related(found, row, tasks),
        "picture": pictures.workflow(tasks, chords, str(task_id)) if tasks or chords else None,
        "tree": _tree(tasks, chords, str(task_id)),
        "cut": len(tasks) >= LISTED,
        "payload": _payload(request, found),
        "deeds": _deeds(request, found),
        "admin_row_url": _admin_url(found),
    }
    return render(request, "task", context)


def one(request: HttpRequest, task_id: UUID) -> One:
    """What is known of a task, as far as the user may know it. Raises Problem."""
    payload_of_message = may(request, "view_payload_message")
    payload_of_result = may(request, "view_payload_result")
    found = taskpage.one(borrow(), task_id, payload=payload_of_message, payload_of_result=payload_of_result)
    if found.message is None and found.result is None:
        raise Problem(_nobody(found), 404)
    seen = found._replace(
        message=found.message if may_see(request, "message") else None,
        result=found.result if may_see(request, "result") else None,
    )
    if seen.message is None and seen.result is None:
        raise Problem(
            _("You may not see where this task stands: it needs the permission to view messages or results."), 403
        )
    return seen


def _nobody(found: One) -> str:
    if found.alias_of is not None:
        text = _("This call became no task of its own, because one with its unique key was there already: %s.")
        return text % found.alias_of
    if found.revoked:
        return _("No task with this id is here; it is revoked, and will not run should it come.")
    return _(
        "No task with this id is here. It has ended and left no result, its result was deleted, or it has never been"
        " called."
    )


def as_task(found: One) -> Task:
    """The task as lists have it."""
    row: Any = found.result if found.message is None else found.message
    message, result = found.message, found.result
    return Task(
        row.id,
        row.name,
        row.queue,
        None if result is None else result.state,
        message is not None,
        row.owner,
        message is not None and message.lane is None,
        None if message is None else message.reason,
        None if result is None else result.worker,
        row.created,
        None if message is None else message.eta,
        None if result is None else result.started,
        None if result is None else result.done,
        row.retries,
        row.priority,
        None if result is None else result.dead,
        row.root_id,
        row.parent_id,
    )


def _workflow(task_id: UUID) -> tuple[list[Relation], list[Open]]:
    """The tasks of its workflow, and the chords that wait in it; nothing for a task that is alone."""
    conn = borrow()
    found = workflows.near(conn, str(task_id), LISTED)
    chords: list[Open] = []
    grouped = {each.group_id for each in found if each.group_id is not None}
    if len(found) > 1 or grouped:
        roots = {each.root_id or each.id for each in found}
        chords = families.open_chords(conn, sorted(roots), sorted(grouped), LISTED)
    return ([], []) if len(found) < 2 and not chords else (found, chords)


Fact = tuple[str, str, str]


def _facts(found: One, row: Any) -> list[Fact]:
    """Title, text and address of what is known, beside times."""
    said = payload.headers(row.headers_start)
    own = said.get("task_id")
    worker = found.worker or (found.result.worker if found.result is not None else None)
    facts = [
        (_("id"), str(row.id), ""),
        (_("the caller's own id"), label(own) if isinstance(own, str) else "", ""),
        (_("queue"), label(row.queue), ""),
        (
            _("worker"),
            label(worker) if worker else "",
            to("worker", str(found.incarnation)) if found.incarnation else "",
        ),
        (_("priority"), str(row.priority), ""),
        (_("retries"), count(row.retries), ""),
        (
            _("periodic task"),
            label(found.periodic) if found.periodic else "",
            to("schedules") if found.periodic else "",
        ),
        (_("dead letter"), label(found.result.dead) if found.result is not None and found.result.dead else "", ""),
        (_("revoked"), _("yes: it will not run") if found.revoked else "", ""),
    ]
    if (message := found.message) is not None:
        facts += [
            (_("crashes"), count(message.crashes) if message.crashes else "", ""),
            (_("after a crash"), _("runs again") if message.rerun else _("fails"), ""),
            (_("redelivered"), _("yes") if message.redelivered else "", ""),
            (_("unique key"), label(message.unique_key) if message.unique_key else "", ""),
            (
                _("limit"),
                label(message.limit_key) if message.limit_key else "",
                to("limits") if message.limit_key else "",
            ),
            (_("part of a chord"), count(message.part) if message.chord and message.part is not None else "", ""),
        ]
    return [fact for fact in facts if fact[1]]


def _times(found: One, row: Any) -> list[Fact]:
    times: list[tuple[str, datetime | None]] = [(_("called"), row.created)]
    if found.message is not None:
        times += [(_("not before"), found.message.eta), (_("expires"), found.message.expires)]
    shown = [(title, moment(value), "") for title, value in times if value is not None]
    if (result := found.result) is not None:
        shown += [
            (title, moment(at), "") for title, at in ((_("began"), result.started), (_("ended"), result.done)) if at
        ]
        if result.started is not None:
            shown.append((_("waited"), duration(max(timedelta(0), result.started - result.created)), ""))
        if result.started is not None and result.done is not None:
            shown.append((_("ran for"), duration(result.done - result.started), ""))
    return shown


def _related(found: One, row: Any, tasks: Sequence[Relation]) -> list[Fact]:
    """Parent, root, group and children."""
    said = payload.headers(row.headers_start)
    names = {each.id: each.name for each in tasks}
    related: list[Fact] = []
    for title, uuid, text in (
        (_("parent"), row.parent_id, said.get("parent_id")),
        (_("root"), row.root_id, said.get("root_id")),
    ):
        key = uuid or as_uuid(text)
        if key is not None and key != row.id:
            name = names.get(str(key))
            related.append((title, f"{label(name)} {key}" if name else str(key), to("task", key)))
    if row.group_id is not None:
        related.append((_("group"), str(row.group_id), ""))
    related += [
        (_("child"), f"{label(each.name)} {each.id}", to("task", each.id))
        for each in tasks
        if each.parent_id == str(row.id)
    ]
    return related[:LISTED]


def _tree(tasks: Sequence[Relation], chords: Sequence[Open], own: str) -> list[dict[str, Any]]:
    """The workflow in words: for those who see no pictures."""
    lines = []
    for line in tree(tasks, chords):
        depth, what = min(line.depth, 12), line.what
        if isinstance(what, str):
            lines.append({"depth": depth, "text": _("group %s") % what, "url": "", "state": "", "kind": ""})
        elif isinstance(what, Open):
            text = _("chord: %(ended)d of %(size)d have ended; then %(body)s")
            said = {"ended": what.ended, "size": what.size, "body": label(what.body)}
            lines.append({"depth": depth, "text": text % said, "url": "", "state": "", "kind": ""})
        else:
            state, kind = pictures.state_of(what)
            url = "" if what.id == own else to("task", what.id)
            text = f"{label(what.name)} {what.id}"
            lines.append({"depth": depth, "text": text, "url": url, "state": state, "kind": kind})
    return lines


def _payload(request: HttpRequest, found: One) -> list[tuple[str, Any]]:
    """What it was called with and what it left, as far as the user may see it; titles and HTML."""
    parts: list[tuple[str, Any]] = []
    message, result = found.message, found.result
    if message is not None and may(request, "view_payload_message"):
        body = payload.stored(message, "body", message.content_type, message.content_encoding)
        args, kwargs = payload.arguments(body, message.headers_start)
        parts += [(_("arguments"), args), (_("named arguments"), kwargs)]
        parts.append((_("headers"), payload.headers_block(message.headers_start)))
        parts.append((_("stored as"), str(body)))
    if result is not None and may(request, "view_payload_result"):
        outcome = payload.stored(result, "result", result.content_type, result.content_encoding)
        parts.append((_("result or exception"), payload.outcome(outcome)))
        if result.traceback_size:
            parts.append((_("traceback"), payload.traceback_block(result)))
        if message is None:
            body = payload.stored(result, "body", result.body_content_type, result.body_content_encoding)
            args, kwargs = payload.arguments(body, result.headers_start)
            parts += [(_("arguments"), args), (_("named arguments"), kwargs)]
            parts.append((_("headers"), payload.headers_block(result.headers_start)))
    return parts


def _deeds(request: HttpRequest, found: One) -> list[dict[str, Any]]:
    row = found.result if found.message is None else found.message
    return [
        {"url": to("deed", row.id, name), "title": deed.title, "danger": deed.danger}
        for name, deed in DEEDS.items()
        if may_do(request, deed.permission) and deed.fits(found)
    ]


def _admin_url(found: One) -> str:
    model, row = ("result", found.result) if found.message is None else ("message", found.message)
    try:
        return reverse(f"admin:djtasks_{model}_change", args=[row.id])
    except NoReverseMatch:
        return ""
