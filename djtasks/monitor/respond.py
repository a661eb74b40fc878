"""Answers of the monitor: pages in their frame, live parts without, and what is wrong with a request."""

import functools
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from djtasks.conf import settings

#: What the address of a live part has.
LIVE = "live"
THEMES = ("light", "dark")
THEME_COOKIE = "djtasks_theme"
#: The pages: their name, their title, and the models of which one must be seen.
PAGES = (
    ("overview", gettext_lazy("Overview"), ("worker", "queue", "message", "result")),
    ("workers", gettext_lazy("Workers"), ("worker",)),
    ("queues", gettext_lazy("Queues"), ("queue",)),
    ("tasks", gettext_lazy("Tasks"), ("message", "result")),
    ("schedules", gettext_lazy("Schedules"), ("periodictask",)),
    ("limits", gettext_lazy("Limits"), ("limit",)),
    ("letters", gettext_lazy("Dead letters"), ("result",)),
)


#: The pages that have a live part.
PARTS = frozenset({*(name for name, _title, _models in PAGES), "worker", "task"})


class Problem(Exception):
    """Why a request cannot be answered as it is: told on a page, in a sentence."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


def to(name: str, *args: Any) -> str:
    """The address of a page of the monitor."""
    return reverse(f"djtasks_monitor:{name}", args=args)


def is_live(request: HttpRequest) -> bool:
    """Whether only the live part is asked for."""
    return request.GET.get(LIVE) == "1"


def render(request: HttpRequest, name: str, context: Mapping[str, Any], status: int = 200) -> HttpResponse:
    """The page of this name, or its live part, if that is asked for."""
    if is_live(request) and name in PARTS:
        return HttpResponse(render_to_string(f"djtasks/monitor/live/{name}.html", {**context}, request))
    text = render_to_string(f"djtasks/monitor/{name}.html", {**_frame(request, name), **context}, request)
    found = HttpResponse(text, status=status)
    found["Cache-Control"] = "private, no-store"
    return found


def problem(request: HttpRequest, text: str, status: int = 400) -> HttpResponse:
    """A page that says what is wrong."""
    titles = {403: _("Not allowed"), 404: _("Not there"), 405: _("Not possible"), 410: _("Gone")}
    context = {"title": titles.get(status, _("This cannot be shown")), "text": text}
    if is_live(request):
        found = HttpResponse(render_to_string("djtasks/monitor/live/problem.html", context, request), status=200)
        found["Cache-Control"] = "private, no-store"
        return found
    return render(request, "problem", context, status)


def _frame(request: HttpRequest, current: str) -> dict[str, Any]:
    query = request.GET.copy()
    query[LIVE] = "1"
    theme = request.COOKIES.get(THEME_COOKIE, "")
    user: Any = request.user
    seen = [
        {"url": to(name), "title": title, "current": name == current}
        for name, title, models in PAGES
        if any(user.has_perm(f"djtasks.{verb}_{model}") for model in models for verb in ("view", "change"))
    ]
    try:
        admin = reverse("admin:index")
    except NoReverseMatch:
        admin = ""
    return {
        "nav": seen,
        "admin_url": admin,
        "theme": theme if theme in THEMES else "",
        "live_url": f"{request.path}?{query.urlencode()}",
        "every": f"{settings.MONITOR_REFRESH:g}",
        "read_only": settings.MONITOR_READ_ONLY,
        "username": str(user),
    }


@functools.cache
def _policy(example: str) -> str:
    parts = urlsplit(example)
    files = "'self'" + (f" {parts.scheme or 'https'}://{parts.netloc}" if parts.netloc else "")
    return (
        f"default-src 'none'; script-src {files}; style-src {files}; img-src {files} data:; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def guarded(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Every answer says that a browser is to run and load nothing but our files."""

    @functools.wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        found = view(request, *args, **kwargs)
        found["Content-Security-Policy"] = _policy(static("djtasks/monitor/monitor.css"))
        found["Referrer-Policy"] = "same-origin"
        found["X-Content-Type-Options"] = "nosniff"
        return found

    return answer
