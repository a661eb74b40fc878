"""The monitor beside millions of rows, and before many browsers.

    python -m tests.chaos.monitor [--messages N] [--results N] [--browsers N] [--seconds N] [--write FILE]

What is measured: how long each page takes, as a whole and its live part; and what a site and its database use while
so many browsers have pages open that are looked at.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import django
import psutil
import psycopg
from django.test import Client

from testproject.postgres.cluster import postmaster
from testproject.postgres.shared import CHECKOUT
from tests.chaos.growth import say
from tests.chaos.pages import monitor_pages, time_of, visitor
from tests.chaos.report import rewrite, surroundings_of, table_of
from tests.chaos.rows import TASK, Rows
from tests.chaos.site import APP, Site, site
from tests.servers import chosen
from tests.waits import wait_until

#: How often a page that is looked at asks, in seconds: what MONITOR_REFRESH is when nobody has set it.
REFRESH = 3.0
#: What most people look at.
OPEN = ("overview", "overview", "workers", "queues", "tasks")
HEAD = ("page", "whole", "live part")
TEXT = """\
## The monitor

Its pages beside {messages:,} messages that wait, {delayed:,} of them for later, and {results:,} results, made by SQL,
then vacuumed and analysed; opened by a superuser, the median of five. What a page keeps for a second is made anew
each time.

{table}

{browsers} browsers with a page open each ({refresh:g} s between what they ask for; overview, workers, queues, tasks)
for {seconds:.0f} s: {rate:.1f} requests a second, {unchanged:.0%} of them answered by «not modified», median
{p50:.0f} ms, 99 % within {p99:.0f} ms, {errors} errors. The site used {site:.0%} of one core (the development server,
which opens a connection for each request), PostgreSQL {database:.0%}.

{surroundings}

`python -m tests.chaos.monitor --messages {messages} --results {results} --write docs/explanation/faults.md` measures
it again.
"""


class Crowd(NamedTuple):
    """What came of many browsers."""

    times: list[float]
    unchanged: int
    errors: int
    seconds: float
    #: Seconds of processor.
    site: float
    database: float


def page_table(client: Client) -> list[tuple[str, ...]]:
    """A line for each page."""
    lines = []
    for name, path in monitor_pages().items():
        whole = time_of(client, path)
        part = time_of(client, path, live=True) if name != "letters" else None
        cells = ["–" if each is None else f"{1000 * each:.0f} ms" for each in (whole, part)]
        say(f"{name}: {', '.join(cells)}")
        lines.append((name, *cells))
    return lines


@contextmanager
def served(ground: Site) -> Iterator[tuple[str, psutil.Process]]:
    """A site of its own: its address, and its process."""
    log = ground.folder / "site.log"
    environment = {"DATABASE_URL": ground.url, "EXTRA_APPS": APP, "DEBUG": "0", "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "runserver", "--noreload", "--insecure", "127.0.0.1:0"],
            cwd=CHECKOUT,
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        found = wait_until(lambda: re.search(r"http://127\.0\.0\.1:\d+", log.read_text()), "the site is there", 60.0)
        assert found is not None
        yield found[0], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def _used(process: psutil.Process) -> float:
    """Seconds of processor of a process, of what it has started, and of those of these that have ended."""
    found = 0.0
    for each in (process, *process.children(recursive=True)):
        try:
            times = each.cpu_times()
        except psutil.Error:
            continue
        found += times.user + times.system + (times.children_user + times.children_system if each == process else 0.0)
    return found


class Browser(threading.Thread):
    """Somebody who looks at one page."""

    def __init__(self, url: str, cookie: str, until: float, delay: float) -> None:
        super().__init__(daemon=True)
        self.url, self.until, self.delay = url, until, delay
        self.headers = {"Cookie": f"sessionid={cookie}"}
        self.times: list[float] = []
        self.unchanged = 0
        self.errors = 0

    def run(self) -> None:
        """Ask again and again."""
        time.sleep(self.delay)
        while time.monotonic() < self.until:
            began = time.monotonic()
            self._ask()
            self.times.append(time.monotonic() - began)
            time.sleep(max(0.0, REFRESH - self.times[-1]))

    def _ask(self) -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url, headers=self.headers), timeout=30) as answer:  # noqa: S310 -- ours
                answer.read()
                self.headers["If-None-Match"] = answer.headers["ETag"]
        except urllib.error.HTTPError as error:
            if error.code == 304:
                self.unchanged += 1
            else:
                self.errors += 1
        except OSError:
            self.errors += 1


def crowd(ground: Site, client: Client, browsers: int, seconds: float) -> Crowd:
    """Open so many browsers for so long."""
    database = postmaster(ground.server.cluster.data)
    assert database is not None
    pages, cookie = monitor_pages(), client.cookies["sessionid"].value
    with served(ground) as (address, process):
        urllib.request.urlopen(f"{address}/admin/login/", timeout=60).close()  # noqa: S310 -- ours
        until = time.monotonic() + seconds
        before, began = (_used(process), _used(database)), time.monotonic()
        found = [
            Browser(f"{address}{pages[OPEN[number % len(OPEN)]]}?live=1", cookie, until, number * REFRESH / browsers)
            for number in range(browsers)
        ]
        for each in found:
            each.start()
        for each in found:
            each.join()
        spent = _used(process) - before[0], _used(database) - before[1]
        times = [one for each in found for one in each.times]
        took = time.monotonic() - began
    unchanged, errors = sum(each.unchanged for each in found), sum(each.errors for each in found)
    return Crowd(times, unchanged, errors, took, *spent)


def text_of(options: argparse.Namespace, lines: Sequence[tuple[str, ...]], seen: Crowd, server: str) -> str:
    """The section of the documentation."""
    figures: Mapping[str, object] = {
        "messages": options.messages,
        "delayed": options.messages // 5,
        "results": options.results,
        "table": table_of([HEAD, *lines]),
        "browsers": options.browsers,
        "refresh": REFRESH,
        "seconds": seen.seconds,
        "rate": len(seen.times) / seen.seconds,
        "unchanged": seen.unchanged / len(seen.times),
        "p50": 1000 * statistics.median(seen.times),
        "p99": 1000 * statistics.quantiles(seen.times, n=100)[98],
        "errors": seen.errors,
        "site": seen.site / seen.seconds,
        "database": seen.database / seen.seconds,
        "surroundings": textwrap.fill(surroundings_of(server), 120),
    }
    return TEXT.format(**figures)


def main() -> int:
    """Measure, print, and write it if asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.monitor", description="Measure the monitor's pages.")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--results", type=int, default=10_000_000)
    parser.add_argument("--browsers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the figures into this page")
    options = parser.parse_args()
    with site(chosen(), traces=False, max_wal_size="4GB") as ground:
        os.environ |= {"DATABASE_URL": ground.url, "DJANGO_SETTINGS_MODULE": "testproject.settings", "DEBUG": "0"}
        django.setup()
        with psycopg.connect(ground.url, autocommit=True) as conn:
            conn.execute("SET synchronous_commit = off")
            rows = Rows(conn, say)
            rows.messages(options.messages - options.messages // 5, queues=20)
            rows.messages(options.messages // 5, "later", delayed=True)
            rows.results(options.results)
            rows.tidy()
        say(f"loaded; each message is a {TASK}")
        client = visitor()
        lines = page_table(client)
        seen = crowd(ground, client, options.browsers, options.seconds)
        text = text_of(options, lines, seen, ground.version)
    print(text)
    if options.write:
        rewrite(options.write, "monitor", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
