"""The overview: what is wrong right now, a few numbers, and charts."""

import json
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from djtasks.admin.text import label
from djtasks.db import monitor
from djtasks.db import queues as table
from djtasks.db.connections import borrow
from djtasks.db.monitor import COUNTED, Picture, Step
from djtasks.db.queues import Depth
from djtasks.monitor import charts, wrong
from djtasks.monitor.access import ANY, may_see, page
from djtasks.monitor.live import Kept
from djtasks.monitor.numbers import about, count, rate, span
from djtasks.monitor.respond import Problem, render, to
from djtasks.routing import known_queues

#: So many messages are counted: of one queue, and of all of them.
DEPTHS = (10_000, 100_000)
#: So many queues stand in the overview.
SHOWN = 15
#: Samples are written once a minute.
_history: Kept[list[Step]] = Kept(15.0, 16)


def queues_of(picture: Picture) -> list[str]:
    """The names of all queues: of the settings, of workers, of what was said about them, and where something stands."""
    names = {*known_queues(), *wrong.served(picture), *picture.filled, *(each["name"] for each in picture.queues)}
    return sorted(name for name in names if "\0" not in name)[: monitor.MOST]


def most_of(names: list[str]) -> int:
    """So many messages are counted in each of these queues."""
    return max(100, min(DEPTHS[0], DEPTHS[1] // max(1, len(names))))


def depths_of(names: list[str]) -> dict[str, Depth]:
    """How much stands in these queues, counted up to `most_of` them, and how old it is."""
    return table.depths(borrow(), names, most_of(names) + 1)


@page(*ANY)
def overview(request: HttpRequest) -> HttpResponse:
    """What is wrong, numbers, charts."""
    span_of = _span(request.GET.get("span"))
    conn = borrow()
    picture = monitor.picture(conn)
    names = queues_of(picture)
    depths = depths_of(names)
    since = picture.now - span_of.seconds - span_of.step
    steps = _history.get(span_of.name, lambda: monitor.history(conn, since, span_of.step))
    times = charts.times_of(span_of, picture.now)
    present = charts.present(picture, depths)
    found = charts.charts(steps, span_of, times, present)
    if not may_see(request, "queue"):
        found = [each._replace(lines=each.lines[:1]) if each.name == "depth" else each for each in found]
    alarms = [alarm for alarm in wrong.alarms(picture, depths) if may_see(request, alarm.model)]
    context = {
        "title": _("Overview"),
        "alarms": alarms,
        "news": "; ".join(alarm.text for alarm in alarms) or _("Nothing is wrong."),
        "tiles": _tiles(request, picture, depths, present),
        "queues": _queues(depths, picture, most_of(names)) if may_see(request, "queue") else [],
        "spans": [{"name": each.name, "title": each.title, "current": each == span_of} for each in charts.SPANS],
        "charts": [{"name": each.name, "title": each.title, "unit": each.unit} for each in found],
        "json": json.dumps([each.data(times) for each in found], allow_nan=False),
        "tables": [
            {
                "title": each.title,
                "unit": each.unit,
                "heads": [line.title for line in each.lines],
                "rows": each.table(times),
            }
            for each in found
        ],
    }
    return render(request, "overview", context)


def _span(name: str | None) -> charts.Span:
    for each in charts.SPANS:
        if each.name == (name or charts.SPANS[0].name):
            return each
    known = ", ".join(each.name for each in charts.SPANS)
    raise Problem(_("Charts go back for %(known)s, and not for %(name)s.") % {"known": known, "name": label(name)})


def _tiles(
    request: HttpRequest, picture: Picture, depths: dict[str, Depth], present: charts.Present
) -> list[dict[str, Any]]:
    """Numbers, each with where it comes from."""
    most = most_of(list(depths))
    cut = any(depth.known > most for depth in depths.values())
    few = picture.results <= COUNTED + 1
    results = count(picture.results, COUNTED) if few else about(picture.results)
    ended = sum(number for state, number in present.rates.items() if state in ("SUCCESS", "FAILURE"))
    tiles = [
        ("worker", _("Workers"), count(len(wrong.alive(picture))), to("workers")),
        ("worker", _("Busy places"), f"{count(present.busy)} / {count(present.pool)}", to("workers")),
        ("worker", _("Ended a second"), rate(ended), to("overview")),
        ("queue", _("In queues"), count(present.depth) + ("+" if cut else ""), to("queues")),
        ("queue", _("Oldest"), span(present.oldest), to("queues")),
        ("message", _("For later"), count(picture.parked.get("eta", 0), COUNTED), f"{to('tasks')}?q=state:eta"),
        ("result", _("Failed within an hour"), count(picture.failures, COUNTED), f"{to('tasks')}?q=state:FAILURE"),
        ("result", _("Dead letters"), count(picture.letters, COUNTED), to("letters")),
        ("result", _("Results"), results, to("tasks")),
    ]
    return [
        {"title": title, "value": value, "url": url} for model, title, value, url in tiles if may_see(request, model)
    ]


def _queues(depths: dict[str, Depth], picture: Picture, most: int) -> list[dict[str, Any]]:
    takers = wrong.served(picture)
    paused = {each["name"] for each in picture.queues if each["paused"]}
    fullest = sorted(depths.items(), key=lambda each: (-each[1].known, each[0]))[:SHOWN]
    return [
        {
            "name": label(name),
            "depth": count(depth.known, most),
            "oldest": span(depth.oldest),
            "workers": count(takers.get(name, 0)),
            "paused": name in paused,
        }
        for name, depth in fullest
    ]
