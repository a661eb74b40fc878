"""Where a soft limit strikes another thread: in the task's own code, once, and never while it commits."""

import math
import threading
import time
from typing import Any

import pytest

from djtasks import tracer
from djtasks.exceptions import SoftTimeLimitExceeded
from djtasks.messages import Claimed
from djtasks.worker.pools import softlimit
from djtasks.worker.pools.base import Job
from djtasks.worker.pools.seats import Seat
from tests.waits import wait_until

ROUNDS = 300


def job() -> Job:
    message = Claimed(1, "id", "name", "celery", 0, 0, 0, False, b"", "", "", None, None, None, 0.0)
    return Job(message, 0.1, None, math.inf)


class Runner:
    """A thread that takes a seat, and does over and over what must and what must not be struck."""

    def __init__(self) -> None:
        self.seat = Seat()
        self.began = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.struck: list[float] = []
        self.wrong: list[str] = []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        self.seat.arrive()
        for _ in range(ROUNDS):
            self.go.acquire()
            try:
                self.round()
            except SoftTimeLimitExceeded:
                self.wrong.append("outside of the task's own code")
            self.seat.leave()
            self.ended.release()

    def round(self) -> None:
        self.seat.enter(self.job)
        self.began.release()
        window = tracer.soft_limit_window
        try:
            window.inside = True
            while True:
                self.work()
                self.commit()
        except SoftTimeLimitExceeded as error:
            self.struck.append(error.args[0])
        finally:
            window.inside = False

    job: Job

    def work(self) -> int:
        return sum(number * number for number in range(50))

    def commit(self) -> None:
        try:
            for number in range(50):
                self.step(number)
        except SoftTimeLimitExceeded:
            self.wrong.append("in a commit")
            raise

    def step(self, number: int) -> int:
        return number + 1


def test_a_limit_strikes_once_and_never_in_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softlimit, "_COMMITTING", frozenset({Runner.commit.__code__}))
    runner = Runner()
    for number in range(ROUNDS):
        runner.job = job()
        runner.go.release()
        runner.began.acquire()
        limit = float(number)
        wait_until(lambda limit=limit: runner.seat.strike(runner.job, limit), "it may be struck")
        assert not runner.seat.strike(runner.job, limit)
        assert runner.ended.acquire(timeout=10)
    runner.thread.join(10)
    assert runner.wrong == []
    assert runner.struck == [float(number) for number in range(ROUNDS)]


def test_a_run_that_is_over_or_another_one_is_not_struck() -> None:
    seat, mine, others = Seat(), job(), job()
    seat.arrive()
    assert not seat.strike(mine, 1.0)
    seat.enter(others)
    assert not seat.strike(mine, 1.0)
    assert not seat.strike(others, 1.0)
    assert not seat.abandon(mine)
    seat.leave()
    assert not seat.abandon(others)
    assert not seat.abandoned


def test_what_waits_in_c_code_hears_of_its_limit_when_that_returns() -> None:
    found: list[Any] = []

    def run() -> None:
        seat.arrive()
        seat.enter(mine)
        tracer.soft_limit_window.inside = True
        ready.set()
        try:
            # Nothing can be raised in here.
            time.sleep(0.3)
            found.append("slept")
        except SoftTimeLimitExceeded as error:
            found.append(error)
        seat.leave()

    seat, mine, ready = Seat(), job(), threading.Event()
    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    assert wait_until(lambda: seat.strike(mine, 2.5), "it is told")
    thread.join()
    assert [error.args for error in found] == [(2.5,)]
