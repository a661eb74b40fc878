"""`djtasks result`: what became of a task."""

import argparse
import time
from collections.abc import Mapping
from typing import Any

from djtasks.cli.exits import EX_FAILURE, EX_OK, Unavailable, Usage
from djtasks.cli.output import Say, add_json, as_json
from djtasks.db import requeue as table
from djtasks.db.connections import borrow
from djtasks.exceptions import safe_repr
from djtasks.ids import as_task_id
from djtasks.result import AsyncResult
from djtasks.states import PENDING, READY_STATES, SUCCESS

HELP = "Wait for the end of a task, and say what it returned. It fails when the task did."
#: How often it looks, in seconds.
_LOOK_EVERY = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Celery's options, and how long to wait."""
    add = parser.add_argument
    add("task_id", metavar="ID", help="the task's id")
    add("-t", "--task", metavar="NAME", help="accepted, and not needed: a result knows its task")
    add("--traceback", action="store_true", dest="only_traceback", help="say only the traceback of one that failed")
    add("--timeout", type=float, metavar="SECONDS", help="wait no longer; 0: do not wait (default: wait for ever)")
    add_json(parser)


def run(given: Mapping[str, Any], say: Say) -> int:
    """Say it. Raises Usage for what can be no id, Unavailable for one that nobody knows or that does not end."""
    try:
        result: AsyncResult[Any] = AsyncResult(as_task_id(given["task_id"]))
    except (TypeError, ValueError) as error:
        raise Usage(str(error)) from None
    timeout = given.get("timeout")
    state = _ended(result, None if timeout is None else time.monotonic() + timeout)
    value = result.result
    good = state == SUCCESS
    if given.get("json"):
        shown = value if good else f"{type(value).__name__}: {value}"
        said = {"id": result.id, "state": state, "result": shown, "traceback": result.traceback}
        say(as_json(said))
    elif given.get("only_traceback"):
        say(result.traceback or "")
    elif good:
        say(value if isinstance(value, str) else safe_repr(value))
    else:
        say(f"{state}: {type(value).__name__}: {value}")
    return EX_OK if good else EX_FAILURE


def _ended(result: AsyncResult[Any], deadline: float | None) -> str:
    """Its state once it has ended."""
    while True:
        # In this order: a task that ends meanwhile is seen by the second look.
        waits = table.waiting(borrow(), [result.id])
        state = result.state
        if state in READY_STATES or (not waits and state != PENDING):
            return state
        if not waits:
            raise Unavailable(
                f"nobody knows a task {result.id}: it was never called, or has ended without a result, or its result"
                " is past RESULT_EXPIRES"
            )
        if deadline is not None and time.monotonic() >= deadline:
            raise Unavailable(f"the task {result.id} has not ended; it is {state}")
        time.sleep(_LOOK_EVERY)
