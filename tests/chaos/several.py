"""All pools, each with a process and a server of its own, some of them at the same time."""

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from testproject.postgres.shared import CHECKOUT
from tests.chaos.pools import POOLS
from tests.chaos.report import Row, nothing
from tests.chaos.run import BY_NAME

LEFT_OUT = "not reached within this run's time"


def play_all(
    arguments: list[str], jobs: int, minutes: float | None, names: Sequence[str]
) -> tuple[dict[str, list[Row]], str]:
    """The rows of each pool for these scenarios, and the server's version; `arguments` are the command line's.

    With `minutes`, each pool has its share of them, and what it has not reached by then is left out.
    """
    given = _without(arguments, "--pool", "--jobs", "--write", "--minutes")
    share = None if minutes is None else 60 * minutes / math.ceil(len(POOLS) / jobs)
    running: dict[str, subprocess.Popen[bytes]] = {}
    ends: dict[str, float] = {}
    waiting = list(POOLS)
    with tempfile.TemporaryDirectory(prefix="djtasks-chaos-") as folder:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    pool = waiting.pop(0)
                    ends[pool] = math.inf if share is None else time.monotonic() + share
                    running[pool] = _begin(pool, [*given, "--rows", str(Path(folder, pool))])
                for pool in [pool for pool, process in running.items() if process.poll() is not None]:
                    del running[pool]
                for pool, process in running.items():
                    if time.monotonic() > ends[pool]:
                        ends[pool] = math.inf
                        process.terminate()
                time.sleep(0.1)
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.wait()
        found = {pool: Row.of_text(Path(folder, pool).read_text()) for pool in POOLS if Path(folder, pool).exists()}
    missing = [pool for pool in POOLS if pool not in found]
    if missing:
        raise SystemExit(f"these pools were not played to their end: {', '.join(missing)}")
    whole = {pool: _whole(rows, names) for pool, (rows, _) in found.items()}
    return whole, next(iter(found.values()))[1]


def _whole(rows: list[Row], names: Sequence[str]) -> list[Row]:
    """The rows in the order of the scenarios, with a line for each that was not reached."""
    found = {row.scenario: row for row in rows}
    return [
        found.get(name) or nothing(scenario, LEFT_OUT)
        for name, scenario in BY_NAME.items()
        if name in found or name in names
    ]


def _begin(pool: str, arguments: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.chaos", "--pool", pool, *arguments]
    return subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.DEVNULL)


def _without(arguments: list[str], *names: str) -> list[str]:
    """The arguments without these options and their values."""
    found, skip = [], False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in names:
            skip = True
        elif argument.partition("=")[0] not in names:
            found.append(argument)
    return found
