"""All pools, each with a process and a server of its own, some of them at the same time."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from testproject.postgres.shared import CHECKOUT
from tests.chaos.pools import POOLS
from tests.chaos.report import Row


def play_all(arguments: list[str], jobs: int) -> tuple[dict[str, list[Row]], str]:
    """The rows of each pool, and the server's version; `arguments` are those of the command line."""
    given = _without(arguments, "--pool", "--jobs", "--write")
    running: dict[str, subprocess.Popen[bytes]] = {}
    waiting = list(POOLS)
    with tempfile.TemporaryDirectory(prefix="djtasks-chaos-") as folder:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    pool = waiting.pop(0)
                    running[pool] = _begin(pool, [*given, "--rows", str(Path(folder, pool))])
                for pool in [pool for pool, process in running.items() if process.poll() is not None]:
                    del running[pool]
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
    return {pool: rows for pool, (rows, _) in found.items()}, next(iter(found.values()))[1]


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
