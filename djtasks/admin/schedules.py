"""Periodic tasks in the admin: added, edited, switched on and off, and run out of turn.

All rows are read and written in the database of tasks; the admin's history is where Django keeps it.
"""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import path
from django.utils.html import format_html

from djtasks import periodic
from djtasks.admin import schedule_preview as preview
from djtasks.admin.base import shown
from djtasks.admin.beats import living
from djtasks.admin.links import to_list, url_of
from djtasks.admin.schedule_actions import Actions
from djtasks.admin.schedule_forms import PeriodicTaskForm
from djtasks.admin.schedule_lists import (
    Columns,
    KindFilter,
    SourceFilter,
    TaskFilter,
    TroubleFilter,
    tick_of,
    with_last_run,
)
from djtasks.admin.text import label, pretty
from djtasks.conf import settings
from djtasks.models import PeriodicTask, Result

_COLUMNS = ("titled", "is_enabled", "schedule", "next_run", "last_run", "runs_task", "marks")
_RUNS = ("next_run", "last_run", "last_outcome", "runs", "left_out", "error")
_CRONTAB = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(Actions, Columns):
    """What runs again and again."""

    form = PeriodicTaskForm
    list_display = _COLUMNS
    list_filter = (
        "enabled",
        KindFilter,
        "one_off",
        TaskFilter,
        ("tick__last_run_at", admin.DateFieldListFilter),
        ("start_time", admin.DateFieldListFilter),
        SourceFilter,
        TroubleFilter,
    )
    search_fields = ("name", "task")
    search_help_text = "A part of a name, or of the name of a task."
    date_hierarchy = "tick__next_run_at"
    list_per_page = 50
    save_as = True
    view_on_site = False
    readonly_fields = ("next_runs", *_RUNS, "marks", "from_code")
    fieldsets = (
        (None, {"fields": ("name", "task", "enabled", "description")}),
        (
            "Schedule",
            {
                "fields": (
                    "kind",
                    ("every", "period", "relative"),
                    _CRONTAB,
                    "timezone",
                    "clocked",
                    ("event", "latitude", "longitude"),
                    "next_runs",
                )
            },
        ),
        ("Arguments", {"fields": ("args", "kwargs")}),
        (
            "Bounds",
            {"fields": ("start_time", ("expires", "expire_seconds"), "one_off", ("catch_up", "deadline"), "overlap")},
        ),
        (
            "How it is sent",
            {
                "classes": ("collapse",),
                "fields": ("queue", "priority", "exchange", "routing_key", "headers", "options"),
            },
        ),
    )

    class Media:
        css = {"all": ("djtasks/admin.css", "djtasks/schedule.css")}  # noqa: RUF012
        js = ("djtasks/schedule.js",)

    from_code = shown("from_code", "the code says")
    left_out = shown("left_out", "left out")
    last_outcome = shown("last_outcome", "its outcome")
    runs = shown("runs", "runs so far")

    # -- the database of tasks ----------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The rows, each with its tick and what is known of its last run."""
        return with_last_run(super().get_queryset(request).using(settings.DATABASE))

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """In a transaction of the database of tasks: Django opens one where its router sends the model."""
        with transaction.atomic(using=settings.DATABASE):
            return super().changeform_view(request, *args, **kwargs)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """In a transaction, too."""
        with transaction.atomic(using=settings.DATABASE):
            return super().delete_view(request, *args, **kwargs)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """What goes is the rows themselves, and what beat keeps of them."""
        names = [label(each.name) for each in objs]
        most = names[:100]
        if len(names) > len(most):
            most.append(f"… and {len(names) - len(most):,} more")
        return most, {str(self.opts.verbose_name_plural): len(names)}, set(), []

    def save_model(self, request: HttpRequest, obj: PeriodicTask, form: Any, change: bool) -> None:
        """Note that a row which came from code no longer is as the code says; warn of what may be a slip."""
        if obj.source != PeriodicTask.Source.ADMIN and form.changed_data:
            obj.overridden = True
        columns = {field.name for field in obj._meta.concrete_fields if not field.primary_key}
        if change and "enabled" not in form.changed_data:
            # While the page stood open, what runs once may have run.
            obj.save(using=settings.DATABASE, update_fields=columns - {"enabled"})
        else:
            obj.save(using=settings.DATABASE)
        for warning in periodic.warnings(obj.entry()).values():
            self.message_user(request, warning, messages.WARNING)

    # -- pages --------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        """Django's, before them the preview and "run now"."""
        view = self.admin_site.admin_view
        return [
            path("preview/", view(self.preview_view), name="djtasks_periodictask_preview"),
            path("<path:object_id>/run/", view(self.run_view), name="djtasks_periodictask_run"),
            *super().get_urls(),
        ]

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """What the fields in the address mean, as JSON. Nothing is written, and no argument is asked for."""
        if request.method != "GET":
            return HttpResponseNotAllowed(["GET"])
        if not (self.has_view_permission(request) or self.has_add_permission(request)):
            raise PermissionDenied
        number = request.GET.get("of", "")
        stored = self.get_queryset(request).filter(pk=number).first() if _is_key(number) else None
        return preview.answer(request.GET, self.get_form(request), stored)

    def run_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Run one periodic task now, and go back to its page."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        found = self.get_queryset(request).filter(pk=object_id).first() if _is_key(object_id) else None
        if not self.has_run_permission(request) or not self.has_view_permission(request, found):
            raise PermissionDenied
        if found is None:
            raise Http404("There is no such periodic task.")
        self.run_now(request, [found])
        return HttpResponseRedirect(url_of(self.admin_site, PeriodicTask, "change", found.pk))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list; above it an alarm when nobody is there to send what is due."""
        return super().changelist_view(request, {"beat_lives": living(), **(extra_context or {})})

    def get_list_display(self, request: HttpRequest) -> tuple[Any, ...]:
        """With the outcome of the last run, which leads to where the user may follow it."""

        @admin.display(description="its outcome")
        def outcome(obj: Any) -> str:
            return self.outcome_of(request, obj)

        return (*_COLUMNS[:-2], outcome, *_COLUMNS[-2:])

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """A new one begins as an interval, and as what the address says."""
        return {"kind": "interval", "period": "minutes", **super().get_changeform_initial_data(request)}

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """With "run now" for who may."""
        return super().render_change_form(
            request, {**context, "may_run": self.has_run_permission(request)}, *args, **kwargs
        )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """With what has become of its runs, for a row that there is."""
        found = super().get_fieldsets(request, obj)
        if obj is None:
            return found
        code = (("Code", {"fields": ("marks", "from_code")}),) if obj.source != PeriodicTask.Source.ADMIN else ()
        return (*found, ("Runs", {"fields": _RUNS}), *code)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """With what the page says of it beside its columns."""
        found = super().get_object(request, object_id, from_field) if _is_key(object_id) else None
        if found is not None:
            tick = tick_of(found)
            found.details = {
                "from_code": format_html('<pre class="djtasks-text">{}</pre>', pretty(found.said)),
                "last_outcome": self.outcome_of(request, found),
                "left_out": f"{tick.skipped or 0:,}",
                "runs": to_list(request, self.admin_site, Result, f"{tick.total_run_count or 0:,}", periodic=found.pk),
            }
        return found

    @admin.display(description="next runs")
    def next_runs(self, obj: Any) -> str:
        """What the schedule means, and its next runs; the script keeps it up to date."""
        return preview.panel(obj, url_of(self.admin_site, PeriodicTask, "preview"))

    @admin.display(description="schedule")
    def schedule(self, obj: PeriodicTask) -> str:
        return label(preview.words_of(obj))


def _is_key(text: str) -> bool:
    """Whether it can be the key of a row."""
    return text.isascii() and text.isdigit() and len(text) < 19
