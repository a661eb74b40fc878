"""Dead letters: what was rejected, or could not be run; to be put back into its queue, or deleted."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from djtasks.admin.text import label, moment
from djtasks.db import tasklists
from djtasks.db.connections import borrow
from djtasks.db.tasklists import Task
from djtasks.models import Result
from djtasks.monitor.access import may_do, must_be_able, page
from djtasks.monitor.asking import ACT, Question, ask, back, log
from djtasks.monitor.deeds import DEEDS
from djtasks.monitor.numbers import count
from djtasks.monitor.respond import Problem, render, to
from djtasks.monitor.views_tasks import SIZE, end_of, link

#: More are not taken at a time.
TICKED: Final = 200
REASONS: Final = ("rejected", "failed", "crashed", "undecodable", "unknown")


@page("result")
def letters(request: HttpRequest) -> HttpResponse:
    """A page of them, the last one first."""
    reason = request.GET.get("reason", "")
    if reason and reason not in REASONS:
        known = ", ".join(REASONS)
        raise Problem(_("There is no reason %(name)s; there are %(known)s.") % {"name": label(reason), "known": known})
    # The index has all of them; those for one reason are looked for among them.
    wanted = {"dead": reason or tasklists.ANY_LETTER}
    found = tasklists.ended(borrow(), wanted, after=end_of(request), size=SIZE)
    rest = "" if found.rest is None else f"{found.rest[0].isoformat()}~{found.rest[1]}"
    rows = [
        {
            "id": str(each.id),
            "url": to("task", each.id),
            "name": label(each.name),
            "dead": label(each.dead),
            "state": label(each.state),
            "queue": label(each.queue),
            "worker": label(each.worker),
            "called": moment(each.created),
            "ended": moment(each.done),
            "retries": count(each.retries),
        }
        for each in found.tasks
    ]
    context = {
        "title": _("Dead letters"),
        "letters": rows,
        "reasons": [{"name": each, "chosen": each == reason} for each in REASONS],
        "may_requeue": may_do(request, "requeue_result"),
        "may_forget": may_do(request, "forget_result"),
        "next": link(request, after=rest) if rest else "",
        "first": link(request, after=None) if request.GET.get("after") else "",
    }
    return render(request, "letters", context)


@page("result", methods=ACT)
def requeue(request: HttpRequest) -> HttpResponse:
    """Ask, and put the chosen ones back into their queues."""
    return _ask_or_do(request, "requeue", _("Put these tasks back into their queues?"))


@page("result", methods=ACT)
def delete(request: HttpRequest) -> HttpResponse:
    """Ask, and delete the chosen ones."""
    return _ask_or_do(request, "forget", _("Delete these dead letters?"))


def _ask_or_do(request: HttpRequest, name: str, title: str) -> HttpResponse:
    meant = DEEDS[name]
    must_be_able(request, meant.permission)
    chosen = _chosen(request.POST.getlist("id") if request.method == "POST" else request.GET.getlist("id"))
    ids = [str(each.id) for each in chosen]
    if request.method != "POST":
        if not chosen:
            raise Problem(
                _("None of these is a dead letter any more: somebody was faster. Go back, and choose others."), 410
            )
        lines = [f"{label(each.name)} {each.id} ({label(each.dead)})" for each in chosen]
        return ask(
            request, Question(title, str(meant.text), lines, str(meant.button), to("letters"), meant.danger), id=ids
        )
    answers = dict(meant.do(request, ids)) if ids else {}
    log(request, _instances(chosen, [each for each, said in answers.items() if meant.answers[said][0]]), meant.kept)
    for answer, number in Counter(answers.values()).items():
        good, text = meant.answers[answer]
        messages.add_message(request, messages.SUCCESS if good else messages.WARNING, f"{count(number)} × {text}")
    if not answers:
        messages.warning(request, _("None of these is a dead letter any more."))
    return back(request, to("letters"))


def _instances(chosen: Sequence[Task], ids: Sequence[str]) -> list[Any]:
    return [Result(id=each.id, name=each.name, state=each.state or "") for each in chosen if str(each.id) in ids]


def _chosen(texts: Sequence[str]) -> list[Task]:
    """Those of these that are dead letters. Raises Problem."""
    if not texts:
        raise Problem(_("No dead letter was chosen."))
    if len(texts) > TICKED:
        raise Problem(_("No more than %d can be chosen at a time.") % TICKED)
    try:
        ids = [UUID(text) for text in texts]
    except ValueError:
        raise Problem(_("One of these is no id of a task.")) from None
    return [each for each in tasklists.by_ids(borrow(), ids) if each.dead is not None and not each.waits]
