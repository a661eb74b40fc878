"""`djtasks list`: the queues, and what is in them."""

import argparse
from collections.abc import Mapping
from typing import Any

from djtasks.cli.output import Say, add_json, age, as_json, table
from djtasks.db import health, queues
from djtasks.db.connections import borrow
from djtasks.routing import known_queues

HELP = "List the queues that settings, workers and messages name: how much waits or runs, how old it is, who serves it."
#: No more of a queue is counted.
MOST = 100_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to list."""
    text = "Celery's word; both mean the queues, since nothing is bound to anything"
    parser.add_argument("what", nargs="?", choices=("bindings", "queues"), default="queues", help=text)
    add_json(parser)


def run(given: Mapping[str, Any], say: Say) -> int:
    """List them."""
    conn = borrow()
    served = health.served(conn)
    paused = queues.paused(conn)
    found = sorted({*known_queues(), *served, *paused, *health.filled(conn)})
    depths = queues.depths(conn, found, MOST)
    rows = [(name, depths[name].known, depths[name].oldest, served.get(name, 0), name in paused) for name in found]
    if given.get("json"):
        keys = ("queue", "messages", "oldest", "workers", "paused")
        say(as_json([dict(zip(keys, row, strict=True)) for row in rows]))
        return 0
    shown = [
        (name, f"{n:,}{'+' * (n >= MOST)}", age(old), by, "yes" * is_paused) for name, n, old, by, is_paused in rows
    ]
    say(table(("queue", "messages", "oldest", "workers", "paused"), shown))
    return 0
