"""One scenario after another, and what is to be said of it."""

from tests.chaos.report import Row, row_of
from tests.chaos.scenarios import Scenario
from tests.chaos.site import Ground, Site, Timing

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
    drain=30,
)
#: What the tests have time for.
BRIEF = SHORT._replace(seconds=3, dead_after=2.5, worker_every=1.5, crash_every=1.5)
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


def play(site: Site, scenario: Scenario, timing: Timing) -> Row:
    """Play a scenario to its end, and judge it."""
    with site.ground(scenario.name, timing) as ground:
        problems = []
        try:
            scenario.run(ground)
        except AssertionError as error:
            problems.append(str(error))
        ground.settle()
        row = row_of(scenario, ground.verdict(), ground.refused())
        return row._replace(problems=[*problems, *row.problems, *_troubles(ground)])


def _troubles(ground: Ground) -> list[str]:
    """What a log should not say, and what is left in the queue."""
    found = [
        f"{name} logged a traceback" for name, text in ground.logs() if "Traceback (most recent call last)" in text
    ]
    for worker in ground.workers.started:
        if worker.process.poll() not in (None, 0, -9):
            found.append(f"{worker.name} ended with the exit code {worker.process.poll()}")
    found += [f"left: {row}" for row in ground.tables.left()[:10]]
    return found
