"""The list of periodic tasks: when each runs next, and what came of its last run. One query a page."""

from collections.abc import Iterable, Iterator
from typing import Any

from django.contrib import admin
from django.db.models import BooleanField, Case, OuterRef, QuerySet, Subquery, Value, When
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join

from djtasks.admin.filters import CHOICES_MAX, Filter
from djtasks.admin.links import to_row
from djtasks.admin.text import label, moment
from djtasks.conf import settings
from djtasks.models import Message, PeriodicTask, Result, Tick


class TaskFilter(Filter):
    """By task: those that periodic tasks run."""

    title = "task"
    parameter_name = column = "task"

    def known(self, request: HttpRequest) -> Iterator[tuple[str, str]]:
        rows = PeriodicTask.objects.using(settings.DATABASE).order_by("task").values_list("task", flat=True)
        return ((name, label(name)) for name in rows.distinct()[:CHOICES_MAX])


class KindFilter(Filter):
    """By the kind of schedule."""

    title = "kind"
    parameter_name = column = "kind"

    def known(self, request: HttpRequest) -> Iterable[tuple[str, str]]:
        return PeriodicTask.Kind.choices


class SourceFilter(Filter):
    """By where it was written down."""

    title = "source"
    parameter_name = column = "source"

    def known(self, request: HttpRequest) -> Iterable[tuple[str, str]]:
        return PeriodicTask.Source.choices


class TroubleFilter(Filter):
    """By what keeps it from running."""

    title = "trouble"
    parameter_name = "trouble"

    def known(self, request: HttpRequest) -> Iterator[tuple[str, str]]:
        yield "error", "could not be sent"
        yield "vanished", "gone from the code"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "error":
            return queryset.exclude(tick__error="").filter(tick__isnull=False)
        return queryset.filter(vanished=True) if self.value() == "vanished" else queryset


def with_last_run(queryset: QuerySet[Any]) -> QuerySet[Any]:
    """The rows with `tick`, and with what is known of the last run: `outcome` if it has left something, `waits` or not
    if it has a message.
    """
    ended = Result.objects.filter(pk=OuterRef("tick__last_task_id"))
    called = Message.objects.filter(pk=OuterRef("tick__last_task_id"))
    waits = Case(When(owner=None, then=Value(True)), default=Value(False), output_field=BooleanField())
    found: QuerySet[Any] = queryset.select_related("tick").annotate(
        outcome=Subquery(ended.values("state")[:1]), waits=Subquery(called.values_list(waits)[:1])
    )
    return found


def tick_of(task: PeriodicTask) -> Tick:
    """When it is due; of one that has no row yet, an empty one."""
    return getattr(task, "tick", None) or Tick()


class Columns(admin.ModelAdmin):  # type: ignore[type-arg] # generic in the stubs only
    """What the list and the page of a periodic task show of it."""

    def outcome_of(self, request: HttpRequest, task: Any) -> str:
        """What came of the last run, as a link to it where the user may follow it."""
        tick = tick_of(task)
        if tick.last_task_id is None:
            return "-"
        if task.outcome is not None:
            return to_row(request, self.admin_site, Result, tick.last_task_id, label(task.outcome))
        if task.waits is not None:
            text = "waits" if task.waits else "runs"
            return to_row(request, self.admin_site, Message, tick.last_task_id, text)
        return "ended, and kept no result"

    @admin.display(description="name", ordering="name")
    def titled(self, obj: PeriodicTask) -> str:
        return label(obj.name)

    @admin.display(description="task", ordering="task")
    def runs_task(self, obj: PeriodicTask) -> str:
        return label(obj.task)

    @admin.display(description="enabled", ordering="enabled", boolean=True)
    def is_enabled(self, obj: PeriodicTask) -> bool:
        return obj.enabled

    @admin.display(description="next run", ordering="tick__next_run_at")
    def next_run(self, obj: PeriodicTask) -> str:
        tick = tick_of(obj)
        if tick.next_run_at is None and obj.enabled and tick.stale:
            return "when a beat has looked"
        return moment(tick.next_run_at)

    @admin.display(description="last run", ordering="tick__last_run_at")
    def last_run(self, obj: PeriodicTask) -> str:
        return moment(tick_of(obj).last_run_at)

    @admin.display(description="runs", ordering="tick__total_run_count")
    def count(self, obj: PeriodicTask) -> str:
        return f"{tick_of(obj).total_run_count or 0:,}"

    @admin.display(description="marks")
    def marks(self, obj: PeriodicTask) -> str:
        """Where it comes from, if from code; whether that still holds; whether it could be sent."""
        found = []
        if obj.source != PeriodicTask.Source.ADMIN:
            found.append(("djtasks-mark", f"from {obj.get_source_display()}"))
        if obj.overridden:
            found.append(("djtasks-mark", "overridden"))
        if obj.vanished:
            found.append(("djtasks-mark djtasks-bad", "gone from the code"))
        if obj.one_off:
            found.append(("djtasks-mark", "once"))
        if tick_of(obj).error:
            found.append(("djtasks-mark djtasks-bad", "could not be sent"))
        return format_html_join(" ", '<span class="{}">{}</span>', found)

    @admin.display(description="could not be sent")
    def error(self, obj: PeriodicTask) -> str:
        tick = tick_of(obj)
        if not tick.error:
            return "-"
        return format_html('<pre class="djtasks-text djtasks-bad">{}</pre>{}', label(tick.error), moment(tick.error_at))
