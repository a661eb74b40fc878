"""What is said of the scenarios: a table, and the page of the documentation that holds it."""

import platform
import textwrap
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine import machine
from tests.chaos.audit import Verdict
from tests.chaos.scenarios import Scenario
from tests.chaos.site import CHILDREN, Timing

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
    """One scenario's line, and what was wrong with it."""

    scenario: Scenario
    cells: tuple[str, ...]
    problems: list[str]


def row_of(scenario: Scenario, verdict: Verdict, refused: int) -> Row:
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
    return Row(scenario, cells, list(verdict.problems))


def table(rows: Sequence[Row]) -> str:
    """The scenarios' lines."""
    return table_of([HEAD, *((row.scenario.title, *row.cells) for row in rows)])


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
        f"{surroundings_of(server)} Two workers with {CHILDREN} children each; {timing.rate:g} calls a second, and"
        f" bursts; a heartbeat every {timing.heartbeat:g} s, dead after {timing.dead_after:g} s."
    )


TITLE = """\
# Faults and growth

What happens to tasks when something breaks, and what becomes of claims when tables grow, measured.

"""
#: Between the parts of the page: each is written by a program of its own.
MARK = "<!-- {} -->\n"
PARTS = ("faults", "growth")
TEXT = """\
## Faults

`make chaos` does it again, and writes this part with `ARGS="--write docs/explanation/faults.md"`.

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


def page(rows: Sequence[Row], timing: Timing, server: str) -> str:
    """The page's part about faults."""
    return TEXT.format(table=table(rows), surroundings=textwrap.fill(surroundings(timing, server), 120))


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
