"""Limits: how many of a key run, how often it may start, and what waits for it."""

from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from djtasks.admin.text import label
from djtasks.conf.kinds import is_storable
from djtasks.db import monitor
from djtasks.db.connections import borrow
from djtasks.monitor.access import page
from djtasks.monitor.numbers import at, count, rate, span
from djtasks.monitor.respond import Problem, render

SIZE = 100
LONGEST = 500


def text_of(request: HttpRequest, name: str) -> str:
    """A text in the address. Raises Problem for one that no column can hold."""
    found = request.GET.get(name, "")
    if len(found) > LONGEST or not is_storable(found):
        raise Problem(_("This text is too long, or has characters that are in no text of the database."))
    return found


@page("limit")
def limits(request: HttpRequest) -> HttpResponse:
    """A page of them, by key."""
    prefix, after = text_of(request, "q"), text_of(request, "after")
    found = monitor.limits(borrow(), after, prefix, SIZE + 1)
    rest = found[SIZE - 1].key if len(found) > SIZE else None
    rows = [
        {
            "key": label(each.key),
            "held": count(each.held, 1000),
            "most": "–" if each.most is None else count(each.most),
            "full": each.most is not None and each.held >= each.most,
            "rate": "–" if each.rate is None else _("%s a second") % rate(each.rate),
            "next": "–" if each.next_in is None else span(each.next_in),
            "waiting": count(each.waiting, 1000),
            "changed": at(each.changed),
        }
        for each in found[:SIZE]
    ]
    query = {key: value for key, value in (("q", prefix), ("after", rest)) if value}
    context = {
        "title": _("Limits"),
        "limits": rows,
        "q": prefix,
        "next": f"{request.path}?{urlencode(query)}" if rest is not None else "",
        "first": request.path + (f"?{urlencode({'q': prefix})}" if prefix else "") if after else "",
    }
    return render(request, "limits", context)
