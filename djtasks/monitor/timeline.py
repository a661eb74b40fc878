"""Time lines: what happened to a task, and when periodic tasks run next."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _t

from djtasks.admin.schedule_lists import tick_of
from djtasks.admin.schedule_preview import UNREADABLE
from djtasks.admin.text import duration, label, moment
from djtasks.db.taskpage import One
from djtasks.models import PeriodicTask
from djtasks.periodic import upcoming

#: Events that a row of the task says as well.
_WORDS: Final = {
    "task-sent": _t("sent"),
    "task-received": _t("taken by a worker"),
    "task-started": _t("began"),
    "task-succeeded": _t("succeeded"),
    "task-failed": _t("failed"),
    "task-retried": _t("is to be tried again"),
    "task-revoked": _t("revoked"),
    "task-rejected": _t("rejected"),
}


class Moment(NamedTuple):
    """Something that happened to a task, or will."""

    at: str
    text: str
    #: What kind of thing it was: "good", "bad", "warn", "run" or "".
    kind: str
    #: How long after what stands before it.
    later: str


def of_task(found: One) -> list[Moment]:
    """What happened to a task, the first first; of its runs before the last one only what events tell."""
    seen = sorted(_happened(found), key=lambda each: each[0])
    moments, before = [], None
    for at, text, kind in seen:
        later = "" if before is None or at < before else f"+{duration(at - before)}"
        moments.append(Moment(moment(at), text, kind, later))
        before = at
    return moments


def _happened(found: One) -> Iterator[tuple[datetime, str, str]]:
    message, result = found.message, found.result
    row: Any = result if message is None else message
    yield row.created, _("called"), ""
    if message is not None and message.eta is not None:
        yield message.eta, _("may run from here on"), ""
    if message is not None and message.expires is not None:
        yield message.expires, _("expires"), "warn"
    told = [each for each in found.events if isinstance(each.get("type"), str)]
    for each in told:
        text = str(_WORDS.get(each["type"], label(each["type"])))
        kinds = {"task-succeeded": "good", "task-failed": "bad", "task-retried": "warn", "task-revoked": "warn"}
        worker = f" ({label(each['worker'])})" if each.get("worker") else ""
        yield datetime.fromtimestamp(each["at"], UTC), text + worker, kinds.get(each["type"], "run")
    types = {each["type"] for each in told}
    if result is not None and result.started is not None and "task-started" not in types:
        worker = f" ({label(result.worker)})" if result.worker else ""
        text = _("began, for the last time") if row.retries else _("began")
        yield result.started, text + worker, "run"
    if result is not None and result.done is not None:
        kind = {"SUCCESS": "good", "FAILURE": "bad"}.get(result.state, "warn")
        yield result.done, _("ended: %s") % label(result.state), kind


class Reach(NamedTuple):
    """How far the time line of schedules goes."""

    name: str
    title: Promise
    seconds: int


REACHES: Final = (
    Reach("1h", _t("1 hour"), 3600),
    Reach("24h", _t("24 hours"), 86_400),
    Reach("7d", _t("7 days"), 604_800),
)
#: So many runs of each periodic task stand on the line, which is so long, in units of its picture.
MARKS: Final = 12
LENGTH: Final = 1000


class Strip(NamedTuple):
    """The next runs of one periodic task."""

    name: str
    #: Where they are on the line, and when that is.
    marks: list[tuple[str, str]]
    #: What is wrong with it.
    error: str


def strips(tasks: Iterable[PeriodicTask], reach: Reach, now: datetime | None = None) -> list[Strip]:
    """A line for each of these tasks that runs within reach."""
    now = now or timezone.now()
    end = now + timedelta(seconds=reach.seconds)
    found = []
    for task in tasks:
        error, runs = "", []
        try:
            runs = [at for at in _next(task, now) if at <= end]
        except UNREADABLE as problem:
            error = label(str(problem))
        if runs or error:
            marks = [
                (f"{LENGTH * (at - now).total_seconds() / reach.seconds:.1f}", moment(at)) for at in runs if at >= now
            ]
            found.append(Strip(label(task.name), marks, error))
    return found


def _next(task: PeriodicTask, now: datetime) -> list[datetime]:
    tick, entry = tick_of(task), task.entry()
    first = None if tick.stale else tick.next_run_at
    if first is None or first <= now:
        return upcoming(entry, now, MARKS)
    return [first] if entry.one_off else [first, *upcoming(entry, first, MARKS - 1, first)]


def hours(reach: Reach, now: datetime | None = None) -> list[tuple[str, str]]:
    """Where on the line a time is written, and which."""
    now = now or timezone.now()
    found = []
    for part in range(5):
        at = timezone.localtime(now + timedelta(seconds=reach.seconds * part / 4))
        found.append((f"{LENGTH * part / 4:.0f}", f"{at:%H:%M}" if reach.seconds <= 86_400 else f"{at:%m-%d %H:%M}"))
    return found
