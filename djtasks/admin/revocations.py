"""Revocations in the admin: what is not to run, and until when that holds."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from djtasks.admin.base import ReadOnlyAdmin
from djtasks.admin.text import label, moment
from djtasks.models import Revocation


@admin.register(Revocation)
class RevocationAdmin(ReadOnlyAdmin):
    """Those that somebody may still meet: what has ended as REVOKED, and says so, needs none."""

    list_display = ("means", "ends_it", "said", "until", "by_whom")
    fieldsets = ((None, {"fields": ("means", "ends_it", "said", "until", "by_whom")}),)
    ordering = ("-id",)

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
