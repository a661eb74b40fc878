"""`djtasks pause`: let no worker take anything from queues."""

import argparse
from collections.abc import Mapping
from typing import Any

from djtasks import queues
from djtasks.cli.exits import Usage
from djtasks.cli.output import Say, add_json, as_json, checked_queues
from djtasks.db import health
from djtasks.db import queues as table
from djtasks.db.connections import borrow
from djtasks.routing import known_queues

HELP = "Let no worker take anything from queues, until they are resumed. What runs goes on, what is called waits."


def add_queues(parser: argparse.ArgumentParser, every: str) -> None:
    """Which queues."""
    parser.add_argument("queues", nargs="*", metavar="QUEUE", help="the names of queues")
    parser.add_argument("--all", action="store_true", help=every)
    parser.add_argument("--by", default="", metavar="WHO", help="shown in the admin")
    add_json(parser)


def named(given: Mapping[str, Any]) -> list[str] | None:
    """The queues that were named; None for all. Raises Usage for neither, and for both."""
    wanted = given.get("queues") or []
    if bool(wanted) == bool(given.get("all")):
        raise Usage("name queues, or say --all")
    return checked_queues(wanted) if wanted else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which queues, and why."""
    add_queues(parser, "all that settings, workers, schedules and messages name, now or for later: after a restore")
    parser.add_argument("--note", default="", metavar="TEXT", help="shown in the admin")


def run(given: Mapping[str, Any], say: Say) -> int:
    """Pause them."""
    wanted = named(given)
    if wanted is None:
        conn = borrow()
        wanted = sorted({*known_queues(), *health.served(conn), *table.used(conn)})
    paused = queues.pause(*wanted, by=given.get("by") or "", note=given.get("note") or "")
    tell("Paused", paused, given, say)
    return 0


def tell(what: str, found: list[str], given: Mapping[str, Any], say: Say) -> None:
    """Say what has been done."""
    if given.get("json"):
        say(as_json({what.lower(): sorted(found)}))
    else:
        count = f"{len(found)} queue{'' if len(found) == 1 else 's'}"
        say(f"{what} {count}: {', '.join(sorted(found))}" if found else f"{what} no queue: they are so already")
