"""What code says of a periodic task, as an entry of BEAT_SCHEDULE has it, made into an `Entry`."""

import difflib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from djtasks import calls, serializers
from djtasks.exceptions import EncodeError, safe_repr
from djtasks.periodic.entries import OF_ONE_CALL, Entry, columns_of
from djtasks.schedules import BaseSchedule, maybe_schedule, schedule

#: What an entry of Celery's may say, and what one may say besides.
_CELERYS = ("task", "schedule", "args", "kwargs", "options", "relative")
OWN_KEYS = (
    "one_off",
    "start_time",
    "enabled",
    "catch_up",
    "deadline",
    "overlap",
    "description",
    "expires",
    "expire_seconds",
)
#: What Celery's beat keeps in its entries, which are the table's here.
_KEPT_ELSEWHERE = ("last_run_at", "total_run_count", "app", "name")
#: Options that are columns.
_OWN = ("queue", "exchange", "routing_key", "priority", "headers", "expires")


def entry_of_code(name: str, definition: Any, source: str = "settings") -> Entry:
    """The periodic task of this name that code defines.

    `definition` has Celery's keys (task, schedule, args, kwargs, options, relative) and may have one_off, start_time,
    enabled, catch_up, deadline, overlap, description, expires and expire_seconds. Its task may be a task.

    Raises TypeError for what is of the wrong type, for a key that there is not, and for a schedule that no row can
    hold; ValueError for a value that does not fit. What `problems` says of the entry is not looked at here.
    """
    said = _checked(name, definition)
    columns = columns_of(_schedule(said.get("schedule"), bool(said.get("relative"))))
    options = dict(said.get("options") or {})
    calls.check(options)
    args, kwargs = calls.check_arguments(said.get("args"), said.get("kwargs"))
    columns |= {field: said[field] for field in OWN_KEYS if field in said}
    columns |= _own_options(options, columns)
    for option in OF_ONE_CALL:
        if options.pop(option, None) is not None:
            raise ValueError(f"the option {option!r} is of one call, and a periodic task is called again and again")
    for field in ("expires", "start_time", "clocked"):
        if isinstance(moment := columns.get(field), datetime | str):
            columns[field] = datetime.fromtimestamp(calls.instant(moment, field), UTC)
    return Entry(
        name=name,
        task=_task_name(said.get("task")),
        args=_plain(list(args), "args"),
        kwargs=_plain(dict(kwargs), "kwargs"),
        options=_plain(options, "options"),
        source=source,
        **columns,
    )


def _checked(name: Any, definition: Any) -> dict[str, Any]:
    if not isinstance(name, str) or not name:
        raise TypeError(f"the name of a periodic task is a text, not {safe_repr(name, 200)}")
    if not isinstance(definition, Mapping):
        raise TypeError(f"a periodic task is a dict with task and schedule, not {safe_repr(definition, 200)}")
    known = (*_CELERYS, *OWN_KEYS)
    for key in definition.keys() - {*known, *_KEPT_ELSEWHERE}:
        near = difflib.get_close_matches(str(key), known, n=1)
        guess = f"did you mean {near[0]!r}?" if near else f"it may have {', '.join(known)}"
        raise TypeError(f"a periodic task has no {key!r}; {guess}")
    return dict(definition)


def _schedule(given: Any, relative: bool) -> BaseSchedule:
    if given is None:
        raise TypeError("it needs a schedule: a number of seconds, a timedelta, schedule, crontab, solar or clocked")
    when = maybe_schedule(given, relative)
    if type(when) is schedule and relative:
        when = schedule(when.run_every, True)
    if not isinstance(when, BaseSchedule):
        theirs = ", not from celery" if type(given).__module__.startswith("celery") else ""
        raise TypeError(
            "a schedule is a number of seconds, a timedelta, or one of schedule, crontab, solar and clocked, imported"
            f" from djtasks{theirs}; not {safe_repr(given, 200)}"
        )
    return when


def _task_name(task: Any) -> str:
    name = task if isinstance(task, str) else getattr(task, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"task is a task or its name, not {safe_repr(task, 200)}")
    return name


def _own_options(options: dict[str, Any], columns: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are columns, taken out of `options`."""
    found = {name: value for name in _OWN if (value := options.pop(name, None)) is not None}
    for name in ("queue", "exchange"):
        if name in found and not isinstance(found[name], str):
            found[name] = getattr(found[name], "name", found[name])
            if not isinstance(found[name], str):
                raise TypeError(f"{name} is a name, or an object that has one, not {safe_repr(found[name], 200)}")
    if "headers" in found:
        if not isinstance(found["headers"], Mapping):
            raise TypeError(f"headers are a dict, not {safe_repr(found['headers'], 200)}")
        found["headers"] = _plain(dict(found["headers"]), "headers")
    expires = found.get("expires", columns.get("expires"))
    if expires is not None and not isinstance(expires, datetime | str):
        found.pop("expires", None)
        found["expires"] = None
        found["expire_seconds"] = max(1, round(calls.seconds(expires, "expires")))
    return found


def _plain(value: Any, what: str) -> Any:
    """`value` as JSON has it: what JSON lacks is written as in a message. Raises TypeError."""
    try:
        return json.loads(serializers.dumps(value, "json")[1])
    except EncodeError as error:
        lazy = " What is to be worked out for each run belongs into the task." if "function" in str(error) else ""
        raise TypeError(f"{what}: it is kept in the database, as JSON: {error}.{lazy}") from None
