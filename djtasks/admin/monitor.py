"""The way from the admin's list of models to the live monitor, where that has an address."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import NoReverseMatch, reverse

from djtasks.admin.base import ReadOnlyAdmin
from djtasks.models import Monitor

#: Whoever may see one of these may enter it.
SHOWN = ("worker", "queue", "message", "result")


def address() -> str | None:
    """The address of the monitor; None where `djtasks.urls` is not included."""
    try:
        return reverse("djtasks_monitor:overview")
    except NoReverseMatch:
        return None


@admin.register(Monitor)
class MonitorAdmin(ReadOnlyAdmin):
    """No rows of its own: the list is the monitor."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether there is a monitor, and something in it that the user may see."""
        user: Any = request.user
        may = any(user.has_perm(f"djtasks.{verb}_{model}") for model in SHOWN for verb in ("view", "change"))
        return may and address() is not None

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """On to the monitor."""
        url = address()
        if url is None or not self.has_view_permission(request):
            raise PermissionDenied
        return HttpResponseRedirect(url)
