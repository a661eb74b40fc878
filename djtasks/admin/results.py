"""Results in the admin: how tasks ended, and what those that run have said of themselves."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from djtasks.admin import payload
from djtasks.admin.actions import Requeues
from djtasks.admin.base import PagedAdmin, shown
from djtasks.admin.family import family_of
from djtasks.admin.filters import DeadFilter, NameFilter, QueueFilter, StateFilter, WorkerFilter
from djtasks.admin.links import to_worker
from djtasks.admin.lists import Source
from djtasks.admin.text import duration, label, moment
from djtasks.db import pages
from djtasks.models import Message, Result


@admin.register(Result)
class ResultAdmin(Requeues, PagedAdmin):
    """Tasks that have ended, the last one first, and behind them what those have said that have not."""

    source = Source(pages.RESULTS, pages.results)
    heavy = ("result", "traceback", "headers", "body")
    list_display = ("task", "state_name", "in_queue", "ran_on", "called", "ended", "runtime", "retries", "letter", "id")
    list_filter = (StateFilter, DeadFilter, QueueFilter, NameFilter, WorkerFilter)
    fieldsets = (
        (None, {"fields": ("id", "own_id", "task", "state_name", "letter", "worker_link", "in_queue", "priority")}),
        ("Times", {"fields": ("called", "began", "ended", "runtime", "retries")}),
        ("Outcome", {"fields": ("outcome", "trace", "outcome_stored_as")}),
        ("Related tasks", {"fields": ("parent", "root", "counterpart")}),
        ("Payload", {"fields": ("args", "kwargs", "other_headers", "stored_as")}),
    )

    worker_link = shown("worker", "worker")
    outcome = shown("outcome", "result or exception")
    trace = shown("traceback", "traceback")
    outcome_stored_as = shown("outcome_stored_as", "stored as")

    def detailed(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return payload.with_traceback(payload.bounded(queryset, "result", "body"))

    def details(self, request: HttpRequest, row: Any) -> Mapping[str, str]:
        """The decoded value and payload of one result, by the name of the field, as escaped text."""
        outcome = payload.stored(row, "result", row.content_type, row.content_encoding)
        body = payload.stored(row, "body", row.body_content_type, row.body_content_encoding)
        args, kwargs = payload.arguments(body, row.headers_start)
        headers = payload.headers(row.headers_start)
        return {
            **family_of(request, self.admin_site, row.pk, headers, Message, "a message")._asdict(),
            "worker": to_worker(request, self.admin_site, row.owner, row.worker),
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
