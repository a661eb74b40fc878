"""Beats in the admin: who sends periodic tasks, and whether it lives."""

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import DurationField, ExpressionWrapper, F, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest

from djtasks.admin.base import ReadOnlyAdmin
from djtasks.admin.text import duration, label, moment
from djtasks.conf import settings
from djtasks.models import Beat


def living() -> bool:
    """Whether a beat has been heard of lately, by the database's clock."""
    since = Now() - timedelta(seconds=settings.WORKER_DEAD_AFTER)
    return Beat.objects.using(settings.DATABASE).filter(heartbeat__gt=since).exists()


@admin.register(Beat)
class BeatAdmin(ReadOnlyAdmin):
    """Each start of each beat; the row of one that is gone is removed by the others."""

    list_display = ("node", "lives", "part_of_worker", "since", "process", "tasks_sent")
    search_fields = ("name",)
    search_help_text = "A part of a beat's name."
    ordering = ("name", "incarnation")
    # A table of as many rows as there are beats may be counted.
    show_full_result_count = True
    fieldsets = (
        (None, {"fields": ("node", "lives", "heartbeat_at", "since", "tasks_sent")}),
        ("Process", {"fields": ("process", "part_of_worker", "number")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """With the time since the heartbeat, by the database's clock."""
        age = ExpressionWrapper(Now() - F("heartbeat"), output_field=DurationField())
        found: QuerySet[Any] = super().get_queryset(request).annotate(age=age)
        return found

    @admin.display(description="beat")
    def node(self, obj: Beat) -> str:
        return label(obj.name)

    @admin.display(description="lives", boolean=True)
    def lives(self, obj: Any) -> bool:
        return bool(obj.age < timedelta(seconds=settings.WORKER_DEAD_AFTER))

    @admin.display(description="in a worker", boolean=True)
    def part_of_worker(self, obj: Beat) -> bool:
        return obj.embedded

    @admin.display(description="up since")
    def since(self, obj: Beat) -> str:
        return moment(obj.started)

    @admin.display(description="last heartbeat")
    def heartbeat_at(self, obj: Any) -> str:
        return f"{moment(obj.heartbeat)} ({duration(obj.age)} ago)"

    @admin.display(description="tasks sent")
    def tasks_sent(self, obj: Beat) -> str:
        return f"{obj.sent:,}"

    @admin.display(description="incarnation")
    def number(self, obj: Beat) -> str:
        return str(obj.incarnation)

    @admin.display(description="process")
    def process(self, obj: Beat) -> str:
        return f"{obj.pid} on {label(obj.host)}"
