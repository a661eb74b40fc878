"""What workers were told in the admin: commands, and what was answered, for as long as COMMAND_EXPIRES says."""

import json
from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from djtasks.admin.base import ReadOnlyAdmin, shown
from djtasks.admin.payload import block
from djtasks.admin.text import label, moment, pretty, visible
from djtasks.conf import settings
from djtasks.models import Command, Reply

#: More answers than this are not shown.
REPLIES_MAX = 200


@admin.register(Command)
class CommandAdmin(ReadOnlyAdmin):
    """Commands, the last one first. Pings are gone after a minute: they change nothing."""

    list_display = ("told", "to_whom", "said", "by_whom", "what")
    fieldsets = (
        (None, {"fields": ("told", "to_whom", "said", "until", "by_whom")}),
        ("Said", {"fields": ("what_in_full", "answers")}),
    )
    ordering = ("-id",)
    search_fields = ("name",)
    search_help_text = "A part of a command's name."
    what_in_full = shown("arguments", "arguments")
    answers = shown("answers", "answers")

    def details(self, request: HttpRequest, row: Any) -> Mapping[str, str]:
        replies = Reply.objects.using(settings.DATABASE).filter(command=row.pk).order_by("pk")[:REPLIES_MAX]
        lines = [f"{visible(moment(each.created))}  {label(each.worker)}: {pretty(each.body)}" for each in replies]
        return {"arguments": block(pretty(row.arguments)), "answers": block("\n".join(lines) or "none")}

    @admin.display(description="command")
    def told(self, obj: Command) -> str:
        return label(obj.name)

    @admin.display(description="to")
    def to_whom(self, obj: Command) -> str:
        if obj.destination is None:
            return "all workers"
        names = obj.destination if isinstance(obj.destination, list) else [obj.destination]
        return label(", ".join([str(name) for name in names]))

    @admin.display(description="said")
    def said(self, obj: Command) -> str:
        return moment(obj.created)

    @admin.display(description="good until")
    def until(self, obj: Command) -> str:
        return moment(obj.expires)

    @admin.display(description="by")
    def by_whom(self, obj: Command) -> str:
        return label(obj.by)

    @admin.display(description="arguments")
    def what(self, obj: Command) -> str:
        return label(json.dumps(obj.arguments))
