"""What is wrong with a periodic task, field by field, said so that it can be put right."""

import difflib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from djtasks import calls, routing
from djtasks.conf.kinds import QUEUE_NAME_MAX, WHOLE_MAX, is_storable
from djtasks.exceptions import DecodeError, ImproperlyConfigured, QueueNotFound, safe_repr
from djtasks.periodic.entries import EVERY_MAX, OF_ONE_CALL, PERIODS, Entry, arguments_of, schedule_of
from djtasks.registry import tasks
from djtasks.schedules.base import zone_of
from djtasks.schedules.fields import PARSERS, check_dates, expand
from djtasks.schedules.sun import EVENTS, check_place

Found = Iterator[tuple[str, str]]

#: How long a name, of a periodic task and of a task, may be.
NAME_MAX = 200
KINDS = ("interval", "crontab", "clocked", "solar")
CATCH_UPS, OVERLAPS = ("one", "all", "none"), ("allow", "skip")
#: How deep JSON may be nested.
DEPTH_MAX = 50
_NESTS = (list, tuple, Mapping)
_LENGTHS = {"minute": 240, "hour": 96, "day_of_month": 124, "month_of_year": 64, "day_of_week": 64}


def problems(entry: Entry, now: datetime | None = None) -> dict[str, str]:
    """What is wrong, as a sentence for each field at fault; empty when nothing is. Never raises.

    With `now`, times that are to come and have passed are wrong too: `clocked` and `expires`.
    """
    found: dict[str, str] = {}
    for part in (_names, _when, _how, _arguments, _policies):
        for field, sentence in part(entry):
            found.setdefault(field, sentence)
    if now is not None:
        for field in ("clocked", "expires"):
            moment = getattr(entry, field)
            if isinstance(moment, datetime) and field not in found and moment <= now:
                found[field] = "This time has passed."
    return found


def warnings(entry: Entry) -> dict[str, str]:
    """What may be wrong, field by field: a task that is not known here."""
    if not isinstance(entry.task, str) or not entry.task or entry.task in tasks:
        return {}
    near = difflib.get_close_matches(entry.task, tasks.names(), n=1)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return {"task": f"There is no task {entry.task!r} here.{guess}"}


def _names(entry: Entry) -> Found:
    for field in ("name", "task"):
        value = getattr(entry, field)
        if not isinstance(value, str) or not value:
            yield field, f"It needs {'a name' if field == 'name' else 'the name of a task'}."
        elif len(value) > NAME_MAX or not is_storable(value):
            yield field, f"It is a text of at most {NAME_MAX} characters, without NUL and lone surrogates."
    if not isinstance(entry.description, str) or not is_storable(entry.description):
        yield "description", "It is a text without NUL and lone surrogates."


# -- the schedule -------------------------------------------------------------------------------------------------


def _when(entry: Entry) -> Found:
    if entry.kind not in KINDS:
        yield "kind", f"There is no schedule of the kind {entry.kind!r}: there are {', '.join(KINDS)}."
        return
    parts = {"interval": _interval, "crontab": _crontab, "clocked": _clocked, "solar": _solar}
    clean = True
    for problem in parts[entry.kind](entry):
        clean = False
        yield problem
    yield from _others(entry)
    if clean:
        try:
            schedule_of(entry)
        except (TypeError, ValueError, OverflowError, ImproperlyConfigured) as error:
            yield "kind", _sentence(error)


def _interval(entry: Entry) -> Found:
    if entry.every is None:
        yield "every", "An interval needs a number."
    elif isinstance(entry.every, bool) or not isinstance(entry.every, int) or not 1 <= entry.every <= EVERY_MAX:
        yield "every", f"It is a whole number from 1 to {EVERY_MAX}."
    if not isinstance(entry.period, str) or entry.period not in PERIODS:
        yield "period", f"An interval needs a unit: {', '.join(PERIODS)}."
    elif isinstance(entry.every, int) and entry.every > timedelta(days=999_999) // PERIODS[entry.period]:
        yield "every", "That is longer than the calendar goes."


def _crontab(entry: Entry) -> Found:
    numbers: dict[str, frozenset[int]] = {}
    for field in PARSERS:
        spec = getattr(entry, field)
        if not isinstance(spec, str) or not spec or len(spec) > _LENGTHS[field]:
            yield field, f"It is a text of 1 to {_LENGTHS[field]} characters; '*' is every one."
            continue
        try:
            numbers[field] = expand(field, spec)
        except ValueError as error:
            yield field, _sentence(error, field)
    if {"day_of_month", "month_of_year"} <= numbers.keys():
        try:
            check_dates(numbers["day_of_month"], numbers["month_of_year"])
        except ValueError as error:
            yield "day_of_month", _sentence(error)
    try:
        zone_of(entry.timezone)
    except ValueError as error:
        yield "timezone", _sentence(error)


def _clocked(entry: Entry) -> Found:
    if not isinstance(entry.clocked, datetime):
        yield "clocked", "It needs the time at which it runs."
    elif entry.clocked.tzinfo is None:
        yield "clocked", "It needs a time with a zone."
    if not entry.one_off:
        yield "one_off", "What runs at one time runs once: set it."


def _solar(entry: Entry) -> Found:
    if entry.event not in EVENTS:
        yield "event", f"It is one of {', '.join(EVENTS)}."
    for field in ("latitude", "longitude"):
        try:
            check_place(field, getattr(entry, field))
        except (TypeError, ValueError) as error:
            yield field, _sentence(error, field)


def _others(entry: Entry) -> Found:
    """Columns of another kind of schedule, beside those of its own."""
    if entry.kind != "interval" and entry.every is not None:
        yield "every", f"It has a schedule of the kind {entry.kind}, and an interval too."
    if entry.kind != "clocked" and entry.clocked is not None:
        yield "clocked", f"It has a schedule of the kind {entry.kind}, and a time at which it runs too."
    if entry.kind != "solar" and entry.event:
        yield "event", f"It has a schedule of the kind {entry.kind}, and an event of the sun too."


# -- the call -----------------------------------------------------------------------------------------------------


def _how(entry: Entry) -> Found:
    if not isinstance(entry.queue, str):
        yield "queue", f"It is the name of a queue, not {safe_repr(entry.queue, 200)}."
    elif entry.queue:
        try:
            routing.check_queue(entry.queue)
        except (ValueError, QueueNotFound) as error:
            yield "queue", _sentence(error)
    for field in ("exchange", "routing_key"):
        value = getattr(entry, field)
        if not isinstance(value, str) or len(value) > QUEUE_NAME_MAX or not is_storable(value):
            yield field, f"It is a text of at most {QUEUE_NAME_MAX} characters, without NUL and lone surrogates."
    if entry.priority is not None:
        try:
            routing.checked_priority(entry.priority)
        except ValueError as error:
            yield "priority", _sentence(error)
    for field in ("headers", "options"):
        yield from _json(field, getattr(entry, field), Mapping, "an object")
    if isinstance(entry.options, Mapping):
        try:
            calls.check(entry.options)
        except TypeError as error:
            yield "options", _sentence(error)
        for option in OF_ONE_CALL:
            if entry.options.get(option) is not None:
                yield "options", f"{option!r} is of one call, and a periodic task is called again and again."


def _arguments(entry: Entry) -> Found:
    bad = [*_json("args", entry.args, list | tuple, "a list"), *_json("kwargs", entry.kwargs, Mapping, "an object")]
    if bad:
        yield from bad
        return
    task = tasks.get(entry.task) if isinstance(entry.task, str) else None
    if task is None or not getattr(task, "typing", False):
        return
    try:
        task.check_arguments(*arguments_of(entry))
    except (TypeError, DecodeError) as error:
        yield ("kwargs" if entry.kwargs else "args"), f"They do not fit the task: {error}."


def _json(field: str, value: Any, kind: Any, wants: str) -> Found:
    if not isinstance(value, kind):
        yield field, f"It is JSON: {wants}, not {safe_repr(value, 200)}."
        return
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        storable = "\\u0000" not in text and is_storable(text)
    except (TypeError, ValueError, RecursionError):
        storable = False
    if storable and _is_deep(value):
        yield field, f"It is nested too deeply: {DEPTH_MAX} levels are the most."
    if not storable:
        yield field, "PostgreSQL cannot keep this as JSON: NUL, lone surrogates, NaN and infinities are not allowed."


def _is_deep(value: Any) -> bool:
    """Whether it is nested deeper than everybody can read it who may have to."""
    level = [value]
    for _ in range(DEPTH_MAX):
        inner = [each.values() if isinstance(each, Mapping) else each for each in level if isinstance(each, _NESTS)]
        level = [each for values in inner for each in values]
    return any(isinstance(each, _NESTS) for each in level)


def _policies(entry: Entry) -> Found:
    if entry.expires is not None and entry.expire_seconds is not None:
        yield "expire_seconds", "Give expires or expire_seconds, not both."
    for field in ("expire_seconds", "deadline"):
        value = getattr(entry, field)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= WHOLE_MAX):
            yield field, f"It is a whole number of seconds, from 0 to {WHOLE_MAX}."
    for field in ("expires", "start_time"):
        value = getattr(entry, field)
        if value is not None and (not isinstance(value, datetime) or value.tzinfo is None):
            yield field, "It is a time with a zone."
    if entry.catch_up not in CATCH_UPS:
        yield "catch_up", f"It is one of {', '.join(CATCH_UPS)}."
    if entry.overlap not in OVERLAPS:
        yield "overlap", f"It is one of {', '.join(OVERLAPS)}."


def _sentence(error: BaseException, field: str = "") -> str:
    text = (str(error) or type(error).__name__).removeprefix(f"{field}: ").removesuffix(".")
    return f"{text[:1].upper()}{text[1:]}."
