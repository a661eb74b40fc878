"""What a person does to many tasks from a list: chosen there, asked for a second time, done in batches, and kept in the
admin's history.

What is chosen is either what is ticked, or all that the list finds: then so many of them as one request can bear, and
none that has come since the question was asked.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.views.main import PAGE_VAR
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import BadRequest
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from djtasks.admin.links import as_uuid
from djtasks.admin.lists import instance
from djtasks.db import pages
from djtasks.db.connections import borrow
from djtasks.db.pages import Row
from djtasks.models import Message, Result

#: So many of all that a list finds are taken in one request, and looked for so long.
MOST = 10_000
SECONDS = 20.0
BATCH = 500
#: So many are shown before anything is done.
SHOWN = 200
#: No page of a list is longer.
TICKED = 200


class Deed(NamedTuple):
    """Something that can be done to tasks."""

    #: The name of the admin's action.
    action: str
    title: str
    #: What happens to each of them.
    text: str
    button: str
    #: What is said when none of those chosen is fit for it.
    nothing: str
    #: Whether a row is.
    fits: Callable[[Row], bool]
    #: Does it, and says what became of each id.
    do: Callable[[HttpRequest, Sequence[str]], Mapping[str, str]]
    #: How an answer is told of a number of tasks; a success comes first in the pair.
    answers: Mapping[str, tuple[bool, str]]
    #: What the history says, by answer.
    kept: Mapping[str, str]


class Chosen(NamedTuple):
    """The rows that are meant, a batch at a time."""

    batches: Iterator[list[Row]]
    #: Whether all that the list finds are meant.
    across: bool
    #: When the question was asked.
    asked: datetime


class Doing(admin.ModelAdmin):  # type: ignore[type-arg] # generic in the stubs only
    """The part of an admin of a long list that does things to its rows."""

    #: The model that the history is about.
    history_of: type[Model]

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any) -> Any:
        """Raises BadRequest for what is no id: Django would take it to the database."""
        try:
            for text in request.POST.getlist(ACTION_CHECKBOX_NAME):
                UUID(text)
        except ValueError as error:
            raise BadRequest("a selected row is not the id of a task") from error
        return super().response_action(request, queryset, *args, **kwargs)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """What was done to a task, while it was a message and since it is a result."""
        task_id = str(as_uuid(object_id))
        types = ContentType.objects.get_for_models(Message, Result).values()
        kept = LogEntry.objects.filter(object_id=task_id, content_type__in=list(types))
        pages_of = Paginator(kept.select_related().order_by("action_time"), 100)
        page = pages_of.get_page(request.GET.get(PAGE_VAR, 1))
        shown = {
            "action_list": page,
            "page_range": pages_of.get_elided_page_range(page.number),
            "pagination_required": pages_of.num_pages > 1,
        }
        found: HttpResponse = super().history_view(request, object_id, {**shown, **(extra_context or {})})
        return found

    def ask_or_do(self, request: HttpRequest, deed: Deed) -> TemplateResponse | None:
        """The question, or, once it is answered with yes, the deed."""
        chosen = self._chosen(request)
        fit = (fitting for rows in chosen.batches if (fitting := [row for row in rows if deed.fits(row)]))
        if request.POST.get("confirmed") != "yes":
            return self._question(request, deed, chosen, fit)
        said: Counter[str] = Counter()
        for rows in fit:
            answers = deed.do(request, [str(row["id"]) for row in rows])
            said.update(answers.values())
            self._keep(request, deed, rows, answers)
        for answer, count in said.items():
            good, text = deed.answers[answer]
            level = messages.SUCCESS if good else messages.WARNING
            self.message_user(request, f"{count:,} of the tasks {text}.", level)
        if chosen.across and said.total() >= MOST:
            self.message_user(request, f"These were {MOST:,}, and there may be more: do it again.", messages.WARNING)
        return None

    def _question(self, request: HttpRequest, deed: Deed, chosen: Chosen, fit: Iterator[list[Row]]) -> TemplateResponse:
        rows, count = [], 0
        for batch in fit:
            rows += batch[: max(0, SHOWN - count)]
            count += len(batch)
        context = {
            **self.admin_site.each_context(request),
            "title": deed.title,
            "opts": self.opts,
            "media": self.media,
            "deed": deed,
            "rows": rows,
            "count": count,
            "left_out": count - len(rows),
            "most": count >= MOST,
            "across": chosen.across,
            "asked": chosen.asked.isoformat(),
            "checkbox": ACTION_CHECKBOX_NAME,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/djtasks/confirm.html", context)

    def _chosen(self, request: HttpRequest) -> Chosen:
        asked = _moment(request.POST.get("asked"))
        if request.POST.get("select_across") == "1":
            changes: Any = self.get_changelist_instance(request)
            return Chosen(self._bounded(changes.walk(BATCH, asked)), True, asked)
        ids = [UUID(text) for text in request.POST.getlist(ACTION_CHECKBOX_NAME)[:TICKED]]
        source: Any = self.source  # type: ignore[attr-defined]
        return Chosen(iter([pages.by_id(borrow(), source.table, ids)]), False, asked)

    def _bounded(self, walk: Iterator[list[Row]]) -> Iterator[list[Row]]:
        """As many of them as one request can bear."""
        left, until = MOST, time.monotonic() + SECONDS
        for rows in walk:
            yield rows[:left]
            left -= len(rows)
            if left <= 0 or time.monotonic() > until:
                return

    def _keep(self, request: HttpRequest, deed: Deed, rows: Sequence[Row], answers: Mapping[str, str]) -> None:
        """Write it into the history of each task."""
        kept: dict[str, list[Model]] = {}
        for row in rows:
            if text := deed.kept.get(answers.get(str(row["id"]), "")):
                kept.setdefault(text, []).append(instance(self.history_of, row))
        for text, about in kept.items():
            user: Any = request.user
            LogEntry.objects.log_actions(user.pk, about, CHANGE, text)


def _moment(text: str | None) -> datetime:
    """When the question was asked: now, if it has not been. Raises BadRequest."""
    if not text:
        return timezone.now()
    try:
        found = datetime.fromisoformat(text)
        if timezone.is_naive(found):
            raise ValueError(text)
    except ValueError as error:
        raise BadRequest("no time") from error
    return found
