"""How a task is related to others: what its headers say, as links to the rows that are there."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from django.contrib.admin import AdminSite
from django.db.models import Model
from django.http import HttpRequest

from djtasks.admin.links import as_uuid, rows_of, to_row
from djtasks.admin.text import label


class Family(NamedTuple):
    """The rows around one task: HTML, or text where there is nothing to link to."""

    #: The caller's own text for the task's id.
    own_id: str
    parent: str
    root: str
    #: The task's row in the other table.
    counterpart: str


def family_of(
    request: HttpRequest, site: AdminSite, task_id: UUID, headers: Mapping[str, Any], other: type[Model], text: str
) -> Family:
    """The family of a task. `other` is the model of its possible other row, `text` what the link to it says."""
    own, parent, root = (headers.get(key) for key in ("task_id", "parent_id", "root_id"))
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
    )
