"""Links between rows: only to what is there, and what the user may see."""

from collections.abc import Iterable
from urllib.parse import urlencode
from uuid import UUID

from django.contrib.admin import AdminSite
from django.contrib.admin.utils import quote
from django.db.models import Model, Value
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from djtasks.admin.text import label
from djtasks.conf import settings
from djtasks.ids import as_task_id
from djtasks.models import Message, Result, Worker

#: More workers than this are not offered as filters, nor linked to.
WORKERS_MAX = 1000


def workers(request: HttpRequest) -> list[Worker]:
    """The workers there are; asked for once a request."""
    found: list[Worker] | None = getattr(request, "_djtasks_workers", None)
    if found is None:
        rows = Worker.objects.using(settings.DATABASE).only("incarnation", "name", "queues")
        found = list(rows.order_by("name", "incarnation")[:WORKERS_MAX])
        request._djtasks_workers = found  # type: ignore[attr-defined]
    return found


def may_view(request: HttpRequest, site: AdminSite, model: type[Model]) -> bool:
    """Whether the site shows this model to this user."""
    return site.is_registered(model) and site.get_model_admin(model).has_view_permission(request)


def to_row(request: HttpRequest, site: AdminSite, model: type[Model], pk: int | UUID, text: str) -> str:
    """A link to the page of a row; the text alone where the user may not see it."""
    if not may_view(request, site, model):
        return text
    return format_html('<a href="{}">{}</a>', url_of(site, model, "change", quote(pk)), text)


def to_list(request: HttpRequest, site: AdminSite, model: type[Model], text: str, **filters: object) -> str:
    """A link to the list of a model, filtered."""
    if not may_view(request, site, model):
        return text
    return format_html('<a href="{}?{}">{}</a>', url_of(site, model, "changelist"), urlencode(filters), text)


def to_worker(request: HttpRequest, site: AdminSite, incarnation: int | None, name: str | None = None) -> str:
    """A link to a worker that has a row; else its name, or the number it had."""
    found = next((each for each in workers(request) if each.incarnation == incarnation), None)
    if found is not None:
        return to_row(request, site, Worker, found.pk, label(name or found.name))
    return label(name) if name or incarnation is None else f"a worker that is gone ({incarnation})"


def rows_of(ids: Iterable[UUID]) -> dict[UUID, list[type[Model]]]:
    """Where there is a row for these tasks: the models, results first. One query."""
    wanted = list(ids)
    found: dict[UUID, list[type[Model]]] = {}
    results = Result.objects.using(settings.DATABASE).filter(pk__in=wanted).values_list("pk", Value("result"))
    messages = Message.objects.using(settings.DATABASE).filter(pk__in=wanted).values_list("pk", Value("message"))
    for pk, kind in sorted(results.union(messages, all=True), key=lambda row: row[1], reverse=True):
        found.setdefault(pk, []).append(Result if kind == "result" else Message)
    return found


def as_uuid(task_id: object) -> UUID | None:
    """The key of the row that a task id, a UUID or a caller's own text, names; None for what is no id."""
    try:
        return UUID(as_task_id(task_id)) if isinstance(task_id, str) else None
    except (TypeError, ValueError):
        # An empty text; one that is no Unicode.
        return None


def url_of(site: AdminSite, model: type[Model], page: str, *args: object) -> str:
    """The address of a page ("changelist", "change") of a model."""
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args, current_app=site.name)
