"""Results in the admin: how tasks ended, and what those that run have said of themselves."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from djtasks.admin import payload
from djtasks.admin.actions import Ended
from djtasks.admin.base import PagedAdmin, shown
from djtasks.admin.family import family_of
from djtasks.admin.filters import (
    DeadFilter,
    EndedFilter,
    NameFilter,
    PeriodicFilter,
    QueueFilter,
    StateFilter,
    WorkerFilter,
)
from djtasks.admin.links import to_worker
from djtasks.admin.lists import Source
from djtasks.admin.text import duration, label, moment
from djtasks.admin.workflow import workflow_of
from djtasks.db import pages
from djtasks.models import Message, Result


@admin.register(Result)
class ResultAdmin(Ended, PagedAdmin):
    """Tasks that have ended, the last one first, and behind them what those have said that have not."""

    source = Source(pages.RESULTS, pages.results)
    heavy = ("result", "traceback", "headers", "body")
    list_display: tuple[str, ...] = (
        "task",
        "state_name",
        "in_queue",
        "ran_on",
        "called",
        "ended",
        "runtime",
        "retries",
        "letter",
        "run_of",
        "id",
    )
    list_filter: ClassVar[tuple[Any, ...]] = (
        StateFilter,
        EndedFilter,
        DeadFilter,
        QueueFilter,
        NameFilter,
        WorkerFilter,
        PeriodicFilter,
    )
    fieldsets = (
        (None, {"fields": ("id", "own_id", "task", "state_name", "letter", "worker_link", "in_queue", "priority")}),
        ("Times", {"fields": ("called", "began", "ended", "runtime", "retries")}),
        ("Outcome", {"fields": ("outcome", "trace", "outcome_stored_as")}),
        ("Related tasks", {"fields": ("parent", "root", "counterpart", "periodic_link")}),
        ("Workflow", {"fields": ("workflow",)}),
        ("Payload", {"fields": ("args", "kwargs", "other_headers", "stored_as")}),
    )

    private = ("Outcome", "Payload")
    payload_permission = "view_payload_result"
    worker_link = shown("worker", "worker")
    outcome = shown("outcome", "result or exception")
    trace = shown("traceback", "traceback")
    outcome_stored_as = shown("outcome_stored_as", "stored as")

    def detailed(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return payload.with_traceback(payload.bounded(queryset, "result", "body"))

    def public(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return payload.headed(queryset)

    def details(self, request: HttpRequest, row: Any) -> Mapping[str, str]:
        """The decoded value and payload of one result, by the name of the field, as escaped text."""
        found = {
            **family_of(request, self.admin_site, row, Message, "a message")._asdict(),
            "workflow": workflow_of(request, self.admin_site, row.pk),
            "worker": to_worker(request, self.admin_site, row.owner, row.worker),
        }
        if not self.may_see_payload(request):
            return found
        outcome = payload.stored(row, "result", row.content_type, row.content_encoding)
        body = payload.stored(row, "body", row.body_content_type, row.body_content_encoding)
        args, kwargs = payload.arguments(body, row.headers_start)
        return {
            **found,
            "outcome": payload.outcome(outcome),
            "outcome_stored_as": str(outcome),
            "traceback": payload.traceback_block(row),
            "args": args,
            "kwargs": kwargs,
            "headers": payload.headers_block(row.headers_start),
            "stored_as": str(body),
        }

    @admin.display(description="state")
    def state_name(self, obj: Result) -> str:
        return label(obj.state)

    @admin.display(description="dead letter")
    def letter(self, obj: Result) -> str:
        return label(obj.dead)

    @admin.display(description="worker")
    def ran_on(self, obj: Result) -> str:
        return label(obj.worker)

    @admin.display(description="began")
    def began(self, obj: Result) -> str:
        return moment(obj.started)

    @admin.display(description="ended")
    def ended(self, obj: Result) -> str:
        return moment(obj.done)

    @admin.display(description="runtime")
    def runtime(self, obj: Result) -> str:
        ran: timedelta | None = obj.done - obj.started if obj.done and obj.started else None
        return duration(ran)
