"""A question before something is done, what was done, and the way back."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import Model
from django.forms import Form
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from djtasks.monitor import live
from djtasks.monitor.respond import render

ACT = ("GET", "HEAD", "POST")


class Question(NamedTuple):
    """What is asked, on a page of its own."""

    title: str
    #: What will happen.
    text: str
    #: What it will happen to, a line each.
    lines: Sequence[str]
    button: str
    #: Where "no" leads to.
    back: str
    #: Whether it cannot be undone.
    danger: bool = False


def ask(request: HttpRequest, question: Question, form: Form | None = None, **hidden: Any) -> HttpResponse:
    """The page with the question; its answer is a POST to the same address. `hidden` goes with it."""
    context = {
        "title": question.title,
        "question": question,
        "form": form,
        "hidden": [(name, each) for name, value in hidden.items() for each in value],
    }
    return render(request, "question", context, 400 if form is not None and form.is_bound else 200)


def done(request: HttpRequest, level: int, text: str, url: str) -> HttpResponse:
    """Say what came of it, on the page to which it leads."""
    messages.add_message(request, level, text)
    return back(request, url)


def back(request: HttpRequest, url: str) -> HttpResponse:
    """On to that page; what was shown before is not right any more."""
    live.parts.clear()
    return HttpResponseRedirect(url)


def log(request: HttpRequest, rows: Sequence[Model], text: str) -> None:
    """Keep it in the admin's history."""
    user: Any = request.user
    if rows:
        LogEntry.objects.log_actions(user.pk, rows, CHANGE, text)
