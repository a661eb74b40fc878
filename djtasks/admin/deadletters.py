"""Dead letters in the admin: results of what was rejected, or could not be run, on a page of their own."""

from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from djtasks.admin.filters import EndedFilter, NameFilter, PeriodicFilter, QueueFilter, ReasonFilter, WorkerFilter
from djtasks.admin.links import url_of
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

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """What was done to a result is the result's history."""
        return HttpResponseRedirect(url_of(self.admin_site, Result, "history", object_id))

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).filter(dead__isnull=False)
