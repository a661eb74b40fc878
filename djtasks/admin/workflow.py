"""The workflow of a task as a tree: what came of what, how it stands, and what chords wait for."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from uuid import UUID

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from djtasks.admin.links import to_row
from djtasks.admin.text import label
from djtasks.db import families
from djtasks.db.connections import borrow
from djtasks.db.families import Open, Relation
from djtasks.models import Message, Result

#: So many tasks are shown of a workflow, and so deep; what is deeper stands beneath its parent all the same.
TASKS_MAX = 500
DEPTH_MAX = 12


class Line(NamedTuple):
    """One line of the tree."""

    depth: int
    #: A task, a chord that waits, or the id of a group whose members follow.
    what: Relation | Open | str


def workflow_of(request: HttpRequest, site: AdminSite, task_id: UUID) -> str:
    """The tree that a task is in, as HTML; "-" for a task that is alone. Two queries, three for a large workflow."""
    conn, own = borrow(), str(task_id)
    found = families.workflow(conn, own, TASKS_MAX + 1)
    chords: list[Open] = []
    if len(found) > 1 or any(each.group_id for each in found):
        roots = {each.root_id or each.id for each in found}
        groups = {each.group_id for each in found if each.group_id is not None}
        chords = families.open_chords(conn, sorted(roots), sorted(groups), TASKS_MAX)
    if len(found) < 2 and not chords and not any(each.group_id for each in found):
        return "-"
    more = ""
    if len(found) > TASKS_MAX:
        found.remove(next(each for each in reversed(found) if each.id != own))
        root = next((each.root_id or each.id for each in found if each.id == own), own)
        more = format_html("<p>… and {} more tasks.</p>", f"{families.size(conn, root) - TASKS_MAX:,}")
    lines = format_html_join(
        "", '<li class="djtasks-depth-{}">{}</li>', (_shown(request, site, own, line) for line in tree(found, chords))
    )
    return format_html('<ul class="djtasks-tree">{}</ul>{}', lines, mark_safe(more))  # noqa: S308 -- made above


def tree(tasks: Sequence[Relation], chords: Sequence[Open]) -> Iterator[Line]:
    """The lines of a workflow, each task after the one that it came of; a task whose parent is not there begins one.

    What is alone in coming of a task stands no deeper than that, so that a chain is a list.
    """
    known = {each.id for each in tasks}
    children: dict[str | None, list[Relation]] = {}
    for each in tasks:
        children.setdefault(each.parent_id if each.parent_id in known else None, []).append(each)
    waiting = {each.id: each for each in chords}
    # No recursion: a chain may be long.
    left = _entries(children.get(None, ()), waiting, 0)[::-1]
    while left:
        line = left.pop()
        yield line
        if isinstance(line.what, Relation):
            known.discard(line.what.id)
            came = children.get(line.what.id, ())
            deeper = line.depth + (len(came) > 1 or any(each.group_id for each in came))
            left += _entries(came, waiting, deeper)[::-1]
    # Nobody but a forger makes tasks that came of each other.
    yield from (Line(0, each) for each in tasks if each.id in known)
    yield from (Line(0, chord) for chord in waiting.values())


def _entries(tasks: Sequence[Relation], waiting: dict[str, Open], depth: int) -> list[Line]:
    """What came of one task: members behind their groups, and a chord that waits behind its header."""
    groups: dict[str, list[Relation]] = {}
    for each in tasks:
        groups.setdefault(each.group_id or "", []).append(each)
    lines = []
    for each in tasks:
        if not each.group_id:
            lines.append(Line(depth, each))
        elif members := groups.pop(each.group_id, None):
            lines.append(Line(depth, each.group_id))
            lines += [Line(depth + 1, member) for member in members]
            if (chord := waiting.pop(each.group_id, None)) is not None:
                lines.append(Line(depth, chord))
    return lines


def _shown(request: HttpRequest, site: AdminSite, own: str, line: Line) -> tuple[int, SafeString | str]:
    depth, what = min(line.depth, DEPTH_MAX), line.what
    if isinstance(what, str):
        return depth, format_html('group <span class="djtasks-id">{}</span>', what)
    if isinstance(what, Open):
        failed = "" if what.failed is None else ", one has failed"
        text = f"chord: {what.ended:,} of {what.size:,} have ended{failed}; then {label(what.body)}"
        return depth, format_html("{}{}", text, f" {what.body_id}" if what.body_id else "")
    state = _state(what)
    model = Message if what.waiting and what.state == "PENDING" else Result
    text = f"{label(what.name)} {what.id}"
    link = (
        format_html("<strong>{}</strong>", text)
        if what.id == own
        else to_row(request, site, model, UUID(what.id), text)
    )
    return depth, format_html('{} <span class="djtasks-state">{}</span>', link, state)


def _state(task: Relation) -> str:
    if task.state != "PENDING":
        return label(task.state)
    return "running" if task.running else "waiting"
