"""`djtasks requeue`: run tasks again that have ended, by their ids or by what they are."""

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, LiteralString

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from djtasks import requeue
from djtasks.cli.exits import EX_FAILURE, EX_OK, Usage
from djtasks.cli.output import Say, add_json, as_json
from djtasks.db import requeue as table
from djtasks.db.connections import borrow
from djtasks.db.requeue import Found

HELP = "Run tasks again that have ended, each under its own id: by id, or all that failed or are dead letters."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which ones."""
    add = parser.add_argument
    add("ids", nargs="*", metavar="ID", help="these tasks")
    add("--dead", action="store_true", help="all dead letters")
    add("--failed", action="store_true", help="all that ended in FAILURE")
    add("--task", metavar="NAME", help="with --dead, --failed: only of this task")
    add("--queue", metavar="QUEUE", help="with --dead, --failed: only of this queue")
    add("--since", metavar="TIME", help="with --dead, --failed: only those that ended then or later: ISO 8601")
    add("--until", metavar="TIME", help="with --dead, --failed: only those that ended before")
    add("--limit", type=int, metavar="N", help="with --dead, --failed: no more than so many, the oldest first")
    add("-n", "--dry-run", action="store_true", help="only say which ones")
    add_json(parser)


def run(given: Mapping[str, Any], say: Say) -> int:
    """Run them again, and say what became of them; 1 when one of those that were named does not run again."""
    ids = given.get("ids") or []
    filtered = bool(given.get("dead") or given.get("failed"))
    if bool(ids) == filtered:
        raise Usage("name tasks by their ids, or give --dead or --failed; not both" if ids else _NOTHING)
    filters = [option for option in ("task", "queue", "since", "until", "limit") if given.get(option) is not None]
    if ids and filters:
        raise Usage(f"--{filters[0]} chooses among --dead or --failed, not among ids")
    answers: dict[str, str] = {}
    for part in [ids] if ids else _parts(given):
        if given.get("dry_run"):
            answers.update(dict.fromkeys(part, "would be requeued"))
            continue
        try:
            answers.update(requeue.requeue(part))
        except (TypeError, ValueError) as error:
            raise Usage(str(error)) from None
    if given.get("json"):
        say(as_json(answers))
    else:
        _tell(answers, bool(ids or given.get("dry_run")), say)
    good = {requeue.REQUEUED, requeue.HURRIED, "would be requeued"}
    return EX_OK if not ids or set(answers.values()) <= good else EX_FAILURE


_NOTHING = "say which: ids, or --dead or --failed with --task, --queue, --since, --until"


def _tell(answers: Mapping[str, str], each: bool, say: Say) -> None:
    if each:
        for task_id, what in answers.items():
            say(f"{task_id}: {what}")
    counts = Counter(answers.values())
    say(", ".join(f"{count:,} {what}" for what, count in counts.most_common()) or "There is none.")


def _parts(given: Mapping[str, Any]) -> Iterator[list[str]]:
    """The ids, a batch at a time. What fails again meanwhile is not found a second time."""
    conn = borrow()
    left = given.get("limit")
    if left is not None and left < 1:
        raise Usage(f"--limit must be at least 1, not {left}")
    since, until = _time(given, "since"), _time(given, "until") or table.now(conn)
    kinds: list[LiteralString] = [table.DEAD] * bool(given.get("dead")) + [table.FAILED] * bool(given.get("failed"))
    for kind in kinds:
        after: Found | None = None
        while left is None or left > 0:
            most = requeue.BATCH if left is None else min(left, requeue.BATCH)
            found = table.find(conn, kind, since, until, given.get("task"), given.get("queue"), after, most)
            if not found:
                break
            after = found[-1]
            left = None if left is None else left - len(found)
            yield [each.id for each in found]


def _time(given: Mapping[str, Any], option: str) -> str | None:
    text = given.get(option)
    if text is None:
        return None
    try:
        found: datetime | None = parse_datetime(text)
    except ValueError:
        found = None
    if found is None:
        raise Usage(f"--{option} must be a time as 2031-01-31T09:30:00+01:00, not {text!r}")
    return (found if timezone.is_aware(found) else timezone.make_aware(found)).isoformat()
