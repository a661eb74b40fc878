"""Workers that are stopped for so long that they count as dead, and then go on as if nothing had happened."""

import os
import signal
from typing import NamedTuple

import pytest

from djtasks import AsyncResult
from tests.worker.running import RunningWorker, Workers, ended, hand_over, value, wait_until
from tests.worker_app import tasks

SHORT = {"WORKER_HEARTBEAT_INTERVAL": 0.5, "WORKER_DEAD_AFTER": 2.0}


class Story(NamedTuple):
    """Two workers, each in the middle of a task, were stopped past the death bound and then went on."""

    sleepers: list[RunningWorker]
    #: Their incarnations before.
    incarnations: list[int]
    late: AsyncResult[object]
    early: AsyncResult[object]
    #: Handed over to the first one's child, which had not read them when it was stopped.
    unread_early: list[AsyncResult[object]]
    unread_late: list[AsyncResult[object]]
    #: The child of the third worker, which rescued what they held.
    rescuer: int


@pytest.fixture(scope="module")
def story(shared: Workers) -> Story:
    sleepers = [shared.launch("-c", "1", "-l", "INFO", "-Q", f"{name},only-{name}", **SHORT) for name in ("a", "b")]
    gate = shared.gate()
    incarnations = [sleeper.ready().registered() for sleeper in sleepers]
    early = tasks.hold.apply_async([str(gate)], queue="b")
    shared.audit.began(early)
    late, unread = hand_over("a", tasks.hold_late, gate, [tasks.noted, tasks.noted_late] * 10)
    assert len(unread) > 1
    shared.audit.began(late)
    frozen = [process for sleeper in sleepers for process in sleeper.tree()]
    for process in frozen:
        os.kill(process.pid, signal.SIGSTOP)
    # The rescuer comes later, so that the tasks are the sleepers' and nobody else's.
    rescuer = shared.start("-c", "1", "-Q", "a,b", **SHORT)
    wait_until(lambda: not any(sleeper.rows() for sleeper in sleepers), "they are declared dead")
    shared.audit.began(late, runs=2)
    gate.open()
    for result in (early, late, *unread):
        ended(result)
    for process in frozen:
        os.kill(process.pid, signal.SIGCONT)
    for sleeper in sleepers:
        sleeper.says("had been declared dead")
    return Story(sleepers, incarnations, late, early, unread[::2], unread[1::2], rescuer.children(1)[0].pid)


def test_a_task_that_the_sleeper_ends_after_all_keeps_the_result_of_the_rescue(story: Story, shared: Workers) -> None:
    wait_until(lambda: len(shared.audit.lines("end", story.late)) == 2, "the sleeper's run has ended too")
    story.sleepers[0].says(f"The outcome of task {story.late.id} was refused")
    assert value(story.late) == story.rescuer


def test_a_task_that_was_given_up_stays_so_although_the_sleeper_ends_it(story: Story, shared: Workers) -> None:
    wait_until(lambda: shared.audit.lines("end", story.early), "the sleeper's run has ended")
    story.sleepers[1].says(f"The outcome of task {story.early.id} was refused")
    assert story.early.state == "FAILURE"
    assert type(story.early.result).__name__ == "WorkerLostError"


def test_what_the_sleeper_had_not_begun_it_never_begins(story: Story, shared: Workers) -> None:
    assert {result.state for result in story.unread_early} == {"FAILURE"}
    assert {result.state for result in story.unread_late} == {"SUCCESS"}
    # It has worked since: whatever it was going to begin it has begun.
    assert value(tasks.echo.apply_async([1], queue="only-a")) == 1
    late_runs = [line["pid"] for each in story.unread_late for line in shared.audit.lines("ran", each)]
    assert late_runs == [story.rescuer] * len(story.unread_late)
    assert [line for each in story.unread_early for line in shared.audit.lines("ran", each)] == []


@pytest.mark.parametrize("number", [0, 1])
def test_the_sleeper_comes_back_as_a_new_worker_and_works(story: Story, number: int) -> None:
    sleeper = story.sleepers[number]
    assert value(tasks.echo.apply_async(["awake"], queue=f"only-{'ab'[number]}")) == "awake"
    assert sleeper.registered() != story.incarnations[number]
