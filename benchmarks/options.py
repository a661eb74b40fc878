"""The command line, and the amounts of work that follow from it."""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.servers import chosen

RESULTS = Path(__file__).resolve().parent / "results"
#: What `--only` chooses from, in the order in which it is measured.
PHASES = ("single", "bulk", "drain", "info", "pickup", "memory", "chain", "chord", "group", "beat", "tenants", "wal")


class Options(NamedTuple):
    """What to measure, and how much of it."""

    #: Tasks of a drain, and of an enqueue in bulk.
    tasks: int
    #: Tasks that are enqueued one by one.
    single: int
    #: Samples of the pick-up latency.
    pickups: int
    #: Tasks that a worker has run when it is weighed.
    weighed: int
    #: Tasks of each of Celery's phases, of which there are an order of magnitude less.
    rival: int
    #: Links of a chain, members of a chord's header, on both sides; and members of a group.
    links: int
    members: int
    grouped: int
    #: Seconds for which one-second schedules are watched.
    ticks: int
    #: Tasks with which one tenant floods its queue.
    flood: int
    repeat: int
    only: tuple[str, ...]
    celery: bool
    sql: bool
    quick: bool
    server: str
    #: Seconds that one phase may take.
    deadline: float
    json: Path


def parse(arguments: Sequence[str] | None = None) -> Options:
    """The options that were given."""
    given = _parser().parse_args(arguments)
    tasks = given.tasks or (2_000 if given.quick else 50_000)
    now = datetime.now(UTC).astimezone()
    return Options(
        tasks=tasks,
        single=max(20, tasks // 10),
        pickups=30 if given.quick else 300,
        weighed=min(tasks, 10_000) if given.quick else 10_000,
        rival=max(100, tasks // 10),
        links=max(50, tasks // 50),
        members=max(100, tasks // 5),
        grouped=2 * tasks,
        ticks=2 if given.quick else 20,
        flood=2_000 if given.quick else 100_000,
        repeat=given.repeat,
        only=given.only,
        celery=given.against == "celery",
        sql=given.sql,
        quick=given.quick,
        server=given.server,
        deadline=given.deadline,
        json=given.json or RESULTS / f"{now:%Y-%m-%d-%H%M%S}.json",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure djtasks on this machine.")
    add = parser.add_argument
    add("--tasks", type=_positive, metavar="N", help="tasks to drain (default: 50,000; with --quick 2,000)")
    add("--quick", action="store_true", help="small amounts: shows that it works, its figures say little")
    add("--repeat", type=_positive, metavar="K", default=1, help="measure everything K times and take the medians")
    add("--only", type=_phases, metavar="A,B", default=PHASES, help=f"only these of djtasks: {', '.join(PHASES)}")
    add("--against", choices=("celery",), help="the same work on Celery with Redis; needs redis-server")
    add("--sql", action="store_true", help="the ceiling: the same rows by SQL alone, without tasks")
    add("--json", type=Path, metavar="FILE", help="where to write the figures (default: benchmarks/results/)")
    add("--server", metavar="PLACE", default=chosen(), help="embedded, or a folder with PostgreSQL's programs")
    add("--deadline", type=float, metavar="SECONDS", default=180.0, help="give a phase up after so long (default: 180)")
    return parser


def _positive(text: str) -> int:
    number = int(text.replace("_", "").replace(",", ""))
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


def _phases(text: str) -> tuple[str, ...]:
    wanted = {name.strip() for name in text.split(",") if name.strip()}
    if unknown := wanted.difference(PHASES):
        raise argparse.ArgumentTypeError(f"there is no {', '.join(sorted(unknown))}; choose from {', '.join(PHASES)}")
    return tuple(name for name in PHASES if name in wanted)
