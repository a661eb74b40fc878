"""What is wrong right now, in sentences, the worst first."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from djtasks.admin.text import label
from djtasks.conf import settings
from djtasks.db.monitor import COUNTED, Picture
from djtasks.db.queues import Depth
from djtasks.monitor.numbers import count, span
from djtasks.monitor.respond import to

#: A message that has waited for so many seconds waits too long.
OLD_AFTER: Final = 300.0
#: A transaction that is so old, in seconds, keeps dead rows in the tables that every claim steps over.
HELD_AFTER: Final = 300.0
#: So many of a kind are named one by one.
NAMED: Final = 5


class Alarm(NamedTuple):
    """One thing that is wrong."""

    #: "bad" or "warn".
    level: str
    text: str
    url: str
    #: The model that one has to see to be told.
    model: str


def alive(picture: Picture) -> list[dict[str, object]]:
    """The workers whose hearts beat."""
    return [each for each in picture.workers if each["age"] < settings.WORKER_DEAD_AFTER]


def served(picture: Picture) -> dict[str, int]:
    """How many workers that live take from each queue."""
    found: dict[str, int] = {}
    for worker in alive(picture):
        queues = worker["queues"]
        for name in queues if isinstance(queues, list) else ():
            found[str(name)] = found.get(str(name), 0) + 1
    return found


def alarms(picture: Picture, depths: Mapping[str, Depth]) -> list[Alarm]:
    """All of them."""
    found = [*_workers(picture), *_queues(picture, depths), *_schedules(picture), *_others(picture)]
    return sorted(found, key=lambda alarm: alarm.level != "bad")


def _workers(picture: Picture) -> Iterator[Alarm]:
    url = to("workers")
    if not alive(picture):
        yield Alarm("bad", _("No worker is there: nothing runs."), url, "worker")
    dead = [each for each in picture.workers if each["age"] >= settings.WORKER_DEAD_AFTER]
    for each in dead[:NAMED]:
        text = _("The heart of the worker %(name)s has not beaten for %(age)s.")
        yield Alarm("bad", text % {"name": label(each["name"]), "age": span(each["age"])}, url, "worker")
    if len(dead) > NAMED:
        text = ngettext("%d more worker is dead.", "%d more workers are dead.", len(dead) - NAMED)
        yield Alarm("bad", text % (len(dead) - NAMED), url, "worker")


def _queues(picture: Picture, depths: Mapping[str, Depth]) -> Iterator[Alarm]:
    url = to("queues")
    takers = served(picture)
    paused = {each["name"]: each for each in picture.queues if each["paused"]}
    for name, each in list(paused.items())[:NAMED]:
        text = _("The queue %(name)s is paused, for %(age)s; by %(by)s.")
        age = span(None if each["since"] is None else picture.now - each["since"])
        yield Alarm("warn", text % {"name": label(name), "age": age, "by": label(each["by"])}, url, "queue")
    if len(paused) > NAMED:
        text = ngettext("%d more queue is paused.", "%d more queues are paused.", len(paused) - NAMED)
        yield Alarm("warn", text % (len(paused) - NAMED), url, "queue")
    forsaken = [name for name, depth in depths.items() if depth.known and name not in takers]
    for name in forsaken[:NAMED] if takers else ():
        yield Alarm(
            "bad", _("No worker takes from the queue %s, and something waits there.") % label(name), url, "queue"
        )
    old = [(name, depth.oldest) for name, depth in depths.items() if (depth.oldest or 0) > OLD_AFTER]
    old = sorted([each for each in old if each[0] not in paused], key=lambda each: -(each[1] or 0))
    for name, oldest in old[:NAMED]:
        text = _("In the queue %(name)s a task has waited for %(age)s.")
        yield Alarm("bad", text % {"name": label(name), "age": span(oldest)}, url, "queue")
    if (unknown := picture.parked.get("name", 0)) > 0:
        text = ngettext("%s task waits that no worker here knows.", "%s tasks wait that no worker here knows.", unknown)
        yield Alarm("bad", text % count(unknown, COUNTED), f"{to('tasks')}?q=state:name", "message")


def _schedules(picture: Picture) -> Iterator[Alarm]:
    url = to("schedules")
    beats = [each for each in picture.beats if each["age"] < settings.WORKER_DEAD_AFTER]
    if picture.schedules and not beats:
        text = ngettext(
            "No beat is there: %s periodic task is enabled, and is not sent.",
            "No beat is there: %s periodic tasks are enabled, and none is sent.",
            picture.schedules,
        )
        yield Alarm("bad", text % count(picture.schedules, 1000), url, "periodictask")
    elif picture.late:
        text = ngettext(
            "%s periodic task is more than a minute late.",
            "%s periodic tasks are more than a minute late.",
            picture.late,
        )
        yield Alarm("bad", text % count(picture.late, 1000), url, "periodictask")


def _others(picture: Picture) -> Iterator[Alarm]:
    if picture.letters:
        text = ngettext("There is %s dead letter.", "There are %s dead letters.", picture.letters)
        yield Alarm("warn", text % count(picture.letters, COUNTED), to("letters"), "result")
    oldest = picture.oldest
    if oldest is not None and oldest["age"] > HELD_AFTER:
        text = _(
            "A transaction is open for %(age)s (%(who)s of the server, %(name)s): until it ends, dead rows stay"
            " in the tables, and every claim steps over them."
        )
        who = _("process %s") % oldest["who"] if oldest["who"].isdecimal() else _("a prepared one")
        said = {"age": span(oldest["age"]), "who": who, "name": label(oldest["name"])}
        yield Alarm("bad", text % said, to("queues"), "queue")
