"""One run: everything that was asked for, as often as was asked for, and what became of it."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.against.celery import CELERY, Rival, celery
from benchmarks.against.redis import find_redis, redis_version
from benchmarks.against.workflows import WORKFLOWS as RIVALS
from benchmarks.bench import Bench
from benchmarks.ceiling import BATCH, CLIENTS, ceiling
from benchmarks.figures import FIGURES, Measured, Samples
from benchmarks.machine import machine, sizes, versions
from benchmarks.options import Options
from benchmarks.phases import CHILDREN, DJTASKS
from benchmarks.processes import Processes
from benchmarks.screen import Screen
from benchmarks.site import Site
from benchmarks.tenants import TENANTS
from benchmarks.ticks import TICKS
from benchmarks.timing import BenchmarkError, Deadline
from benchmarks.wal import WAL
from benchmarks.workflows import WORKFLOWS

#: What may go wrong with one phase without being a fault of the benchmarks; the other phases go on.
EXPECTED = (BenchmarkError, OSError, psycopg.Error)


ALL = {**DJTASKS, **WORKFLOWS, **TICKS, **TENANTS, **WAL}


class Run:
    """The site, the phases and their samples. Enter it to have a server, leave it to have nothing left."""

    def __init__(self, options: Options, screen: Screen, folder: Path) -> None:
        self.options = options
        self.screen = screen
        self.samples = Samples()
        #: What could not be measured, and why.
        self.failures: dict[str, str] = {}
        self.processes = Processes(folder)
        self._stack = ExitStack()
        self._rival: Rival | None = None
        self._machine = machine()

    def __enter__(self) -> "Run":
        self.screen.say("Starting PostgreSQL and making the tables")
        self.site = Site(self.options.server)
        self._stack.callback(self.site.close)
        with ExitStack() as undo:
            undo.callback(self._stack.close)
            self.site.prepare()
            self.site.limit(self.options.deadline)
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def facts(self) -> dict[str, Any]:
        """What was measured, when and on what."""
        options = self.options
        found: dict[str, Any] = {
            "taken": datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
            "quick": options.quick,
            "machine": self._machine,
            "versions": versions(self.site),
            "server": self.site.settings(),
            "sizes": sizes(),
            "work": {
                "tasks": options.tasks,
                "one by one": options.single,
                "pick-ups": options.pickups,
                "links of a chain": options.links,
                "members of a chord": options.members,
                "members of a group": options.grouped,
                "seconds of one-second schedules": options.ticks,
                "tasks of a flood": options.flood,
                "tasks before weighing": options.weighed,
                "children": CHILDREN,
                "repeats": options.repeat,
            },
        }
        if options.sql:
            found["sizes"] |= {"messages of one claim by SQL alone": BATCH, "clients of SQL alone": CLIENTS}
        if self._rival is not None:
            found["versions"] |= self._rival.call(self._bench(), "versions")
            found["versions"]["redis-server"] = redis_version(find_redis())
            found["work"]["tasks on Celery"] = options.rival
        return found

    def meet_celery(self) -> None:
        """Make Celery ready. What is missing is a failure, and the rest goes on without it."""
        try:
            find_redis()
            self._rival = self._stack.enter_context(celery(self._bench()))
        except EXPECTED as error:
            self._fail("Celery", error)

    def measure(self) -> None:
        """All phases, round by round, so that a machine that slows down slows all sides."""
        for number in range(1, self.options.repeat + 1):
            mark = f"[{number}/{self.options.repeat}] " if self.options.repeat > 1 else ""
            for name in self.options.only:
                title, phase = ALL[name]
                self._one(mark + title, "djtasks", phase)
            if self.options.sql:
                self._one(f"{mark}SQL alone", "sql", ceiling)
            if self._rival is not None:
                self._all_of_celery(mark, self._rival)

    def _all_of_celery(self, mark: str, rival: Rival) -> None:
        for side, title, phase in (*CELERY, *RIVALS):

            def bound(bench: Bench, phase: Callable[[Bench, Rival], Measured] = phase) -> Measured:
                return phase(bench, rival)

            self._one(mark + title, side, bound)

    def _bench(self) -> Bench:
        return Bench(self.site, self.processes, self.options, self.screen, Deadline(self.options.deadline))

    def _one(self, title: str, side: str, phase: Callable[[Bench], Measured]) -> None:
        self.screen.start(title)
        try:
            measured = phase(self._bench())
        except EXPECTED as error:
            self._fail(title, error)
        else:
            self.samples.add(side, measured)
            self.screen.finish(summary(measured))

    def _fail(self, title: str, error: Exception) -> None:
        self.failures[title] = str(error) or repr(error)
        self.screen.say(f"{title}: not measured: {self.failures[title]}")


def summary(measured: Mapping[str, float]) -> str:
    """The figures of one phase in a line."""
    known = {figure.key: figure for figure in FIGURES}
    return ", ".join(
        f"{figure.brief} {measured[key]:,.{figure.digits}f} {figure.unit}".strip()
        for key, figure in known.items()
        if key in measured
    )
