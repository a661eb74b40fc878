"""What is said of the scenarios: a table, and the page of the documentation that holds it."""

import json
import platform
import textwrap
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine import machine
from tests.chaos.audit import Verdict
from tests.chaos.scenario import Scenario
from tests.chaos.site import Timing

HEAD = (
    "what is broken",
    "faults",
    "accepted",
    "ended",
    "lost",
    "stale",
    "in doubt",
    "late, run again",
    "early, run twice",
    "WorkerLostError",
    "of those never begun",
    "refused",
    "recovered in",
)


class Row(NamedTuple):
    """One scenario's line, what was wrong with it, and what else is to be said."""

    scenario: str
    title: str
    cells: tuple[str, ...]
    problems: list[str]
    notes: list[str]

    @staticmethod
    def as_text(rows: "Sequence[Row]", server: str) -> str:
        """The rows, and the server's version, as JSON."""
        return json.dumps({"server": server, "rows": rows})

    @classmethod
    def of_text(cls, text: str) -> "tuple[list[Row], str]":
        """The reverse of `as_text`."""
        found = json.loads(text)
        return [cls(name, title, tuple(cells), *rest) for name, title, cells, *rest in found["rows"]], found["server"]


def nothing(scenario: Scenario, why: str) -> Row:
    """A scenario that is not played, for this reason."""
    return Row(scenario.name, scenario.title, ("–",) * (len(HEAD) - 1), [], [why])


def row_of(scenario: Scenario, verdict: Verdict, refused: int, notes: Sequence[str]) -> Row:
    """The figures of a scenario."""
    figures = (
        len(verdict.faults),
        verdict.accepted,
        verdict.accepted - len(verdict.lost),
        len(verdict.lost),
        len(verdict.stale),
        verdict.doubt,
        verdict.runs_again,
        verdict.early_again,
        len(verdict.worker_lost),
        verdict.never_began,
        refused,
    )
    cells = (*(f"{figure:,}" for figure in figures), f"{verdict.recovery:.1f} s")
    return Row(scenario.name, scenario.title, cells, list(verdict.problems), list(notes))


def table(rows: Sequence[Row]) -> str:
    """The scenarios' lines."""
    return table_of([HEAD, *((row.title, *row.cells) for row in rows)])


def remarks(rows: Sequence[Row]) -> str:
    """What else is to be said: a line each, and one for all that were not played for the same reason."""
    found, reasons = [], defaultdict(list)
    for row in rows:
        if row.cells[0] == "–":
            reasons[row.notes[0]].append(row.title)
        elif row.notes or row.problems:
            found.append(f"- {row.title}: {'; '.join([*row.notes, *row.problems])}.")
    found += [f"- –, {why}: {'; '.join(titles)}." for why, titles in reasons.items()]
    return "\n".join(textwrap.fill(line, 120, subsequent_indent="  ") for line in found)


def table_of(lines: Sequence[Sequence[str]]) -> str:
    """Lines, the first of them a heading, as a Markdown table that can also be read as it is."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]

    def drawn(line: Sequence[str]) -> str:
        first, *rest = zip(line, widths, strict=True)
        return f"| {first[0]:<{first[1]}} | " + " | ".join(f"{text:>{width}}" for text, width in rest) + " |"

    rules = ["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]
    return "\n".join([drawn(lines[0]), f"|{'|'.join(rules)}|", *map(drawn, lines[1:])])


def surroundings_of(server: str) -> str:
    """What it was measured on, in a sentence."""
    found = machine()
    return (
        f"Measured on {found['cores']} cores ({found['cpu']}), {found['memory_bytes'] / 2**30:.0f} GiB,"
        f" {found['system']}; PostgreSQL {server} with fsync on; Python {platform.python_version()}, Django"
        f" {version('django')}, psycopg {version('psycopg')}."
    )


def surroundings(timing: Timing, server: str) -> str:
    """The same, and how the scenarios were played."""
    return (
        f"{surroundings_of(server)} Two workers; {timing.rate:g} calls a second, and bursts; {timing.seconds:g} s of"
        f" faults each; a heartbeat every {timing.heartbeat:g} s, dead after {timing.dead_after:g} s."
    )


TITLE = """\
# Faults and growth

What happens to tasks when something breaks, and what becomes of claims when tables grow, measured.

"""
#: Between the parts of the page: each is written by a program of its own.
MARK = "<!-- {} -->\n"
PARTS = ("faults", "pools", "growth", "monitor")
TEXT = """\
## Faults, at length

`make chaos` does it again with the pool prefork, for a minute each, and writes this part with
`ARGS="--write docs/explanation/faults.md"`. This was played {day}, with two children in each of two workers.

A producer enqueues at a steady pace, in all modes, in transactions that commit and in some that roll back; two workers
run the tasks, half of which have early acks and half late ones, some of them retried, delayed, or without a result.
Meanwhile something is broken over and over. What was accepted and each run that began are written to files outside of
the database; in the end both are compared with what is stored.

{table}

- **lost**: accepted, and not ended. **stale**: a stored result that is no run's own, that came from a worker which had
  already been declared dead, or that replaced another.
- **in doubt**: what the broken part had in its hands at that moment, counted in the tables while it stood still: a
  child, the task it ran; a worker, all that it had claimed and not yet finished. Where nothing is in doubt, nothing may
  run again and nothing may end as `WorkerLostError`.
- **late, run again** and **WorkerLostError**: what became of it. With late acks it runs again, which is a second run
  only if it had begun; with early acks it ends as `WorkerLostError`, and never begins a second time.
- **refused**: outcomes that a fence has kept out, since their message had become another worker's.
- **recovered in**: the longest time from a fault (from the moment when the server is back, where the server was away)
  until everything had ended that was accepted before it.

{surroundings}
"""


POOLS_TEXT = """\
## Faults, with every pool

`make chaos ARGS="--pool all --middle --write docs/explanation/faults.md"` does it again and writes this part: the
scenarios for a few seconds each, with every pool. This was played {day}. Prefork, threads and solo run two,
two and one task at a time in each of two workers; the crowds (gevent, eventlet, asyncio) eight, in one child process;
under asyncio four of five tasks are coroutines. The columns are those above. Added to the scenarios above are:

- **very many workers started at once**, and ended at once;
- **a child's memory limited**: tasks keep memory for ever under `--max-memory-per-child`, others want more than
  `RLIMIT_AS` leaves, and now and then the largest child is killed, as a kernel that is out of memory does;
- **one queue flooded**: the other one's tasks are begun within 2 s (p99);
- **commands while every slot is taken**: all workers answer within 2 s, though no slot is free;
- **the disk of the tables full**: they lie on a small file system of their own, which is filled to the last byte, so
  that PostgreSQL answers `No space left on device`; its log of changes (WAL) lies elsewhere, since a server that cannot
  write that stops: what happens then, the lines of the server stopped and away show;
- **TERM while the server is away**: the workers end within bounds, and what they held goes on in others;
- **a rolling upgrade**: the sources before the last migration, from the history, run workers and the site; the tables
  are migrated under them; workers are replaced one by one; then a migration of a release to come is played.

{tables}

{surroundings}
"""


def page(part: str, found: Mapping[str, Sequence[Row]], timing: Timing, server: str) -> str:
    """The page's part about faults: of one pool, at length, or of several."""
    around = textwrap.fill(surroundings(timing, server), 120)
    day = time.strftime("on %Y-%m-%d", time.gmtime())
    if part == "faults":
        (rows,) = found.values()
        return TEXT.format(table=f"{table(rows)}\n\n{remarks(rows)}".strip(), surroundings=around, day=day)
    tables = "\n\n".join(f"### {pool}\n\n{table(rows)}\n\n{remarks(rows)}".strip() for pool, rows in found.items())
    return POOLS_TEXT.format(tables=tables, surroundings=around, day=day)


def rewrite(path: Path, part: str, text: str) -> None:
    """Put a part into the page; the others stay as they are."""
    before = path.read_text() if path.exists() else ""
    kept = {}
    for each in PARTS:
        _, found, rest = before.partition(MARK.format(each))
        for other in PARTS:
            rest = rest.partition(MARK.format(other))[0]
        kept[each] = rest.strip() if found else ""
    kept[part] = text.strip()
    path.write_text(TITLE + "\n".join(f"{MARK.format(each)}\n{kept[each]}\n" for each in PARTS if kept[each]))
