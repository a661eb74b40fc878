"""Dead letters in the admin: results of what was rejected, or could not be run, on a page of their own."""

from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest

from djtasks.admin.filters import EndedFilter, NameFilter, PeriodicFilter, QueueFilter, ReasonFilter, WorkerFilter
from djtasks.admin.results import ResultAdmin
from djtasks.db.pages import DEAD
from djtasks.models import DeadLetter, Result


@admin.register(DeadLetter)
class DeadLetterAdmin(ResultAdmin):
    """Those results that are dead letters, the last one first; who may see results sees them."""

    always = {"dead": DEAD}  # noqa: RUF012
    list_display: tuple[str, ...] = (
        "task",
        "letter",
        "state_name",
        "in_queue",
        "ran_on",
        "called",
        "ended",
        "retries",
        "id",
    )
    list_filter: ClassVar[tuple[Any, ...]] = (
        ReasonFilter,
        EndedFilter,
        QueueFilter,
        NameFilter,
        WorkerFilter,
        PeriodicFilter,
    )
    history_of = Result

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        user: Any = request.user
        return bool(user.has_perm("djtasks.view_result") or user.has_perm("djtasks.change_result"))

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).filter(dead__isnull=False)
