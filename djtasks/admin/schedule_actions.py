"""What a person may do to many periodic tasks at once. Each thing is one statement, however many rows are chosen."""

from collections.abc import Iterable
from typing import Any, Final

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import Case, F, QuerySet, Value, When
from django.db.models.functions import Now
from django.http import HttpRequest

from djtasks import runs
from djtasks.admin.text import label
from djtasks.conf import settings
from djtasks.db import synced
from djtasks.db.connections import borrow
from djtasks.models import PeriodicTask

#: So many errors are told one by one.
COMPLAINTS_MAX: Final = 3
#: A row that came from code and is changed here is no longer as the code says.
_EDITED: Final = Case(When(source=PeriodicTask.Source.ADMIN, then=F("overridden")), default=Value(True))
_TOGGLED: Final = Case(When(enabled=True, then=Value(False)), default=Value(True))


class Actions(admin.ModelAdmin):  # type: ignore[type-arg] # generic in the stubs only
    """The part of the admin of periodic tasks that acts on those that are ticked."""

    actions = ("enable_selected", "disable_selected", "toggle_selected", "run_selected", "reset_selected")

    def has_run_permission(self, request: HttpRequest) -> bool:
        """Whether the user may run periodic tasks out of turn."""
        user: Any = request.user
        return bool(user.has_perm("djtasks.run_periodictask"))

    @admin.action(description="Enable selected periodic tasks", permissions=["change"])
    def enable_selected(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Let them run, at the next times from now on."""
        self._switch(request, queryset.filter(enabled=False), "Enabled", True)

    @admin.action(description="Disable selected periodic tasks", permissions=["change"])
    def disable_selected(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Let them run no more; what has been sent runs all the same."""
        self._switch(request, queryset.filter(enabled=True), "Disabled", False)

    @admin.action(description="Toggle selected periodic tasks", permissions=["change"])
    def toggle_selected(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Enable those that are disabled, and disable the others."""
        self._switch(request, queryset, "Toggled", _TOGGLED)

    @admin.action(description="Run selected periodic tasks now", permissions=["run"])
    def run_selected(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Send them now, once; their schedules go on as they were."""
        self.run_now(request, _chosen(queryset))

    @admin.action(description="Reset selected periodic tasks to what the code says", permissions=["change"])
    def reset_selected(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Take back what has been changed here of those that come from code, and are still there."""
        chosen = _chosen(queryset.filter(overridden=True))
        done = synced.reset(borrow(), [each.pk for each in chosen])
        self._log(request, [each for each in chosen if each.pk in done], "Reset to what the code says.")
        text = f"{_many(len(done))} reset." if done else "None of them differs from code that is still there."
        self.message_user(request, text, messages.SUCCESS if done else messages.WARNING)

    def run_now(self, request: HttpRequest, chosen: list[PeriodicTask]) -> None:
        """Send these tasks, and tell the user what came of it."""
        complaints: dict[int, str] = {}
        sent = runs.run_now([each.pk for each in chosen], complaints)
        self._log(request, chosen, "Run now.")
        if sent:
            self.message_user(request, f"{_many(sent)} sent.", messages.SUCCESS)
        names = {each.pk: each.name for each in chosen}
        for pk, text in list(complaints.items())[:COMPLAINTS_MAX]:
            self.message_user(request, f"Could not be sent: {label(names.get(pk))}: {label(text)}", messages.ERROR)
        if len(complaints) > COMPLAINTS_MAX:
            more = _many(len(complaints) - COMPLAINTS_MAX)
            self.message_user(request, f"{more} more could not be sent: their pages say why.", messages.ERROR)

    def _switch(self, request: HttpRequest, queryset: QuerySet[PeriodicTask], done: str, enabled: Any) -> None:
        chosen = _chosen(queryset)
        count = _plain(queryset).update(enabled=enabled, overridden=_EDITED, date_changed=Now())
        self._log(request, chosen, f"{done}.")
        self.message_user(request, f"{_many(count)} {done.lower()}.", messages.SUCCESS if count else messages.WARNING)

    def _log(self, request: HttpRequest, rows: Iterable[PeriodicTask], text: str) -> None:
        user: Any = request.user
        LogEntry.objects.log_actions(user.pk, rows, CHANGE, text)


def _plain(queryset: QuerySet[PeriodicTask]) -> QuerySet[PeriodicTask]:
    """The same rows, without what a list shows beside them."""
    return PeriodicTask.objects.using(settings.DATABASE).filter(pk__in=queryset.order_by().values("pk"))


def _chosen(queryset: QuerySet[PeriodicTask]) -> list[PeriodicTask]:
    return list(_plain(queryset).order_by().only("pk", "name"))


def _many(count: int) -> str:
    return f"{count:,} periodic task{'' if count == 1 else 's'}"
