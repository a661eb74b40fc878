"""`djtasks purge`: throw away what waits."""

import argparse
from collections.abc import Mapping
from typing import Any

from djtasks import control
from djtasks.cli.exits import EX_FAILURE
from djtasks.cli.output import Say, add_json, as_json, checked_queues, names
from djtasks.routing import known_queues

HELP = "Throw away what waits in queues, now or for later. What runs goes on."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Celery's options."""
    add = parser.add_argument
    add("-f", "--force", action="store_true", help="do not ask first")
    add("-Q", "--queues", type=names, metavar="A,B", help="these queues (default: TASK_QUEUES)")
    add("-X", "--exclude-queues", type=names, default=[], metavar="A,B", help="all but these")
    add_json(parser)


def run(given: Mapping[str, Any], say: Say) -> int:
    """Throw it away; asks first, unless forced."""
    wanted = checked_queues(given.get("queues") or known_queues())
    queues = [name for name in wanted if name not in (given.get("exclude_queues") or ())]
    if queues and not given.get("force") and not _agreed(queues):
        say("Nothing was thrown away; --force does not ask.")
        return EX_FAILURE
    count = control.purge(queues) if queues else 0
    if given.get("json"):
        say(as_json({"purged": count, "queues": queues}))
    else:
        said = f"{len(queues)} queue{'' if len(queues) == 1 else 's'}: {', '.join(queues) or '-'}"
        say(f"Purged {count:,} message{'' if count == 1 else 's'} from {said}" if count else f"No messages in {said}")
    return 0


def _agreed(queues: list[str]) -> bool:
    try:
        return input(f"Throw away all that waits in {', '.join(queues)}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
