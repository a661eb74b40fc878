"""`djtasks import_celery_beat`: the schedules of django-celery-beat become ours.

Its tables are read by SQL, so that it need not be installed any more. A row whose name is taken here is left alone: the
import may be repeated at any time.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import connections, transaction

from djtasks.conf import settings
from djtasks.db import imports
from djtasks.db.imports import Theirs
from djtasks.exceptions import ImproperlyConfigured
from djtasks.models import PeriodicTask, Tick
from djtasks.registry import import_default_modules, tasks

HELP = "Import the periodic tasks of django-celery-beat from its tables."
#: djtasks brings these itself.
_BUILTIN = frozenset({"celery.backend_cleanup"})
_SAME = ("queue", "exchange", "routing_key", "description")
_TIMES = ("expires", "start_time")
_FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")


class CannotMap(Exception):
    """Why a row cannot become one of ours."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    add = parser.add_argument
    add("--dry-run", action="store_true", help="say what would be done, and do nothing")
    add("--disabled", action="store_true", help="import all of them disabled, to be enabled one by one")
    add("--database", metavar="ALIAS", help="the database with the tables of django-celery-beat (default: DATABASE)")


def run(given: Mapping[str, Any], say: Callable[[str], Any]) -> int:
    """Import; returns 1 when something could not be mapped. Raises ImproperlyConfigured where there is nothing."""
    alias = given.get("database") or settings.DATABASE
    if alias not in connections:
        raise ImproperlyConfigured(f"--database: DATABASES has no {alias!r}")
    found = imports.celery_beat(connections[alias])
    if found is None:
        raise ImproperlyConfigured(f"the database {alias!r} has no table django_celery_beat_periodictask")
    import_default_modules()
    made, there, failed = 0, 0, 0
    for theirs in found:
        name = str(theirs.task.get("name"))
        if name in _BUILTIN or PeriodicTask.objects.using(settings.DATABASE).filter(name=name).exists():
            there += 1
            say(f"  there already  {name!r}")
            continue
        try:
            row = _import(theirs, disabled=bool(given.get("disabled")), dry_run=bool(given.get("dry_run")))
        except CannotMap as error:
            failed += 1
            say(f"  NOT IMPORTED   {name!r}: {error}")
            continue
        made += 1
        state = "" if row.enabled else ", disabled"
        say(f"  imported       {name!r}: {row.task}, {row.kind}{state}{_remarks(row)}")
    what = "would be imported" if given.get("dry_run") else "imported"
    say(f"{made} {what}, {there} there already, {failed} not imported.")
    if made and not given.get("dry_run") and not given.get("disabled"):
        say("Stop celery beat, or disable these rows there: both systems would run them.")
    return 1 if failed else 0


def ours(theirs: Theirs) -> dict[str, Any]:
    """The columns of our row. Raises CannotMap."""
    task = theirs.task
    values: dict[str, Any] = {
        "name": task.get("name"),
        "task": task.get("task"),
        "enabled": bool(task.get("enabled", True)),
        "one_off": bool(task.get("one_off")),
        "priority": task.get("priority"),
        "expire_seconds": task.get("expire_seconds"),
        "args": _json(task, "args", list),
        "kwargs": _json(task, "kwargs", dict),
        "headers": _json(task, "headers", dict),
        **{name: task.get(name) or "" for name in _SAME},
        **{name: task.get(name) for name in _TIMES},
    }
    return {**values, **_schedule(theirs)}


def _schedule(theirs: Theirs) -> dict[str, Any]:
    kinds = [kind for kind in ("interval", "crontab", "solar", "clocked") if getattr(theirs, kind) is not None]
    if len(kinds) != 1:
        raise CannotMap(
            f"it has {len(kinds)} schedules ({', '.join(kinds)}), and must have one" if kinds else "it has no schedule"
        )
    kind = kinds[0]
    said = getattr(theirs, kind)
    if kind == "interval":
        return {"kind": kind, "every": said["every"], "period": said["period"]}
    if kind == "crontab":
        fields = {name: str(said[name]).replace(" ", "") for name in _FIELDS}
        return {"kind": kind, **fields, "timezone": said.get("timezone") or ""}
    if kind == "solar":
        place = {name: float(said[name]) for name in ("latitude", "longitude")}
        return {"kind": kind, "event": said["event"], **place}
    return {"kind": kind, "clocked": said["clocked_time"], "one_off": True}


def _json(task: Mapping[str, Any], name: str, kind: type) -> Any:
    try:
        found = json.loads(task.get(name) or ("[]" if kind is list else "{}"))
    except (ValueError, RecursionError) as error:
        raise CannotMap(f"its {name} are no JSON: {error}") from error
    if not isinstance(found, kind):
        raise CannotMap(f"its {name} are no {'list' if kind is list else 'object'}")
    return found


def _import(theirs: Theirs, *, disabled: bool, dry_run: bool) -> PeriodicTask:
    """The row, checked and, but for a dry run, stored with what it has done so far. Raises CannotMap."""
    values = ours(theirs)
    if disabled:
        values["enabled"] = False
    row = PeriodicTask(**values)
    try:
        # Texts become times, before anything compares them.
        row.clean_fields()
        with transaction.atomic(using=settings.DATABASE):
            row.full_clean()
            if not dry_run:
                row.save(using=settings.DATABASE)
                _carry_over(theirs, row)
    except ValidationError as error:
        raise CannotMap(
            "; ".join([f"{name}: {' '.join(said)}" for name, said in error.message_dict.items()])
        ) from error
    return row


def _carry_over(theirs: Theirs, row: PeriodicTask) -> None:
    """When it last ran there, and how often."""
    try:
        ran = Tick._meta.get_field("last_run_at").to_python(theirs.task.get("last_run_at"))
    except ValidationError:
        # A time that no calendar has says nothing.
        ran = None
    done = {"last_run_at": ran, "total_run_count": theirs.task.get("total_run_count") or 0}
    Tick.objects.using(settings.DATABASE).filter(periodic_task=row.pk).update(**done)


def _remarks(row: PeriodicTask) -> str:
    said = []
    if row.task not in tasks:
        said.append("no such task is registered here")
    if row.priority is not None:
        said.append(f"its priority {row.priority} is kept: higher numbers run first here")
    return f" ({'; '.join(said)})" if said else ""
