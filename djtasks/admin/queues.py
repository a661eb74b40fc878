"""Queues in the admin: what waits in each, and a button that pauses it."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from djtasks import queues
from djtasks.admin.base import ReadOnlyAdmin
from djtasks.admin.links import url_of, workers
from djtasks.admin.text import duration, label, moment
from djtasks.conf import settings
from djtasks.conf.kinds import Unfit, queue_name
from djtasks.db import queues as table
from djtasks.db.connections import borrow
from djtasks.models import Queue
from djtasks.routing import known_queues

#: More queues than this are not listed.
QUEUES_MAX = 1000
#: So many messages are counted: of one queue, and of all of them.
COUNTED = (10_000, 200_000)


class NamesForm(forms.Form):
    """What to do, and with which queue."""

    name = forms.CharField(max_length=200, strip=False)
    do = forms.ChoiceField(choices=[("pause", "pause"), ("resume", "resume")])
    note = forms.CharField(max_length=500, required=False)

    def clean_name(self) -> str:
        """Raise ValidationError for what is no name of a queue."""
        name: str = self.cleaned_data["name"]
        try:
            return queue_name(name)
        except Unfit as error:
            raise forms.ValidationError(f"A queue {error}") from None


@admin.register(Queue)
class QueueAdmin(ReadOnlyAdmin):
    """All queues that settings and workers name, and those about which something has been said."""

    list_display = ("queue", "is_paused", "said", "by_whom", "what")
    fieldsets = ((None, {"fields": ("queue", "is_paused", "said", "by_whom", "what")}),)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The queues; a POST pauses one, or resumes it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        may_change = self.may_pause(request)
        if request.method == "POST":
            if not may_change:
                raise PermissionDenied
            return self._obey(request)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Queues"),
            "opts": self.opts,
            "queues": _rows(request),
            "may_change": may_change,
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/djtasks/queue/list.html", context)

    def may_pause(self, request: HttpRequest) -> bool:
        """Whether the user may pause queues: who has Django's permission to change them."""
        user: Any = request.user
        return bool(user.has_perm("djtasks.change_queue"))

    def _obey(self, request: HttpRequest) -> HttpResponse:
        form = NamesForm(request.POST)
        if not form.is_valid():
            for errors in form.errors.values():
                for error in errors:
                    self.message_user(request, str(error), messages.ERROR)
        else:
            name, by = form.cleaned_data["name"], str(request.user)
            if form.cleaned_data["do"] == "pause":
                done = queues.pause(name, by=by, note=form.cleaned_data["note"])
                text = "is paused: what runs goes on, what waits stays." if done else "was paused before."
            else:
                done = queues.resume(name, by=by)
                text = "goes on." if done else "was not paused."
            self.message_user(request, f"The queue {label(name)} {text}", messages.SUCCESS if done else messages.INFO)
        return HttpResponseRedirect(url_of(self.admin_site, Queue, "changelist"))

    @admin.display(description="queue")
    def queue(self, obj: Queue) -> str:
        return label(obj.name)

    @admin.display(description="paused", boolean=True)
    def is_paused(self, obj: Queue) -> bool:
        return obj.paused

    @admin.display(description="since")
    def said(self, obj: Queue) -> str:
        return moment(obj.since)

    @admin.display(description="by")
    def by_whom(self, obj: Queue) -> str:
        return label(obj.by)

    @admin.display(description="note")
    def what(self, obj: Queue) -> str:
        return label(obj.note)


def _rows(request: HttpRequest) -> list[dict[str, Any]]:
    """What is known of each queue, by name. What stands there is counted up to a bound: there may be millions."""
    said = {each.name: each for each in Queue.objects.using(settings.DATABASE).order_by("name")[:QUEUES_MAX]}
    served: dict[str, int] = {}
    for worker in workers(request):
        for name in worker.queues if isinstance(worker.queues, list) else ():
            served[str(name)] = served.get(str(name), 0) + 1
    names = sorted({*said, *served, *known_queues()})[:QUEUES_MAX]
    most = max(100, min(COUNTED[0], COUNTED[1] // max(1, len(names))))
    depths = table.depths(borrow(), [name for name in names if "\0" not in name], most + 1)
    return [
        {
            "name": name,
            "shown": label(name),
            "depth": _counted(depths[name].known, most) if name in depths else "",
            "oldest": _age(depths[name].oldest) if name in depths else "",
            "workers": served.get(name, 0),
            "paused": name in said and said[name].paused,
            "since": moment(said[name].since) if name in said else "",
            "by": label(said[name].by) if name in said else "",
            "note": label(said[name].note) if name in said else "",
        }
        for name in names
    ]


def _counted(count: int, most: int) -> str:
    return f"over {most:,}" if count > most else f"{count:,}"


def _age(seconds: float | None) -> str:
    return "-" if seconds is None else duration(timedelta(seconds=max(0.0, seconds)))
