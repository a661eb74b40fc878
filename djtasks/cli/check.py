"""`djtasks check`: one statement and an exit code, for probes."""

import argparse
import math
import socket
from collections.abc import Mapping
from typing import Any

from djtasks.cli.exits import EX_OK, EX_UNAVAILABLE, Usage
from djtasks.cli.output import Say, add_json, as_json, checked_queues, names
from djtasks.conf import settings
from djtasks.db import health
from djtasks.db.connections import borrow
from djtasks.routing import known_queues
from djtasks.worker.identity import node_name

HELP = "Whether workers and beats live and queues are emptied in time: exits 0, or 69. For probes; it is one SELECT."
#: `--worker` without a name: one of this machine.
HERE, ANY = "here", "any"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to look at."""
    add = parser.add_argument
    add(
        "--worker",
        nargs="?",
        const=HERE,
        metavar="NODE",
        help="a worker lives: that of this name (%%h host, %%n its name, %%d its domain), 'any', or, without a name,"
        " one on this host",
    )
    add("--beat", action="store_true", help="a beat lives, anywhere")
    add("--queue-age", type=float, metavar="SECONDS", help="nothing that might run has waited longer than this")
    add("-Q", "--queues", type=names, metavar="A,B", help="in these queues (default: TASK_QUEUES)")
    add("--max-age", type=float, metavar="SECONDS", help="how old a heartbeat may be (default: WORKER_DEAD_AFTER)")
    add_json(parser)


def run(given: Mapping[str, Any], say: Say) -> int:
    """Look, and say how it stands. Raises Usage."""
    worker, longest, oldest = given.get("worker"), given.get("queue_age"), given.get("max_age")
    if worker is None and not given.get("beat") and longest is None:
        raise Usage("say what to check: --worker, --beat, --queue-age SECONDS, or several of them")
    for option, number in (("--queue-age", longest), ("--max-age", oldest)):
        if number is not None and not (math.isfinite(number) and number >= 0):
            raise Usage(f"{option} must be a number of seconds, not {number}")
    queues = checked_queues(given.get("queues") or known_queues()) if longest is not None else []
    node = None if worker in (None, HERE, ANY) else node_name(worker)
    found = health.health(borrow(), node, socket.gethostname() if worker == HERE else None, queues)
    limit = settings.WORKER_DEAD_AFTER if oldest is None else oldest
    verdicts: list[tuple[str, bool, str]] = []
    if worker is not None:
        verdicts.append(("worker", *_beating(found.worker, limit)))
    if given.get("beat"):
        verdicts.append(("beat", *_beating(found.beat, limit)))
    if longest is not None:
        waited = max(0.0, found.queue or 0.0)
        verdicts.append(("queue-age", waited <= longest, f"{waited:.1f} s, at most {longest:g} s"))
    good = all(fine for _, fine, _ in verdicts)
    if given.get("json"):
        ages = {"worker": found.worker, "beat": found.beat, "queue-age": found.queue}
        say(as_json({"ok": good, **{name: {"ok": fine, "seconds": ages[name]} for name, fine, _ in verdicts}}))
    else:
        for name, fine, text in verdicts:
            say(f"{name}: {'OK' if fine else 'FAILED'} ({text})")
    return EX_OK if good else EX_UNAVAILABLE


def _beating(age: float | None, limit: float) -> tuple[bool, str]:
    if age is None:
        return False, "there is none"
    return age <= limit, f"its last heartbeat was {max(0.0, age):.1f} s ago, at most {limit:g} s"
