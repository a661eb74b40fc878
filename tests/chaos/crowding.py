"""The scenarios in which nothing breaks, and there is too much: of one queue, of work, of workers, of memory."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time

import psutil

from testproject.postgres.shared import CHECKOUT
from tests.chaos.audit import Ledger, Stored, Verdict, read_runs
from tests.chaos.producer import FLOODED
from tests.chaos.scenario import Scenario, running, slowly
from tests.chaos.site import APP, Ground, send
from tests.waits import wait_until
from tests.worker.running import RunningWorker

#: How many tasks are always waiting in the flooded queue, and how soon those of others are begun (p99, in seconds).
FLOOD, PICKED_UP = 1500, 2.0
#: Calls a second beside a flood, and beside tasks that fill all slots.
BESIDE = 30.0
#: How long the warm-up of a flood lasts, in seconds: until the workers know that there is one.
WARM = 1.5
#: How soon a worker answers whose slots are all taken, in seconds, and how long the tasks that take them run.
ANSWERED, FILLING = 2.0, 4.0
#: How long very many workers may take to start, and to end, in seconds.
STARTED = 180.0
#: KiB that a child may have, and how many tasks that keep memory come at a time.
MOST, LEAKS = 140_000, 12
#: How much more address space than it has a child may take, in bytes.
HEADROOM = 2 << 30

WAITING = "SELECT count(*) FROM djtasks_message WHERE queue = %s AND owner IS NULL"
HOGS = "SELECT count(*) FROM djtasks_result WHERE name = 'chaos.late_hog' AND state = 'FAILURE'"


def flooded(ground: Ground) -> None:
    """One queue has always very many tasks waiting: those of the other are begun soon all the same."""
    ground.begin((None, None), "-Q", f"celery,{FLOODED}", rate=BESIDE)
    # Orders are obeyed one after another: what was called to get the workers going has been called once this has.
    ground.order("slow 0")
    wait_until(lambda: " slow " in ground.ledger.read_text(), "the producer has called what it was told to", STARTED)
    wait_until(lambda: ground.tables.number(WAITING, "celery") < BESIDE, "the other queue is as good as empty", STARTED)
    ground.order(f"flood {2 * FLOOD}")
    wait_until(lambda: ground.tables.number(WAITING, FLOODED) > FLOOD, "the queue is flooded")
    ground.fault("queue flooded")
    time.sleep(WARM)
    since, least = time.time(), FLOOD
    for _ in ground.every(0.2):
        left = ground.tables.number(WAITING, FLOODED)
        least = min(left, least)
        if left < FLOOD:
            ground.order(f"flood {FLOOD}")
    until = time.time()

    def waited() -> list[float]:
        ledger, runs = Ledger(ground.ledger), read_runs(ground.workers.audit.path)
        return Verdict(ledger, runs, Stored({}, set(), {}, {}, {}), []).picked_up(since, until)

    wait_until(lambda: waited()[-1] < float("inf"), "all of the other queue's tasks have begun", ground.timing.drain)
    found = waited()
    p99 = statistics.quantiles(found, n=100)[98]
    ground.notes.append(
        f"beside {least:,} tasks or more of a flooded queue, {len(found)} of the other queue were begun within"
        f" {statistics.median(found):.3f} s (median), {p99:.2f} s (p99), {found[-1]:.2f} s (the longest)"
    )
    assert least > 0, "the flooded queue ran dry: nothing is shown"
    assert len(found) > 10, f"only {len(found)} tasks of the other queue: nothing is shown"
    assert p99 < PICKED_UP, f"the other queue's tasks were begun within {p99:.2f} s (p99), over {PICKED_UP:g} s"


class Operator:
    """A process that asks the workers things while tasks fill all of their slots."""

    def __init__(self, ground: Ground, *options: str) -> None:
        environment = {
            "DATABASE_URL": ground.url,
            "DJANGO_SETTINGS_MODULE": "testproject.settings",
            "EXTRA_APPS": APP,
            "DJTASKS": json.dumps(ground.timing.settings),
        }
        self._log = (ground.folder / "operator.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.asking", *options],
            cwd=CHECKOUT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )

    def begin(self) -> None:
        """Let it ask."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def end(self, seconds: float = 60.0) -> list[tuple[str, float, int]]:
        """What it asked, how long the answers took, in seconds, and how many there were."""
        out, _ = self._process.communicate(timeout=seconds)
        return [(name, took, count) for name, took, count in json.loads(out)]

    def close(self) -> None:
        """End it."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._log.close()


def asked_while_busy(ground: Ground) -> None:
    """Every slot runs a slow task: commands are answered all the same, and soon."""
    steers = ["--steer"] if ground.kind.name != "solo" else []
    operator = Operator(ground, "2", *steers)
    try:
        ground.begin(rate=BESIDE)
        slots = 2 * ground.kind.slots

        def fill() -> bool:
            for _ in range(max(0, slots - len(running(ground))) // 2):
                ground.order(f"slow {FILLING}")
            return len(running(ground)) >= slots

        wait_until(slowly(fill, 0.5), "all slots are taken", 30.0)
        operator.begin()
        for _ in ground.every(0.5):
            fill()
        asked = operator.end()
    finally:
        operator.close()
    ground.fault("asked while busy")
    times = sorted(took for _, took, _ in asked)
    ground.notes.append(
        f"{len(asked)} commands, while every slot was taken, were answered by both workers within"
        f" {statistics.median(times):.3f} s (median), {times[-1]:.2f} s (the longest)"
    )
    few = [each for each in asked if each[2] < 2 or each[1] > ANSWERED]
    assert len(asked) > 5, f"only {len(asked)} commands were answered"
    assert not few, f"not answered by both workers within {ANSWERED:g} s: {few[:5]}"


def many_started(ground: Ground) -> None:
    """Very many workers are started at the same moment, and ended at the same moment: nothing may be noticed."""
    ground.begin()
    ground.order("rush")
    began = time.monotonic()
    workers = [ground.launch() for _ in range(ground.timing.many)]
    ground.fault("workers started")
    for worker in workers:
        ground.registered(worker, STARTED)
    started = time.monotonic() - began
    ground.order("rush")

    def idle() -> list[RunningWorker]:
        names = {run.worker for run in read_runs(ground.workers.audit.path)}
        return [worker for worker in workers if f"{worker.name}@here" not in names]

    def rush() -> bool:
        found = idle()
        if found:
            ground.order("rush")
        return not found

    wait_until(slowly(rush, 1.0), "every worker has run tasks", STARTED)
    began = time.monotonic()
    for worker in workers:
        worker.signal(signal.SIGTERM)
    for worker in workers:
        code = worker.wait(STARTED)
        assert code == 0, f"a worker ended with the exit code {code}"
    ground.fault("workers ended")
    ground.notes.append(
        f"{len(workers)} workers, started at once, were all at work after {started:.1f} s, and had ended"
        f" {time.monotonic() - began:.1f} s after TERM"
    )


def memory_limited(ground: Ground) -> None:
    """Tasks keep memory, tasks want too much, and what is largest is killed, as a kernel out of memory does."""
    workers = ground.begin((None, None), "--max-memory-per-child", str(MOST))
    limited: set[int] = set()

    def limit() -> dict[int, psutil.Process]:
        """The children by their memory; those that had none get a limit of address space."""
        found = {}
        for child in (child for worker in workers for child in worker.server.children()):
            try:
                if child.pid not in limited:
                    size = child.memory_info().vms + HEADROOM
                    child.rlimit(psutil.RLIMIT_AS, (size, size))
                    limited.add(child.pid)
                found[child.memory_info().rss] = child
            except psutil.Error:
                continue
        return found

    for number in ground.every(ground.timing.child_every):
        children = limit()
        ground.order(f"leak {LEAKS}")
        ground.order("hog 1")
        if number % 3 == 0 and children:
            send(signal.SIGKILL, [children[max(children)]])
            ground.fault("child killed", 1)

    def hogs() -> int:
        limit()
        ground.order("hog 4")
        return ground.tables.number(HOGS)

    wait_until(slowly(hogs, 0.2), "a task got no memory")

    def replaced() -> int:
        ground.order(f"leak {LEAKS}")
        return sum(worker.log.count("of memory and will be replaced") for worker in workers)

    wait_until(slowly(replaced, 0.2), "a child is replaced because of its memory")
    ground.notes.append(
        f"{ground.tables.number(HOGS)} tasks ended with MemoryError, {replaced()} children were replaced because of"
        " their memory"
    )


CROWDING = (
    Scenario("many", "very many workers started at once", many_started, essential=False),
    Scenario("memory", "a child's memory limited, and the largest one killed", memory_limited),
    Scenario("flood", "one queue flooded, and tasks of another", flooded),
    Scenario("control", "commands while every slot is taken", asked_while_busy),
)
