"""What is said of the scenarios: a table, and the page of the documentation that holds it."""

import platform
from collections.abc import Sequence
from importlib.metadata import version
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
    """The lines as a Markdown table that can also be read as it is."""
    lines = [HEAD, *((row.scenario.title, *row.cells) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]

    def drawn(line: Sequence[str]) -> str:
        first, *rest = zip(line, widths, strict=True)
        return f"| {first[0]:<{first[1]}} | " + " | ".join(f"{text:>{width}}" for text, width in rest) + " |"

    rule = (
        "|" + "|".join("-" * (width + 2) if not n else "-" * (width + 1) + ":" for n, width in enumerate(widths)) + "|"
    )
    return "\n".join([drawn(lines[0]), rule, *map(drawn, lines[1:])])


def surroundings(timing: Timing, server: str) -> str:
    """What it was measured on, in a sentence or two."""
    found = machine()
    return (
        f"{found['cores']} cores ({found['cpu']}), {found['memory_bytes'] / 2**30:.0f} GiB, {found['system']};"
        f" PostgreSQL {server} with fsync on; Python {platform.python_version()}, Django {version('django')}, psycopg"
        f" {version('psycopg')}. Two workers with {CHILDREN} children each; {timing.rate:g} calls a second; a heartbeat"
        f" every {timing.heartbeat:g} s, dead after {timing.dead_after:g} s."
    )


PAGE = """\
# Faults

What happens to tasks when something breaks, measured. `make chaos` does it again, and writes this page with
`ARGS="--write docs/explanation/faults.md"`.

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
    """The page of the documentation."""
    return PAGE.format(table=table(rows), surroundings="Measured on: " + surroundings(timing, server))
