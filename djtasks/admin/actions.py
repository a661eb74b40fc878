"""What a person may do to tasks in the admin: put those that have ended back into their queues.

It needs a permission of its own, is asked for a second time, and is written into the admin's history.
"""

from collections import Counter
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import BadRequest
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse

from djtasks.conf import settings
from djtasks.models import Result
from djtasks.requeue import HURRIED, NOT_KEPT, REQUEUED, RUNNING, TAKEN, UNKNOWN, WAITING, requeue

#: No page of a list is longer.
MOST = 200
_ANSWERS = {
    REQUEUED: "put back into their queues",
    HURRIED: "waited for their time, and may run now",
    WAITING: "wait anyway",
    RUNNING: "run anyway",
    NOT_KEPT: "cannot run again: their arguments were not kept",
    TAKEN: "cannot run again now: another task has their unique key",
    UNKNOWN: "are not there any more",
}


class Requeues(admin.ModelAdmin):  # type: ignore[type-arg] # generic in the stubs only
    """The part of an admin of results that puts tasks back."""

    actions = ("requeue_selected",)

    def has_requeue_permission(self, request: HttpRequest) -> bool:
        """Whether the user may let tasks run again."""
        allowed: bool = request.user.has_perm("djtasks.requeue_result")
        return allowed

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any) -> Any:
        """Raises BadRequest for what is no id: Django would take it to the database."""
        try:
            for text in request.POST.getlist(ACTION_CHECKBOX_NAME):
                UUID(text)
        except ValueError as error:
            raise BadRequest("a selected row is not the id of a task") from error
        return super().response_action(request, queryset, *args, **kwargs)

    @admin.action(description="Put selected tasks back into their queues", permissions=["requeue"])
    def requeue_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> TemplateResponse | None:
        """Ask, then do it."""
        rows = self._selected(request)
        if request.POST.get("confirmed") != "yes":
            context = {
                **self.admin_site.each_context(request),
                "title": "Run these tasks again?",
                "opts": self.opts,
                "media": self.media,
                "rows": rows,
                "checkbox": ACTION_CHECKBOX_NAME,
            }
            request.current_app = self.admin_site.name
            return TemplateResponse(request, "admin/djtasks/requeue.html", context)
        answers = requeue([str(row.pk) for row in rows])
        for row in rows:
            if answers[str(row.pk)] == REQUEUED:
                self.log_change(request, row, "Put back into its queue.")
        for answer, count in Counter(answers.values()).items():
            level = messages.SUCCESS if answer in (REQUEUED, HURRIED) else messages.WARNING
            self.message_user(request, f"{count} of the tasks {_ANSWERS[answer]}.", level)
        return None

    def _selected(self, request: HttpRequest) -> list[Result]:
        """The rows that are ticked; never more than a page, whatever the request says of all pages."""
        ids = [UUID(text) for text in request.POST.getlist(ACTION_CHECKBOX_NAME)[:MOST]]
        rows = Result.objects.using(settings.DATABASE).filter(pk__in=ids, done__isnull=False)
        return list(rows.only("id", "name", "state", "queue", "done", "dead").order_by("done", "id"))
