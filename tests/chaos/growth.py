"""Growth: claims, drains and pages beside millions of rows that have nothing to do with them.

    python -m tests.chaos.growth [--quick] [--write FILE]

Each case has the same messages to drain as the small one, and something more. What is measured, in each: how long a
claim of fifty takes, how many tasks a second a worker drains, and how long the pages of the admin take.
"""

import argparse
import os
import statistics
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import django
import psycopg

from tests.chaos.pages import page_times, visitor
from tests.chaos.report import rewrite, surroundings_of, table_of
from tests.chaos.rows import Rows
from tests.chaos.site import CHILDREN, Site, site
from tests.chaos.steps import claim_times
from tests.servers import chosen
from tests.waits import wait_until
from tests.worker.running import Workers

QUEUE = "work"
COUNTERS = """
    SELECT coalesce((counters ->> 'SUCCESS')::bigint, 0), extract(epoch FROM heartbeat)::float8 FROM djtasks_worker
    WHERE pid = %s
"""
DEAD = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'djtasks_message'"
HEAD = ("case", "claim p50", "claim p99", "drained", "messages page", "results page")
TEXT = """\
## Growth

The same work beside very many other rows. Each case has {base:,} messages to drain, and what it says besides; the rows
are made by SQL, then vacuumed and analysed, as autovacuum does in time. A **claim** takes fifty messages, in one
session that finishes them, too, before the next; **drained** is a worker with {children} children and tasks that do
nothing, results stored; the **pages** are the admin's lists of messages and of results, opened by a superuser (median).

{table}

{surroundings}

`python -m tests.chaos.growth --write docs/explanation/faults.md` measures it again.
"""


class Sizes(NamedTuple):
    """How much of everything."""

    base: int
    waiting: int
    delayed: int
    queues: int
    results: int
    #: How long a transaction is held open under load before it is measured, in seconds.
    held: float
    claims: int
    drain: float


FULL = Sizes(150_000, 1_000_000, 200_000, 1_000, 10_000_000, 180.0, 400, 10.0)
QUICK = Sizes(40_000, 100_000, 20_000, 100, 1_000_000, 15.0, 200, 5.0)


class Case(NamedTuple):
    """One line of the table."""

    title: str
    claims: list[float]
    drained: float
    messages_page: float
    results_page: float

    @property
    def cells(self) -> tuple[str, ...]:
        """The figures, as they are shown."""
        p50, p99 = statistics.median(self.claims), statistics.quantiles(self.claims, n=100)[98]
        times = (p50, p99)
        return (
            self.title,
            *(f"{1000 * each:.1f} ms" for each in times),
            f"{self.drained:,.0f}/s",
            *(f"{1000 * each:.0f} ms" for each in (self.messages_page, self.results_page)),
        )


class Growth:
    """Measures one case after another, in one database."""

    def __init__(self, ground: Site, sizes: Sizes) -> None:
        self.ground = ground
        self.sizes = sizes
        self.conn = psycopg.connect(ground.url, autocommit=True, application_name="growth")
        # What is loaded need not survive a crash; what is measured is not written through this session.
        self.conn.execute("SET synchronous_commit = off")
        self.rows = Rows(self.conn, say)
        self.workers = Workers(ground.folder, ground.url)
        self.visitor = visitor()

    def run(self) -> Iterator[Case]:
        """All cases."""
        sizes = self.sizes
        for title, more in self.cases():
            say(title)
            self.rows.clear()
            more()
            self.rows.messages(sizes.base)
            self.rows.tidy()
            yield self.measure(title)
        names = [f"{QUEUE}{number}" for number in range(sizes.queues)]
        title = f"{sizes.queues:,} queues, a worker for all of them"
        say(title)
        self.rows.clear()
        self.rows.messages(sizes.base, queues=sizes.queues)
        self.rows.tidy()
        yield self.measure(title, names)
        title = f"a transaction held open for {sizes.held:,.0f} s, under load"
        say(title)
        with self.held_open():
            yield self.measure(title)

    def cases(self) -> list[tuple[str, Callable[[], None]]]:
        """What there is besides the work itself."""
        sizes, rows = self.sizes, self.rows
        return [
            ("small", lambda: None),
            (f"{sizes.waiting:,} more in the same queue", lambda: rows.messages(sizes.waiting)),
            (f"{sizes.delayed:,} delayed, same queue", lambda: rows.messages(sizes.delayed, delayed=True)),
            (
                f"{sizes.queues:,} other queues, with {sizes.delayed:,}",
                lambda: rows.messages(sizes.delayed, "other", queues=sizes.queues),
            ),
            (f"{sizes.results:,} results", lambda: rows.results(sizes.results)),
        ]

    @contextmanager
    def held_open(self) -> Iterator[None]:
        """Keep a snapshot for a while during which a worker drains, and until the end of the block."""
        self.rows.clear()
        self.rows.tidy()
        worker = self.start([QUEUE])
        with psycopg.connect(self.ground.url, autocommit=True) as holder:
            holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            holder.execute("SELECT count(*) FROM djtasks_message")
            until = time.monotonic() + self.sizes.held
            while time.monotonic() < until:
                self.rows.messages(1000)
                self.wait_for_less_than(2000)
            self.wait_for_less_than(1)
            worker.stop()
            self.rows.messages(self.sizes.base)
            self.rows.tidy()
            dead = self.conn.execute(DEAD).fetchone()
            say(f"{dead[0] if dead else 0:,} dead rows that no vacuum may remove")
            yield
            holder.execute("ROLLBACK")

    def wait_for_less_than(self, count: int) -> None:
        """Wait until fewer messages than that are left."""

        def left() -> int:
            found = self.conn.execute("SELECT count(*) FROM djtasks_message").fetchone()
            assert found is not None
            return int(found[0])

        wait_until(lambda: left() < count, f"fewer than {count} messages are left", 60.0)

    def measure(self, title: str, queues: Sequence[str] = (QUEUE,)) -> Case:
        """The figures of what there is now. The pages first: the rest changes it."""
        messages_page, results_page = page_times(self.visitor)
        claims = claim_times(queues, self.sizes.claims)
        return Case(title, claims, self.drain(queues), messages_page, results_page)

    def start(self, queues: Sequence[str]) -> Any:
        """A worker for these queues."""
        return self.workers.launch(
            *("-c", str(CHILDREN), "-Q", ",".join(queues), "-q"),
            WORKER_HEARTBEAT_INTERVAL=0.5,
            WORKER_DEAD_AFTER=20.0,
        )

    def drain(self, queues: Sequence[str]) -> float:
        """How many tasks a second a worker ends, from its first ones until nothing is left or the time is over."""
        worker = self.start(queues)
        seen: list[tuple[int, float]] = []

        def enough() -> bool:
            found = self.conn.execute(COUNTERS, [worker.pid]).fetchone()
            if found and found[0] and found not in seen:
                seen.append(found)
            drained = len(seen) > 1 and seen[-1][0] == seen[-2][0]
            return drained or (len(seen) > 2 and seen[-1][1] - seen[0][1] > self.sizes.drain)

        wait_until(enough, "a worker has drained for long enough", self.sizes.drain + 60.0)
        worker.stop()
        # The last interval, in which it ran dry, tells nothing.
        if seen[-1][0] == seen[-2][0]:
            seen = seen[:-2] if len(seen) > 3 else seen[:-1]
        (first, began), (last, ended) = seen[0], seen[-1]
        return (last - first) / (ended - began)

    def close(self) -> None:
        """End what runs."""
        self.workers.close()
        self.conn.close()


def say(text: str) -> None:
    """To the terminal, beside the table."""
    print(f"[{time.strftime('%X')}] {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure, print the table, and write it if asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.growth", description="Measure beside very many rows.")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this page")
    options = parser.parse_args()
    sizes = QUICK if options.quick else FULL
    with site(chosen(), traces=False, max_wal_size="4GB") as ground:
        os.environ |= {"DATABASE_URL": ground.url, "DJANGO_SETTINGS_MODULE": "testproject.settings", "DEBUG": "0"}
        django.setup()
        growth = Growth(ground, sizes)
        try:
            cases = list(growth.run())
        finally:
            growth.close()
        server = ground.version
    table = table_of([HEAD, *(case.cells for case in cases)])
    print(table)
    if options.write:
        found = textwrap.fill(surroundings_of(server), 120)
        text = TEXT.format(base=sizes.base, children=CHILDREN, table=table, surroundings=found)
        rewrite(options.write, "growth", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
