"""`djtasks call`: enqueue a task by its name."""

import argparse
import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from djtasks.appstate import current_app
from djtasks.cli.exits import Unavailable, Usage
from djtasks.cli.output import Say, add_json, as_json, chosen
from djtasks.exceptions import DjtasksError, OperationalError

HELP = "Call a task by its name, and say its id."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Celery's options of a call."""
    add = parser.add_argument
    add("name", metavar="NAME", help="the task's name")
    add("-a", "--args", dest="call_args", metavar="JSON", help="its positional arguments: a JSON array")
    add("-k", "--kwargs", dest="call_kwargs", metavar="JSON", help="its keyword arguments: a JSON object")
    add("--eta", metavar="TIME", help="run not before then: ISO 8601; without an offset it is in TIME_ZONE")
    add("--countdown", type=float, metavar="SECONDS", help="run not before so many seconds from now")
    add("--expires", metavar="TIME", help="revoke it then: seconds from now, or ISO 8601")
    add("--priority", type=int, metavar="N", help="higher runs first")
    add("--serializer", metavar="NAME", help="the serializer of its arguments")
    add("--queue", metavar="QUEUE", help="the queue (default: as it is routed)")
    add("--exchange", metavar="NAME", help="the queue, where --queue is not given, as in Celery's routes")
    add("--routing-key", metavar="KEY", help="as in Celery's routes")
    add("--task-id", metavar="ID", help="its id (default: a new one)")
    add_json(parser)


def run(given: Mapping[str, Any], say: Say) -> int:
    """Enqueue it. Raises Usage for what is no call, Unavailable when the database cannot be reached."""
    args, kwargs = _json(given, "args", list), _json(given, "kwargs", dict)
    keys = ("countdown", "priority", "serializer", "queue", "exchange", "routing_key", "task_id")
    options: dict[str, Any] = chosen(given, keys)
    if given.get("eta"):
        options["eta"] = _time("--eta", given["eta"])
    if given.get("expires"):
        options["expires"] = _expiry(given["expires"])
    try:
        made = current_app.send_task(given["name"], args, kwargs, **options)
    except OperationalError as error:
        raise Unavailable(f"the task was not enqueued: {error}") from error
    except (DjtasksError, TypeError, ValueError, OverflowError) as error:
        raise Usage(f"the task was not enqueued: {error}") from error
    say(as_json({"id": made.id, "name": given["name"]}) if given.get("json") else made.id)
    return 0


def _json(given: Mapping[str, Any], option: str, kind: type) -> Any:
    text = given.get(f"call_{option}")
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Usage(f"--{option} must be JSON: {error}") from None
    if not isinstance(found, kind):
        wanted = "an array, as [1, 2]" if kind is list else 'an object, as {"n": 1}'
        raise Usage(f"--{option} must be {wanted}, not {text}")
    return found


def _time(option: str, text: str) -> datetime:
    try:
        found = parse_datetime(text)
    except ValueError as error:
        raise Usage(f"{option} {text}: {error}") from None
    if found is None:
        raise Usage(f"{option} must be a time as 2031-01-31T09:30:00+01:00, not {text!r}")
    return found if timezone.is_aware(found) else timezone.make_aware(found)


def _expiry(text: str) -> datetime | float:
    try:
        seconds = float(text)
    except ValueError:
        return _time("--expires", text)
    if not math.isfinite(seconds):
        raise Usage(f"--expires must be a number of seconds or a time, not {text}")
    return seconds
