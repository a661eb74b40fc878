"""Workers: who is there, what each does, and what each can be told."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import psycopg
from django.contrib import messages
from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from djtasks import commanding
from djtasks.admin import payload
from djtasks.admin.text import label, pretty
from djtasks.broadcasting import broadcast
from djtasks.conf import settings
from djtasks.db import monitor
from djtasks.db.connections import borrow
from djtasks.monitor.access import may_do, may_see, must_be_able, page
from djtasks.monitor.asking import ACT, Question, ask, back, done
from djtasks.monitor.forms import AutoscaleForm, QueueForm, RateForm, SlotsForm, TimesForm
from djtasks.monitor.numbers import ago, at, count, span
from djtasks.monitor.respond import Problem, render, to
from djtasks.monitor.search import phrase

#: Seconds in which a worker is expected to answer.
ANSWER_WITHIN: Final = 2.0
#: The permission to tell workers anything.
PERMISSION: Final = "change_worker"
#: So many of what a worker holds are shown.
ACTIVE_MAX: Final = 100

Replies = list[dict[str, Any]] | None


class Order(NamedTuple):
    """Something that a worker can be told."""

    title: Promise
    text: Promise
    button: Promise
    form: type[Form] | None
    #: Takes what the form has, and `destination`, `by` and so on.
    send: Callable[..., Replies]
    danger: bool = False
    #: Whether the worker answers.
    replies: bool = True
    #: Whether it is the answer that is wanted: it is shown.
    asks: bool = False


def _question(command: str, **arguments: Any) -> Callable[..., Replies]:
    """Asks a worker, and changes nothing."""
    return lambda **options: broadcast(command, arguments, **options)


_t = gettext_lazy
ORDERS: Final[Mapping[str, Order]] = {
    "grow": Order(
        _t("Grow the pool"), _t("It runs so many more tasks at a time."), _t("Grow"), SlotsForm, commanding.pool_grow
    ),
    "shrink": Order(
        _t("Shrink the pool"),
        _t("It runs so many tasks less at a time."),
        _t("Shrink"),
        SlotsForm,
        commanding.pool_shrink,
    ),
    "autoscale": Order(
        _t("Scale by itself"),
        _t("Its pool grows with the work that there is, and shrinks with it, between these sizes."),
        _t("Let it scale"),
        AutoscaleForm,
        commanding.autoscale,
    ),
    "restart-pool": Order(
        _t("Restart the pool"),
        _t("The processes of its pool are replaced by new ones, each after the task that it runs."),
        _t("Restart"),
        None,
        commanding.pool_restart,
    ),
    "add-consumer": Order(
        _t("Take from a queue, too"),
        _t("It takes from this queue, too, until it ends."),
        _t("Add the queue"),
        QueueForm,
        commanding.add_consumer,
    ),
    "cancel-consumer": Order(
        _t("Take no more from a queue"),
        _t("It takes nothing more from this queue; what it has taken, it ends."),
        _t("Cancel the queue"),
        QueueForm,
        commanding.cancel_consumer,
    ),
    "rate-limit": Order(
        _t("Limit the rate of a task"),
        _t("It starts no more than so many runs of the task, until it ends."),
        _t("Set the rate"),
        RateForm,
        commanding.rate_limit,
    ),
    "time-limit": Order(
        _t("Limit the time of a task"),
        _t("Runs of the task may take so long there, until it ends; what is empty is the worker's own limit."),
        _t("Set the limits"),
        TimesForm,
        commanding.time_limit,
    ),
    "settings": Order(
        _t("Its settings"),
        _t("It is asked for its settings, those that are not at their defaults; without secrets."),
        _t("Ask"),
        None,
        _question("conf", with_defaults=False),
        asks=True,
    ),
    "registered": Order(
        _t("Its tasks"),
        _t("It is asked which tasks it knows, and how often it may start them."),
        _t("Ask"),
        None,
        _question("registered"),
        asks=True,
    ),
    "stats": Order(
        _t("What it counts"),
        _t("It is asked what it counts and uses."),
        _t("Ask"),
        None,
        _question("stats"),
        asks=True,
    ),
    "shutdown": Order(
        _t("Shut the worker down"),
        _t("It ends what it runs, takes nothing more, and stops. Nobody here can start it again."),
        _t("Shut down"),
        None,
        commanding.shutdown,
        danger=True,
        replies=False,
    ),
}


@page("worker")
def workers(request: HttpRequest) -> HttpResponse:
    """All of them."""
    found = [_shown(row) for row in monitor.workers(borrow())]
    return render(request, "workers", {"title": _("Workers"), "workers": found, "cut": len(found) >= monitor.MOST})


@page("worker")
def worker(request: HttpRequest, incarnation: int) -> HttpResponse:
    """One of them: its state, what it holds, what it can be told."""
    row = _row(incarnation)
    queues = [str(name) for name in row["queues"] if "\0" not in str(name)] if isinstance(row["queues"], list) else []
    held = []
    if may_see(request, "message"):
        held = monitor.active(borrow(), incarnation, queues[: monitor.MOST], ACTIVE_MAX)
    now = row["started"] if row["started"] is not None else 0.0
    context = {
        "title": label(row["name"]),
        "worker": _shown(row),
        "facts": _facts(row),
        "counters": _counters(row["counters"]),
        "held": [
            {
                "url": to("task", each.id),
                "name": label(each.name),
                "id": each.id,
                "queue": label(each.queue),
                "called": at(each.created),
                "retries": count(each.retries),
            }
            for each in held
        ],
        "held_shown": may_see(request, "message"),
        "now": now,
        "orders": _orders(request, incarnation),
        "tasks_url": f"{to('tasks')}?{urlencode({'q': phrase('worker', str(row['name']))})}",
    }
    return render(request, "worker", context)


def _orders(request: HttpRequest, incarnation: int) -> list[dict[str, Any]]:
    if not may_do(request, PERMISSION):
        return []
    return [
        {"url": to("order", str(incarnation), name), "title": order.title, "danger": order.danger}
        for name, order in ORDERS.items()
    ]


@page("worker", methods=ACT)
def order(request: HttpRequest, incarnation: int, name: str) -> HttpResponse:
    """Ask what a worker is to be told, and tell it."""
    must_be_able(request, PERMISSION)
    if name not in ORDERS:
        raise Problem(_("A worker cannot be told to %s.") % label(name), 404)
    row, meant = _row(incarnation), ORDERS[name]
    form = None
    if meant.form is not None:
        form = meant.form(request.POST) if request.method == "POST" else meant.form()
    if request.method == "POST" and (form is None or form.is_valid()):
        return _tell(request, meant, row, form.cleaned_data if form is not None else {})
    question = Question(
        str(meant.title), str(meant.text), [label(row["name"])], str(meant.button), _url(row), meant.danger
    )
    return ask(request, question, form)


def _tell(request: HttpRequest, meant: Order, row: Mapping[str, Any], given: Mapping[str, Any]) -> HttpResponse:
    options: dict[str, Any] = {"destination": [row["name"]], "by": str(request.user)}
    if meant.replies:
        options |= {"reply": True, "timeout": ANSWER_WITHIN}
    try:
        replies = meant.send(**given, **options)
    except (TypeError, ValueError) as error:
        raise Problem(str(error)) from None
    except psycopg.OperationalError as error:
        raise Problem(_("The database cannot be reached: %s") % error, 503) from None
    if not meant.replies:
        return done(request, messages.SUCCESS, _("%s was told to stop.") % label(row["name"]), to("workers"))
    if meant.asks and replies:
        answers = [(label(node), payload.block(pretty(answer))) for each in replies for node, answer in each.items()]
        return render(request, "answer", {"title": str(meant.title), "answers": answers, "back": _url(row)})
    for each in replies or ():
        for node, answer in each.items():
            good = isinstance(answer, dict) and "ok" in answer
            text = answer.get("ok" if good else "error", answer) if isinstance(answer, dict) else answer
            level = messages.SUCCESS if good else messages.ERROR
            messages.add_message(request, level, f"{label(node)}: {label(str(text))}")
    if not replies:
        text = _("%(name)s has not answered within %(seconds)s s. It obeys as soon as it can, within half a minute.")
        messages.warning(request, text % {"name": label(row["name"]), "seconds": f"{ANSWER_WITHIN:g}"})
    return back(request, _url(row))


def _url(row: Mapping[str, Any]) -> str:
    return to("worker", str(row["incarnation"]))


def _row(incarnation: int) -> dict[str, Any]:
    """The worker's row. Raises Problem."""
    if not -(2**63) <= incarnation < 2**63 or not (found := monitor.workers(borrow(), incarnation)):
        text = _(
            "This worker is gone: it has ended, or was declared dead. If it was started again, it stands among the"
            " workers under a new number."
        )
        raise Problem(text, 410)
    return found[0]


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    said: Mapping[str, Any] = row["state"] if isinstance(row["state"], dict) else {}
    counters = row["counters"] if isinstance(row["counters"], dict) else {}
    lives = row["age"] < settings.WORKER_DEAD_AFTER
    load, running = said.get("load"), said.get("running")
    # One that waits to be woken, with nothing more to take, may still run what it has taken.
    asleep = row["idle"] and not (isinstance(running, int) and running)
    return {
        "url": _url(row),
        "name": label(row["name"]),
        "lives": lives,
        "state": _("dead") if not lives else _("asleep") if asleep else _("at work"),
        "heartbeat": ago(row["age"]),
        "pool": label(row["pool"]),
        "concurrency": count(row["concurrency"]),
        "running": count(running) if isinstance(running, int) else "–",
        "prefetched": count(said["prefetched"]) if isinstance(said.get("prefetched"), int) else "–",
        "queues": ", ".join(label(str(name)) for name in row["queues"]) if isinstance(row["queues"], list) else "–",
        "succeeded": _counter(counters, "SUCCESS"),
        "failed": _counter(counters, "FAILURE"),
        "retried": _counter(counters, "RETRY"),
        "load": ", ".join(f"{each:g}" for each in load[:3] if isinstance(each, int | float))
        if isinstance(load, list)
        else "–",
        "since": at(row["started"]),
        "process": f"{row['pid']}, {label(row['host'])}",
    }


def _counter(counters: Mapping[str, Any], state: str) -> str:
    number = counters.get(state, 0)
    return count(number) if isinstance(number, int | float) else "–"


def _counters(counters: object) -> list[tuple[str, str]]:
    if not isinstance(counters, dict):
        return []
    return [
        (label(str(state)), count(number) if isinstance(number, int | float) else pretty(number))
        for state, number in sorted(counters.items())
    ]


def _facts(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the worker has said with its last heartbeat, beside what has a place of its own."""
    said: Mapping[str, Any] = row["state"] if isinstance(row["state"], dict) else {}
    known = ("running", "prefetched", "load")
    facts = [(_("process group"), str(row["process_group"]))] if row.get("process_group") else []
    if isinstance(usage := said.get("rusage"), dict):
        memory = usage.get("maxrss")
        if isinstance(memory, int | float):
            facts.append((_("memory, at most"), f"{count(memory / 1024)} MiB"))
        times = [usage.get("utime"), usage.get("stime")]
        if all(isinstance(each, int | float) for each in times):
            facts.append((_("processor, user and system"), " / ".join(span(each) for each in times)))
    for name, value in said.items():
        if name in known or name == "rusage":
            continue
        text = ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else pretty(value)
        facts.append((label(str(name)), label(text)))
    return facts
