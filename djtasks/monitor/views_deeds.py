"""Doing something with one task: the question, and the deed."""

from typing import Any
from uuid import UUID

import psycopg
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from djtasks.admin.text import label
from djtasks.models import Message, Result
from djtasks.monitor.access import may_see, must_be_able, page
from djtasks.monitor.asking import ACT, Question, ask, done, log
from djtasks.monitor.deeds import DEEDS, FORGOTTEN
from djtasks.monitor.respond import Problem, to
from djtasks.monitor.views_task import as_task, one
from djtasks.monitor.views_tasks import state_of


@page("message", "result", methods=ACT)
def deed(request: HttpRequest, task_id: UUID, name: str) -> HttpResponse:
    """Ask, and do it."""
    if name not in DEEDS:
        raise Problem(_("Nothing is called %s that could be done with a task.") % label(name), 404)
    meant = DEEDS[name]
    must_be_able(request, meant.permission)
    found = one(request, task_id)
    row: Any = found.result if found.message is None else found.message
    if request.method == "POST":
        try:
            answer = meant.do(request, [str(task_id)])[str(task_id)]
        except psycopg.OperationalError as error:
            raise Problem(_("The database cannot be reached: %s") % error, 503) from None
        good, text = meant.answers[answer]
        if good:
            model = Result if found.message is None else Message
            log(request, [model(id=row.id, name=row.name)], meant.kept)
        there = answer != FORGOTTEN and may_see(request, "message" if found.message is not None else "result")
        return done(
            request,
            messages.SUCCESS if good else messages.WARNING,
            str(text),
            to("task", task_id) if there else to("tasks"),
        )
    lines = [label(row.name), str(task_id), state_of(as_task(found))[0]]
    title = _("%s this task?") % meant.title
    return ask(request, Question(title, str(meant.text), lines, str(meant.button), to("task", task_id), meant.danger))
