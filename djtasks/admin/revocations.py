"""Revocations in the admin: what is not to run, and until when that holds."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import DELETION, LogEntry
from django.core.exceptions import BadRequest
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse

from djtasks.admin.base import ReadOnlyAdmin
from djtasks.admin.text import label, moment
from djtasks.models import Revocation

TICKED = 200
TAKE_BACK = {
    "action": "take_back_selected",
    "text": "holds no longer: a task that comes, or comes back, runs; what has ended as REVOKED stays so",
    "button": "Take them back",
    "nothing": "None of the selected revocations is there any more.",
}


@admin.register(Revocation)
class RevocationAdmin(ReadOnlyAdmin):
    """Those that somebody may still meet: what has ended as REVOKED, and says so, needs none."""

    list_display = ("means", "ends_it", "said", "until", "by_whom")
    fieldsets = ((None, {"fields": ("means", "ends_it", "said", "until", "by_whom")}),)
    ordering = ("-id",)
    actions = ("take_back_selected",)

    def has_take_back_permission(self, request: HttpRequest) -> bool:
        """Whether the user may take revocations back: who has Django's permission to delete them."""
        user: Any = request.user
        return bool(user.has_perm("djtasks.delete_revocation"))

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any) -> Any:
        """Raises BadRequest for what is no number of a row."""
        for text in request.POST.getlist(ACTION_CHECKBOX_NAME):
            if not (text.isascii() and text.isdigit() and int(text) < 2**63):
                raise BadRequest("a selected row is not the number of a revocation")
        return super().response_action(request, queryset, *args, **kwargs)

    @admin.action(description="Take selected revocations back", permissions=["take_back"])
    def take_back_selected(self, request: HttpRequest, queryset: "QuerySet[Revocation]") -> TemplateResponse | None:
        """Ask, then do it: what comes from now on runs. What has ended as REVOKED stays so."""
        ticked = request.POST.getlist(ACTION_CHECKBOX_NAME)[:TICKED]
        rows = list(queryset.filter(pk__in=ticked))
        if request.POST.get("confirmed") == "yes":
            user: Any = request.user
            LogEntry.objects.log_actions(user.pk, rows, DELETION, "Taken back.")
            gone, _ = queryset.filter(pk__in=[row.pk for row in rows]).delete()
            level = messages.SUCCESS if gone else messages.WARNING
            self.message_user(request, f"{gone} of the revocations are taken back.", level)
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": "Take these revocations back?",
            "opts": self.opts,
            "media": self.media,
            "deed": TAKE_BACK,
            "noun": "revocations" if len(rows) != 1 else "revocation",
            "rows": [{"id": row.pk, "name": self.means(row)} for row in rows],
            "count": len(rows),
            "checkbox": ACTION_CHECKBOX_NAME,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/djtasks/confirm.html", context)

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Revocation]":
        """All of them: there is nothing large in a row."""
        found: QuerySet[Revocation] = super().get_queryset(request)
        return found

    @admin.display(description="what")
    def means(self, obj: Revocation) -> str:
        if obj.stamp is not None:
            return label(f"stamp {obj.stamp}={obj.value}")
        return f"task {obj.task_id}" if obj.task_id else f"workflow {obj.root_id}"

    @admin.display(description="ends what runs", boolean=True)
    def ends_it(self, obj: Revocation) -> bool:
        return obj.terminate

    @admin.display(description="said")
    def said(self, obj: Revocation) -> str:
        return moment(obj.created)

    @admin.display(description="holds until")
    def until(self, obj: Revocation) -> str:
        return moment(obj.expires)

    @admin.display(description="by")
    def by_whom(self, obj: Revocation) -> str:
        return label(obj.by)
