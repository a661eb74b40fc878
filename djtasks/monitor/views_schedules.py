"""Schedules: when periodic tasks run next, and what came of their last runs."""

from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import messages
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _

from djtasks import runs
from djtasks.admin.schedule_lists import tick_of, with_last_run
from djtasks.admin.schedule_preview import words_of
from djtasks.admin.text import label, moment
from djtasks.conf import settings
from djtasks.models import Beat, PeriodicTask
from djtasks.monitor import timeline
from djtasks.monitor.access import may_do, must_be_able, page
from djtasks.monitor.asking import ACT, Question, ask, done, log
from djtasks.monitor.numbers import count
from djtasks.monitor.respond import Problem, render, to
from djtasks.monitor.timeline import LENGTH, REACHES, Reach
from djtasks.monitor.views_limits import text_of

SIZE: Final = 50
#: So many periodic tasks have a line of their own.
LINES: Final = 25
RUN: Final = "run_periodictask"
CHANGE: Final = "change_periodictask"


@page("periodictask")
def schedules(request: HttpRequest) -> HttpResponse:
    """A time line of those that come next, and a page of all, by name."""
    reach = _reach(request.GET.get("reach"))
    text, after = text_of(request, "q"), text_of(request, "after")
    rows = PeriodicTask.objects.using(settings.DATABASE)
    soon = rows.filter(enabled=True, tick__next_run_at__isnull=False).select_related("tick")
    found = list(with_last_run(rows.filter(name__gt=after, name__startswith=text)).order_by("name")[: SIZE + 1])
    beats = list(Beat.objects.using(settings.DATABASE).annotate(now=Now()).order_by("-heartbeat")[:20])
    query = {"q": text, "reach": reach.name, "after": found[SIZE - 1].name if len(found) > SIZE else ""}
    strips = timeline.strips(soon.order_by("tick__next_run_at")[:LINES], reach)
    context = {
        "title": _("Schedules"),
        "q": text,
        "reach": reach.name,
        "reaches": [{"name": each.name, "title": each.title, "current": each == reach} for each in REACHES],
        "strips": strips,
        "hours": timeline.hours(reach),
        "length": str(LENGTH),
        "schedules": [_shown(request, each) for each in found[:SIZE]],
        "beats": [_beat(each) for each in beats],
        "next": f"{request.path}?{urlencode(query)}" if query["after"] else "",
        "first": f"{request.path}?{urlencode({'q': text})}" if after else "",
        "changelist": _admin("changelist"),
    }
    return render(request, "schedules", context)


def _reach(name: str | None) -> Reach:
    for each in REACHES:
        if each.name == (name or REACHES[0].name):
            return each
    known = ", ".join(each.name for each in REACHES)
    raise Problem(_("The time line goes %(known)s ahead, and not %(name)s.") % {"known": known, "name": label(name)})


def _beat(beat: Any) -> dict[str, Any]:
    lives = (beat.now - beat.heartbeat).total_seconds() < settings.WORKER_DEAD_AFTER
    return {"name": label(beat.name), "lives": lives, "heartbeat": moment(beat.heartbeat), "sent": count(beat.sent)}


def _shown(request: HttpRequest, task: Any) -> dict[str, Any]:
    tick = tick_of(task)
    links = [("run", _("run now"))] if may_do(request, RUN) else []
    if may_do(request, CHANGE):
        links.append(("disable", _("disable")) if task.enabled else ("enable", _("enable")))
    outcome = label(task.outcome) if task.outcome is not None else None
    if outcome is None and task.waits is not None:
        outcome = _("waits") if task.waits else _("runs")
    return {
        "name": label(task.name),
        "url": _admin("change", task.pk),
        "task": label(task.task),
        "schedule": label(words_of(task)),
        "enabled": task.enabled,
        "next": moment(tick.next_run_at) if tick.next_run_at else "–",
        "last": moment(tick.last_run_at) if tick.last_run_at else "–",
        "outcome": outcome or "–",
        "outcome_url": to("task", tick.last_task_id) if outcome and tick.last_task_id else "",
        "runs": count(tick.total_run_count or 0),
        "error": label(tick.error) if tick.error else "",
        "links": [{"url": to("schedule", str(task.pk), verb), "title": title} for verb, title in links],
    }


def _admin(name: str, *args: Any) -> str:
    try:
        return reverse(f"admin:djtasks_periodictask_{name}", args=args)
    except NoReverseMatch:
        return ""


@page("periodictask", methods=ACT)
def act(request: HttpRequest, pk: int, name: str) -> HttpResponse:
    """Ask, and run one now, or enable or disable it."""
    texts = {
        "run": (
            _("Run this periodic task now?"),
            _("It is sent now, once; its schedule goes on as it was."),
            _("Run it"),
        ),
        "enable": (_("Enable this periodic task?"), _("It runs at its next times from now on."), _("Enable it")),
        "disable": (
            _("Disable this periodic task?"),
            _("It runs no more; what has been sent runs all the same."),
            _("Disable it"),
        ),
    }
    if name not in texts:
        raise Problem(_("Nothing is called %s that could be done with a periodic task.") % label(name), 404)
    must_be_able(request, RUN if name == "run" else CHANGE)
    found = PeriodicTask.objects.using(settings.DATABASE).filter(pk=pk).first() if pk < 2**63 else None
    if found is None:
        raise Problem(_("This periodic task is gone."), 410)
    if request.method == "POST":
        return _run(request, found) if name == "run" else _switch(request, found, name == "enable")
    title, text, button = texts[name]
    return ask(request, Question(title, text, [label(found.name), words_of(found)], button, to("schedules")))


def _run(request: HttpRequest, task: PeriodicTask) -> HttpResponse:
    complaints: dict[int, str] = {}
    sent = runs.run_now([task.pk], complaints)
    if sent:
        log(request, [task], "Run now.")
        return done(request, messages.SUCCESS, _("%s was sent.") % label(task.name), to("schedules"))
    why = label(complaints.get(task.pk) or _("it is gone"))
    text = _("%(name)s could not be sent: %(why)s") % {"name": label(task.name), "why": why}
    return done(request, messages.ERROR, text, to("schedules"))


def _switch(request: HttpRequest, task: PeriodicTask, enabled: bool) -> HttpResponse:
    rows = PeriodicTask.objects.using(settings.DATABASE).filter(pk=task.pk, enabled=not enabled)
    edited = task.overridden if task.source == PeriodicTask.Source.ADMIN else True
    if not rows.update(enabled=enabled, overridden=edited, date_changed=Now()):
        return done(request, messages.INFO, _("It was so before."), to("schedules"))
    log(request, [task], "Enabled." if enabled else "Disabled.")
    text = _("%s is enabled.") if enabled else _("%s is disabled.")
    return done(request, messages.SUCCESS, text % label(task.name), to("schedules"))
