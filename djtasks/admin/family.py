"""How a task is related to others: what its headers say, as links to the rows that are there."""

from typing import NamedTuple
from uuid import UUID

from django.contrib.admin import AdminSite
from django.db.models import Model
from django.http import HttpRequest

from djtasks.admin.links import as_uuid, rows_of, to_row
from djtasks.admin.payload import headers
from djtasks.admin.text import label
from djtasks.conf import settings
from djtasks.models import Message, PeriodicTask, Result


class Family(NamedTuple):
    """The rows around one task: HTML, or text where there is nothing to link to."""

    #: The caller's own text for the task's id.
    own_id: str
    parent: str
    root: str
    #: The task's row in the other table.
    counterpart: str
    #: The periodic task that it is a run of.
    periodic_task: str


def family_of(request: HttpRequest, site: AdminSite, row: Message | Result, other: type[Model], text: str) -> Family:
    """The family of a task whose row has `headers_start`. `other` is the model of its possible other row, `text` what
    the link to it says.
    """
    said, task_id = headers(row.headers_start), row.pk  # type: ignore[union-attr] # annotated
    own, parent, root = (said.get(key) for key in ("task_id", "parent_id", "root_id"))
    parent, root = parent or _text(row.parent_id), root or _text(row.root_id)
    known = rows_of({task_id, *(key for each in (parent, root) if (key := as_uuid(each)) is not None)})

    def link(said: object) -> str:
        key = as_uuid(said)
        if key is None or not isinstance(said, str):
            return "-"
        found = known.get(key)
        return to_row(request, site, found[0], key, label(said)) if found else label(said)

    return Family(
        own_id=label(own) if isinstance(own, str) else "-",
        parent=link(parent),
        root=link(root),
        counterpart=to_row(request, site, other, task_id, text) if other in known.get(task_id, ()) else "-",
        periodic_task="-" if row.periodic is None else _to_periodic(request, site, row.periodic),
    )


def _text(task_id: UUID | None) -> str | None:
    return None if task_id is None else str(task_id)


def _to_periodic(request: HttpRequest, site: AdminSite, number: int) -> str:
    """The name of a periodic task, as a link; its number when it is gone."""
    found = PeriodicTask.objects.using(settings.DATABASE).filter(pk=number).values_list("name", flat=True).first()
    if found is None:
        return f"one that is gone ({number})"
    return to_row(request, site, PeriodicTask, number, label(found))
