"""Messages in the admin: what waits, what runs, and what may not run now."""

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.db.models.options import Options
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase

from djtasks.admin import payload
from djtasks.admin.actions import Unended
from djtasks.admin.base import PagedAdmin, shown
from djtasks.admin.family import family_of
from djtasks.admin.filters import CalledFilter, NameFilter, OwnerFilter, PeriodicFilter, QueueFilter, StatusFilter
from djtasks.admin.links import as_uuid, may_view, rows_of, to_worker, url_of
from djtasks.admin.lists import Source
from djtasks.admin.text import label, moment
from djtasks.admin.workflow import workflow_of
from djtasks.db import pages
from djtasks.models import Message, Result

_REASONS: Mapping[str, object] = dict(Message.Reason.choices)


@admin.register(Message)
class MessageAdmin(Unended, PagedAdmin):
    """Tasks that wait or run, in the order in which they will be taken."""

    source = Source(pages.MESSAGES, pages.messages)
    heavy = ("body", "headers")
    list_display = ("task", "status", "in_queue", "priority", "runs_after", "called", "retries", "run_of", "id")
    list_filter = (StatusFilter, CalledFilter, QueueFilter, NameFilter, OwnerFilter, PeriodicFilter)
    fieldsets = (
        (None, {"fields": ("id", "own_id", "task", "status", "held_by", "in_queue", "priority")}),
        ("Times", {"fields": ("called", "runs_after", "expires_at")}),
        ("Runs", {"fields": ("retries", "crashes", "rerun")}),
        ("Related tasks", {"fields": ("parent", "root", "counterpart", "periodic_link")}),
        ("Workflow", {"fields": ("workflow",)}),
        ("Payload", {"fields": ("args", "kwargs", "other_headers", "stored_as")}),
    )

    payload_permission = "view_payload_message"
    held_by = shown("held_by", "worker")

    def detailed(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return payload.bounded(queryset, "body")

    def public(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return payload.headed(queryset)

    def details(self, request: HttpRequest, row: Any) -> Mapping[str, str]:
        found = {
            **family_of(request, self.admin_site, row, Result, "a result, so far")._asdict(),
            "workflow": workflow_of(request, self.admin_site, row.pk),
            "held_by": to_worker(request, self.admin_site, row.owner),
        }
        if not self.may_see_payload(request):
            return found
        body = payload.stored(row, "body", row.content_type, row.content_encoding)
        args, kwargs = payload.arguments(body, row.headers_start)
        return {
            **found,
            "args": args,
            "kwargs": kwargs,
            "headers": payload.headers_block(row.headers_start),
            "stored_as": str(body),
        }

    def _get_obj_does_not_exist_redirect(
        self, request: HttpRequest, opts: "Options[Any]", object_id: str
    ) -> HttpResponseBase:
        """A message that is gone has ended, most likely since the list was shown: on to its result, if it left one."""
        key = as_uuid(object_id)
        if key is not None and may_view(request, self.admin_site, Result) and Result in rows_of([key]).get(key, ()):
            self.message_user(request, "This task has ended meanwhile: here is its result.")
            return HttpResponseRedirect(url_of(self.admin_site, Result, "change", str(key)))
        found: HttpResponseBase = super()._get_obj_does_not_exist_redirect(request, opts, object_id)  # type: ignore[misc]
        return found

    @admin.display(description="status")
    def status(self, obj: Message) -> str:
        if obj.owner is not None:
            return "running"
        if obj.lane is not None:
            return "waiting"
        return f"parked: {_REASONS.get(obj.reason or '', label(obj.reason))}"

    @admin.display(description="eta")
    def runs_after(self, obj: Message) -> str:
        return moment(obj.eta)

    @admin.display(description="expires")
    def expires_at(self, obj: Message) -> str:
        return moment(obj.expires)
