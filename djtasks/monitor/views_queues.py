"""Queues: what stands in each, who takes from it, and what can be done with it."""

import random
import time
from typing import Any, Final
from urllib.parse import urlencode

import psycopg
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from djtasks import control, queues
from djtasks.admin.text import label
from djtasks.conf.kinds import Unfit, queue_name
from djtasks.db import monitor
from djtasks.db.connections import borrow, open_private
from djtasks.models import Queue
from djtasks.monitor import wrong
from djtasks.monitor.access import may_do, must_be_able, page
from djtasks.monitor.asking import ACT, Question, ask, done, log
from djtasks.monitor.forms import NoteForm
from djtasks.monitor.numbers import at, count, span
from djtasks.monitor.respond import Problem, render, to
from djtasks.monitor.search import phrase
from djtasks.monitor.views_overview import depths_of, most_of, queues_of

#: The permissions to pause and resume, and to purge.
PAUSE: Final = "change_queue"
PURGE: Final = "delete_message"
#: Seconds that one request may purge for.
PURGE_FOR: Final = 20.0


@page("queue")
def overview(request: HttpRequest) -> HttpResponse:
    """All queues."""
    picture = monitor.picture(borrow())
    names = queues_of(picture)
    depths, most = depths_of(names), most_of(names)
    takers = wrong.served(picture)
    said = {each["name"]: each for each in picture.queues}
    may_pause, may_purge = may_do(request, PAUSE), may_do(request, PURGE)
    found = []
    for name in names:
        row, depth = said.get(name, {}), depths.get(name)
        paused = bool(row.get("paused"))
        links = [("resume", _("resume")) if paused else ("pause", _("pause"))] if may_pause else []
        links += [("purge", _("purge"))] if may_purge else []
        found.append(
            {
                "name": label(name),
                "depth": count(depth.known, most) if depth else "–",
                "empty": not (depth and depth.known),
                "oldest": span(depth.oldest) if depth else "–",
                "workers": count(takers.get(name, 0)),
                "paused": paused,
                "since": at(row.get("since")),
                "by": label(row.get("by")),
                "note": label(row.get("note")),
                "tasks_url": f"{to('tasks')}?{urlencode({'q': phrase('queue', name)})}",
                "links": [{"url": f"{to(verb)}?{urlencode({'name': name})}", "title": title} for verb, title in links],
            }
        )
    parked = [
        {"title": title, "count": count(picture.parked.get(reason, 0), monitor.COUNTED), "url": _parked(reason)}
        for reason, title in (
            ("eta", _("wait for their time")),
            ("name", _("wait for a worker that knows them")),
            ("limit", _("wait for a limit")),
            ("rate", _("wait for a rate")),
        )
    ]
    context = {
        "title": _("Queues"),
        "queues": found,
        "parked": parked,
        "acts": may_pause or may_purge,
        "cut": len(names) >= monitor.MOST,
    }
    return render(request, "queues", context)


def _parked(reason: str) -> str:
    return f"{to('tasks')}?{urlencode({'q': f'state:{reason}'})}"


def _name(request: HttpRequest) -> str:
    """The queue that is meant. Raises Problem."""
    try:
        return queue_name(request.GET.get("name", ""))
    except Unfit as error:
        raise Problem(_("A queue %s.") % error, 404) from None


def _instance(name: str) -> list[Any]:
    return [Queue(name=name)]


@page("queue", methods=ACT)
def pause(request: HttpRequest) -> HttpResponse:
    """Ask, and pause it."""
    must_be_able(request, PAUSE)
    name = _name(request)
    form = NoteForm(request.POST) if request.method == "POST" else NoteForm()
    if request.method == "POST" and form.is_valid():
        changed = queues.pause(name, by=str(request.user), note=form.cleaned_data["note"])
        if not changed:
            return done(request, messages.INFO, _("The queue %s was paused before.") % label(name), to("queues"))
        log(request, _instance(name), "Paused.")
        return done(request, messages.SUCCESS, _("The queue %s is paused.") % label(name), to("queues"))
    text = _("Nothing more is taken from it until somebody resumes it. What runs goes on, what waits stays.")
    return ask(request, Question(_("Pause this queue?"), text, [label(name)], _("Pause"), to("queues")), form)


@page("queue", methods=ACT)
def resume(request: HttpRequest) -> HttpResponse:
    """Ask, and resume it."""
    must_be_able(request, PAUSE)
    name = _name(request)
    if request.method == "POST":
        if not queues.resume(name, by=str(request.user)):
            return done(request, messages.INFO, _("The queue %s was not paused.") % label(name), to("queues"))
        log(request, _instance(name), "Resumed.")
        return done(request, messages.SUCCESS, _("The queue %s goes on.") % label(name), to("queues"))
    text = _("Workers take from it again.")
    return ask(request, Question(_("Resume this queue?"), text, [label(name)], _("Resume"), to("queues")))


@page("queue", methods=ACT)
def purge(request: HttpRequest) -> HttpResponse:
    """Ask, and throw away what waits in it."""
    must_be_able(request, PURGE)
    name = _name(request)
    if request.method == "POST":
        thrown, more = _purge(name)
        log(request, _instance(name), f"Purged of {thrown} tasks.")
        text = ngettext("%(count)s task was thrown away.", "%(count)s tasks were thrown away.", thrown)
        if more:
            text += " " + _("There are more: purge it again.")
        level = messages.WARNING if more else messages.SUCCESS
        return done(request, level, text % {"count": count(thrown)}, to("queues"))
    depth = depths_of([name]).get(name)
    standing = count(depth.known if depth else 0, most_of([name]))
    lines = [label(name), _("%s tasks stand there now, of which some may run.") % standing]
    text = _(
        "All that waits in it is thrown away, also what waits for its time; it cannot be brought back. What runs goes"
        " on."
    )
    return ask(request, Question(_("Purge this queue?"), text, lines, _("Throw it all away"), to("queues"), True))


def _purge(name: str) -> tuple[int, bool]:
    """How many were thrown away, and whether there may be more. Raises Problem."""
    until, thrown = time.monotonic() + PURGE_FOR, 0
    try:
        with open_private("control") as conn:
            while found := control.purge_batch(conn, random.getrandbits(62) | 1, [name]):
                thrown += found
                if time.monotonic() > until:
                    return thrown, True
    except psycopg.OperationalError as error:
        raise Problem(_("The database cannot be reached: %s") % error, 503) from None
    return thrown, False
