"""One scenario after another, and what is to be said of it."""

import subprocess
from collections.abc import Mapping
from typing import Final

import psutil
import psycopg

from tests.chaos.crowding import CROWDING
from tests.chaos.hardship import HARDSHIP, may_mount
from tests.chaos.pools import PREFORK, UNFIT, Kind
from tests.chaos.report import Row, row_of
from tests.chaos.scenario import Scenario
from tests.chaos.scenarios import USUAL
from tests.chaos.site import Ground, Site, Timing

SCENARIOS: Final = (*USUAL, *CROWDING, *HARDSHIP)
BY_NAME: Final[Mapping[str, Scenario]] = {scenario.name: scenario for scenario in SCENARIOS}
#: Those that most depend on the pool, or on nothing else, come first: where time is short the others are left out.
FIRST: Final = (
    *("worker", "child", "forkserver", "control", "flood", "disk", "term", "upgrade", "memory", "zombie", "crash"),
    *("many", "partition", "rolling"),
)
ORDER: Final = (*FIRST, *(name for name in BY_NAME if name not in FIRST))

#: Quick enough for every change: the death bound is as short as a busy machine allows.
SHORT = Timing(
    seconds=5,
    heartbeat=0.5,
    dead_after=3,
    child_every=0.5,
    worker_every=2.5,
    crash_every=2.5,
    rolling_restarts=3,
    cuts=1,
    rate=150,
    drain=90,
    full=6,
    away=2,
    many=10,
)
#: What the tests have time for.
BRIEF = SHORT._replace(seconds=3, dead_after=2.5, worker_every=1.5, crash_every=1.5, full=4)
#: For all pools in a quarter of an hour: short, but for what is only shown by its length.
MIDDLE = SHORT._replace(dead_after=4, cuts=2, full=30, away=33, many=30)
#: And for those that are not prefork: what their workers would only wait for, or repeat, is shorter.
LIGHTER = MIDDLE._replace(away=2, many=10)
LONG = Timing(
    seconds=60,
    heartbeat=1.5,
    dead_after=6,
    child_every=2,
    worker_every=20,
    crash_every=15,
    rolling_restarts=10,
    cuts=6,
    rate=200,
)

#: What no log should say, but of what a task itself has raised on purpose.
TRACEBACK, OWN = "Traceback (most recent call last)", "raised unexpected: MemoryError()"


def unfit(scenario: Scenario, kind: Kind) -> str:
    """Why a scenario is not played with a pool, or nothing."""
    if scenario.name == "disk" and not may_mount():
        return "no file system may be mounted here"
    return UNFIT.get(scenario.name, {}).get(kind.name, "")


def play(site: Site, scenario: Scenario, timing: Timing, kind: Kind = PREFORK) -> Row:
    """Play a scenario to its end, and judge it."""
    with site.ground(scenario.name, timing, kind) as ground:
        problems = []
        try:
            scenario.run(ground)
        except (AssertionError, psycopg.Error, psutil.Error, subprocess.SubprocessError) as error:
            # One that could not be played to its end keeps no other from being played.
            problems.append(f"{type(error).__name__}: {error}")
        ground.settle()
        row = row_of(scenario, ground.verdict(), ground.refused(), ground.notes)
        return row._replace(problems=[*problems, *row.problems, *_troubles(ground)])


def _troubles(ground: Ground) -> list[str]:
    """What a log should not say, and what is left in the queue."""
    found = [f"{name} logged a traceback" for name, text in ground.logs() if text.count(TRACEBACK) > text.count(OWN)]
    for worker in ground.workers.started:
        code = worker.process.poll()
        if code not in (None, 0, -9) and code != ground.codes.get(worker.name):
            found.append(f"{worker.name} ended with the exit code {code}")
    found += [f"left: {row}" for row in ground.tables.left()[:10]]
    return found
