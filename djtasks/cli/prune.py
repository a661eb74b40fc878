"""`djtasks prune`: delete now what workers delete by and by."""

import argparse
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import psycopg

from djtasks.cli.exits import Usage
from djtasks.cli.output import Say, add_json, as_json
from djtasks.conf import settings
from djtasks.db import beats, control, groups, results, revocations, uniques
from djtasks.db.connections import open_private

HELP = "Delete results, dead letters, revocations, commands and saved groups whose time is over. Workers do, too."
_BATCH = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How old."""
    add = parser.add_argument
    add("--results", type=float, metavar="SECONDS", help="results that ended longer ago (default: RESULT_EXPIRES)")
    add("--dead", type=float, metavar="SECONDS", help="dead letters older than this (default: DEAD_LETTER_EXPIRES)")
    add_json(parser)


def run(given: Mapping[str, Any], say: Say) -> int:
    """Delete it, in small transactions; says how many of each. Raises Usage."""
    ages = {
        "results": _age("--results", given.get("results"), settings.RESULT_EXPIRES),
        "dead": _age("--dead", given.get("dead"), settings.DEAD_LETTER_EXPIRES),
    }
    counts: dict[str, int] = {}
    with open_private("prune") as conn:
        for name, prune in (("results", results.prune), ("dead", results.prune_dead)):
            age = ages[name]
            counts[name] = 0 if age is None else _all(lambda age=age, prune=prune: prune(conn, age, _BATCH))  # type: ignore[misc]
        counts |= _others(conn)
    if given.get("json"):
        say(as_json(counts))
    else:
        words = {"dead": "dead letters"}
        say("Deleted " + ", ".join(f"{count:,} {words.get(name, name)}" for name, count in counts.items()))
    return 0


def _others(conn: psycopg.Connection) -> dict[str, int]:
    keep = settings.COMMAND_EXPIRES.total_seconds()
    silent = max(settings.WORKER_DEAD_AFTER, 10 * settings.WORKER_HEARTBEAT_INTERVAL)
    return {
        "revocations": revocations.prune(conn),
        "commands": _all(lambda: control.prune(conn, keep, _BATCH)),
        "groups": _all(lambda: groups.prune(conn, _BATCH)),
        "aliases": _all(lambda: uniques.prune_aliases(conn, _BATCH)),
        "beats": len(beats.prune(conn, silent)),
    }


def _all(prune: Callable[[], int]) -> int:
    """How many there were, a batch at a time."""
    total = 0
    while True:
        found = prune()
        total += found
        if found < _BATCH:
            return total


def _age(option: str, said: float | None, setting: timedelta | None) -> float | None:
    if said is None:
        return None if setting is None else setting.total_seconds()
    if not 0 <= said <= 1e11:
        raise Usage(f"{option} must be a number of seconds, not {said}")
    return said
