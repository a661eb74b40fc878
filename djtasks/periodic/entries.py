"""`Entry`: what a periodic task says, as its row has it, and when and how it is to be sent."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from djtasks import serializers
from djtasks.conf import settings
from djtasks.schedules import BaseSchedule, clocked, crontab, schedule, solar
from djtasks.schedules.base import zone_name
from djtasks.schedules.fields import text_of

#: The units of an interval, the largest first.
PERIODS = {
    "days": timedelta(days=1),
    "hours": timedelta(hours=1),
    "minutes": timedelta(minutes=1),
    "seconds": timedelta(seconds=1),
    "microseconds": timedelta(microseconds=1),
}
#: What `every` can be: PostgreSQL's integer.
EVERY_MAX = 2**31 - 1
#: Options that say how one call is made.
OF_ONE_CALL = (
    *("task_id", "eta", "enqueue", "using", "connection", "producer", "publisher"),
    *("periodic", "chord", "part"),
)
_TINY = timedelta(microseconds=1)
#: Thousands of rows have the same few lines.
_crontab = lru_cache(maxsize=1024)(crontab)


class Entry(NamedTuple):
    """A periodic task: the columns of its row, under their names. `id` is 0 while there is no row."""

    name: str
    task: str
    kind: str
    every: int | None = None
    period: str = ""
    relative: bool = False
    minute: str = "*"
    hour: str = "*"
    day_of_month: str = "*"
    month_of_year: str = "*"
    day_of_week: str = "*"
    timezone: str = ""
    clocked: datetime | None = None
    event: str = ""
    latitude: float | None = None
    longitude: float | None = None
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = {}
    queue: str = ""
    exchange: str = ""
    routing_key: str = ""
    priority: int | None = None
    headers: Mapping[str, Any] = {}
    options: Mapping[str, Any] = {}
    expires: datetime | None = None
    expire_seconds: int | None = None
    one_off: bool = False
    start_time: datetime | None = None
    enabled: bool = True
    catch_up: str = "one"
    deadline: int | None = None
    overlap: str = "allow"
    description: str = ""
    source: str = "admin"
    id: int = 0


#: The names of the columns, those of `Entry` but `id`.
FIELDS: tuple[str, ...] = Entry._fields[:-1]
_CHOICES = ("kind", "period", "catch_up", "overlap", "source")


def entry_of(row: Any) -> Entry:
    """The entry of a row, or of anything that has its columns as attributes."""
    said = {field: getattr(row, field) for field in FIELDS}
    said |= {field: str(said[field]) for field in _CHOICES if isinstance(said[field], str)}
    return Entry(**said, id=getattr(row, "id", None) or 0)


# -- when ---------------------------------------------------------------------------------------------------------


def schedule_of(entry: Entry) -> BaseSchedule:
    """The schedule that the columns describe. Raises ValueError, TypeError, ImproperlyConfigured (no astral)."""
    if entry.kind == "interval":
        if entry.period not in PERIODS or not entry.every:
            raise ValueError("an interval needs every, 1 or more, and a period")
        return schedule(entry.every * PERIODS[entry.period], entry.relative)
    if entry.kind == "crontab":
        return _crontab(
            entry.minute, entry.hour, entry.day_of_week, entry.day_of_month, entry.month_of_year, entry.timezone or None
        )
    if entry.kind == "clocked":
        if entry.clocked is None:
            raise ValueError("a clocked schedule needs a time")
        return clocked(entry.clocked)
    if entry.kind == "solar":
        if entry.latitude is None or entry.longitude is None:
            raise ValueError("a solar schedule needs a latitude and a longitude")
        return solar(entry.event, entry.latitude, entry.longitude)
    raise ValueError(f"there is no schedule of the kind {entry.kind!r}")


def first_due(entry: Entry, since: datetime) -> datetime | None:
    """When it is due first, after `since`, the time from which it counts: its making, its last edit, its enabling.

    An interval counts from `start_time`, which is its first time; without one, from `since`. None: never. Raises as
    `schedule_of` does.
    """
    when, start = schedule_of(entry), entry.start_time
    if entry.kind != "interval" or entry.relative or start is None:
        return _in_time(entry, when.next_after(since if start is None else max(since, start - _TINY)))
    if since < start:
        return _in_time(entry, start)
    return _in_time(entry, when.next_after(when.latest(start, since) or start))


def next_due(entry: Entry, last: datetime) -> datetime | None:
    """The due time that follows the due time `last`; None: never again. Raises as `schedule_of` does."""
    if entry.one_off:
        return None
    if entry.start_time is not None and last < entry.start_time:
        return first_due(entry, last)
    return _in_time(entry, schedule_of(entry).next_after(last))


def _in_time(entry: Entry, due: datetime | None) -> datetime | None:
    return None if due is None or (entry.expires is not None and due >= entry.expires) else due


def upcoming(entry: Entry, now: datetime, count: int = 5, last: datetime | None = None) -> list[datetime]:
    """The next due times after `now`, in UTC, `count` at most; whether it is enabled does not matter.

    `last` is the due time of its last run, from which an interval counts. Raises as `schedule_of` does.
    """
    if last is None or (entry.start_time is not None and last < entry.start_time):
        due = first_due(entry, now)
    else:
        due = next_due(entry, schedule_of(entry).latest(last, now) or last)
    found: list[datetime] = []
    while due is not None and len(found) < count:
        found.append(due)
        due = next_due(entry, due)
    return found


def deadline_of(entry: Entry) -> int | None:
    """How many seconds ago a time may have been missed to be caught up with; None: any number."""
    if entry.deadline is None and entry.kind == "crontab":
        return settings.BEAT_CRON_STARTING_DEADLINE
    return entry.deadline


# -- how ----------------------------------------------------------------------------------------------------------


def arguments_of(entry: Entry) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of its calls; what JSON has no form for, and code has said, is itself again. Raises DecodeError."""
    body = json.dumps([list(entry.args), dict(entry.kwargs)]).encode()
    args, kwargs = serializers.loads(body, "application/json", ("json",))
    return args, kwargs


def options_of(entry: Entry, due: datetime) -> dict[str, Any]:
    """The options of `apply_async` for the run that was due at `due`.

    `expire_seconds` counts from there; the header periodic_task_name is the name, and `periodic` the id of the row.
    """
    options = dict(entry.options)
    for field in ("queue", "exchange", "routing_key", "priority"):
        if (value := getattr(entry, field)) not in (None, ""):
            options[field] = value
    if entry.expire_seconds is not None:
        options["expires"] = due.astimezone(UTC) + timedelta(seconds=entry.expire_seconds)
    elif entry.expires is not None:
        options["expires"] = entry.expires
    options["headers"] = {**entry.headers, "periodic_task_name": entry.name}
    if entry.id:
        options["periodic"] = entry.id
    return options


def columns_of(when: BaseSchedule) -> dict[str, Any]:
    """The columns that describe a schedule: the kind and what belongs to it.

    Raises TypeError for a schedule of a class of one's own, which no row can hold, ValueError for what no column can.
    """
    if type(when) is crontab:
        return _crontab_columns(when)
    if type(when) is schedule:
        return {"kind": "interval", "relative": when.relative, **_interval_columns(when.run_every)}
    if type(when) is clocked:
        return {"kind": "clocked", "clocked": when.clocked_time, "one_off": True}
    if type(when) is solar:
        return {"kind": "solar", "event": when.event, "latitude": float(when.lat), "longitude": float(when.lon)}
    raise TypeError(
        f"{type(when).__name__} is no schedule that a row can hold: take a number of seconds, a timedelta, schedule,"
        " crontab, solar or clocked of djtasks"
    )


def _crontab_columns(when: crontab) -> dict[str, Any]:
    fields = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    texts = {field: text_of(getattr(when, f"_orig_{field}")) for field in fields}
    return {"kind": "crontab", **texts, "timezone": zone_name(when.own_tz)}


def _interval_columns(interval: timedelta) -> dict[str, Any]:
    period, unit = next((name, unit) for name, unit in PERIODS.items() if not interval % unit)
    every = interval // unit
    if every > EVERY_MAX:
        raise ValueError(f"an interval of {interval} in {period} is more than a row can hold: take whole seconds")
    return {"every": every, "period": period}
