"""Workers in the admin: who is there, and whether it lives."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import DurationField, ExpressionWrapper, F, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest

from djtasks.admin.base import ReadOnlyAdmin, shown
from djtasks.admin.links import to_list
from djtasks.admin.text import duration, label, moment, pretty
from djtasks.conf import settings
from djtasks.models import Message, Result, Worker


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    """Each start of each worker; the row of one that is gone is removed by the others."""

    list_display = ("node", "lives", "pool", "concurrency", "consumes", "tasks_ended", "since", "process")
    search_fields = ("name",)
    search_help_text = "A part of a worker's name."
    ordering = ("name", "incarnation")
    # A table of as many rows as there are workers may be counted.
    show_full_result_count = True
    fieldsets = (
        (None, {"fields": ("node", "lives", "heartbeat_at", "since")}),
        ("Work", {"fields": ("pool", "concurrency", "consumes", "tasks_ended", "asleep", "holds", "has_done")}),
        ("Process", {"fields": ("process", "process_group", "number")}),
    )

    holds = shown("holds", "in its hands")
    has_done = shown("has_done", "of its name")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """With the time since the heartbeat, by the database's clock."""
        age = ExpressionWrapper(Now() - F("heartbeat"), output_field=DurationField())
        found: QuerySet[Any] = super().get_queryset(request).annotate(age=age)
        return found

    def details(self, request: HttpRequest, row: Any) -> Mapping[str, str]:
        return {
            "holds": to_list(request, self.admin_site, Message, "messages", owner=row.incarnation),
            "has_done": to_list(request, self.admin_site, Result, "results", worker=row.name),
        }

    @admin.display(description="worker")
    def node(self, obj: Worker) -> str:
        return label(obj.name)

    @admin.display(description="lives", boolean=True)
    def lives(self, obj: Any) -> bool:
        return bool(obj.age < timedelta(seconds=settings.WORKER_DEAD_AFTER))

    @admin.display(description="queues")
    def consumes(self, obj: Worker) -> str:
        return _listed(obj.queues)

    @admin.display(description="tasks ended")
    def tasks_ended(self, obj: Worker) -> str:
        if not isinstance(obj.counters, dict):
            return pretty(obj.counters)
        return ", ".join([f"{label(str(state))} {count}" for state, count in sorted(obj.counters.items())]) or "-"

    @admin.display(description="asleep", boolean=True)
    def asleep(self, obj: Worker) -> bool:
        # One that waits to be woken, with nothing more to take, may still run what it has taken.
        running = obj.state.get("running") if isinstance(obj.state, dict) else None
        return obj.idle and not (isinstance(running, int) and running)

    @admin.display(description="up since")
    def since(self, obj: Worker) -> str:
        return moment(obj.started)

    @admin.display(description="last heartbeat")
    def heartbeat_at(self, obj: Any) -> str:
        return f"{moment(obj.heartbeat)} ({duration(obj.age)} ago)"

    @admin.display(description="incarnation")
    def number(self, obj: Worker) -> str:
        return str(obj.incarnation)

    @admin.display(description="process")
    def process(self, obj: Worker) -> str:
        return f"{obj.pid} on {label(obj.host)}"


def _listed(names: object) -> str:
    return ", ".join([label(str(name)) for name in names]) if isinstance(names, list) else pretty(names)
