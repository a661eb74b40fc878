"""Workflows whose processes are killed at any step: what comes next comes once, or the step before is not done."""

import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from djtasks import chain, chord, group
from tests.worker.running import RunningWorker, Workers, ended, query, wait_until
from tests.worker_app import ends, flows

IMPORTS = ["tests.worker_app.ends", "tests.worker_app.flows"]
STEPS = [*ends.BEFORE, *ends.AFTER]


@pytest.fixture(scope="module", autouse=True)
def effects(database: str) -> Iterator[None]:
    """The table that the tasks work in."""
    query("CREATE TABLE effect (task uuid NOT NULL, number integer)")
    yield
    query("DROP TABLE effect")


@pytest.fixture(scope="module")
def worker(shared: Workers, effects: None) -> RunningWorker:
    """A worker with two children."""
    return shared.start("-c", "2", IMPORTS=IMPORTS)


@pytest.fixture(autouse=True)
def _nothing_is_left(effects: None) -> Iterator[None]:
    """No chord, and no part of one, outlives its workflow."""
    query("TRUNCATE effect")
    yield
    assert query("SELECT (SELECT count(*) FROM djtasks_chord) + (SELECT count(*) FROM djtasks_part)") == [(0,)]


def nothing_waits() -> bool:
    """Whether no message is left."""
    return query("SELECT count(*) FROM djtasks_message") == [(0,)]


def effects_of_each() -> dict[str, int]:
    """How many rows each task has written, and committed."""
    return dict(query("SELECT task::text, count(*) FROM effect GROUP BY task"))


def runs_of(shared: Workers, name: str) -> int:
    """How often a step has run."""
    return sum(line["name"] == name for line in shared.audit.lines("step"))


def test_a_chain_of_atomic_tasks_each_of_which_dies_at_another_step(worker: RunningWorker, shared: Workers) -> None:
    last = chain(*(ends.effect.si(step) for step in STEPS), flows.step.s(name="end of the chain"))()
    assert ended(last, 60.0) == "SUCCESS"
    assert last.get(timeout=5) == ["end of the chain", STEPS[-1]]
    wait_until(nothing_waits, "everything has run")
    found = effects_of_each()
    assert (len(found), set(found.values())) == (len(STEPS), {1})
    assert runs_of(shared, "end of the chain") == 1


def test_a_chord_of_atomic_tasks_each_of_which_dies_at_another_step(worker: RunningWorker, shared: Workers) -> None:
    result = chord([ends.effect.s(step) for step in STEPS], flows.step.s(name="body of the chord"))()
    assert ended(result, 60.0) == "SUCCESS"
    assert result.get(timeout=5) == ["body of the chord", STEPS]
    wait_until(nothing_waits, "everything has run")
    found = effects_of_each()
    assert (len(found), set(found.values())) == (len(STEPS), {1})
    assert runs_of(shared, "body of the chord") == 1


def test_a_member_that_is_lost_for_good_fails_its_chord(worker: RunningWorker, shared: Workers) -> None:
    result = chord([flows.early.s(), flows.step.s(name="the other one")], flows.step.s(name="never"))()
    assert ended(result) == "FAILURE"
    assert "WorkerLostError" in str(result.result)
    wait_until(nothing_waits, "everything has run")
    assert runs_of(shared, "never") == 0


def test_a_member_over_its_hard_limit_and_one_that_is_terminated_fail_their_chords(
    worker: RunningWorker, shared: Workers
) -> None:
    late = chord([flows.hold.s().set(time_limit=0.2), flows.step.s(name="beside")], flows.step.s(name="never"))()
    last = chain(flows.hold.s().set(time_limit=0.2), flows.step.s(name="never"))()
    killed = chord([flows.hold.s(), flows.step.s(name="beside")], flows.step.s(name="never"))()
    assert (ended(late), ended(last)) == ("FAILURE", "FAILURE")
    assert "TimeLimitExceeded" in str(late.result)
    shared.audit.began(killed.parent.results[0])
    killed.parent.results[0].revoke(terminate=True)
    assert ended(killed) == "FAILURE"
    assert "TaskRevokedError('terminated')" in str(killed.result)
    wait_until(nothing_waits, "everything has run")
    assert runs_of(shared, "never") == 0


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_workflows_run_in_every_pool(pool: str, workers: Workers) -> None:
    workers.start("-c", "1", "-P", pool, "-Q", pool, IMPORTS=IMPORTS)

    def step(name: str, do: str = "return") -> Any:
        return flows.step.s(name=name, do=do).set(queue=pool)

    header = [step("a"), chain(step("b", "retry"), step("c")), flows.atomic_step.s(name="d").set(queue=pool)]
    result = chain(step("first"), group(header), step("body"), step("last"))()
    failed = chord([step("e"), step("f", "fail")], step("g"))()
    assert ended(result) == "SUCCESS"
    assert result.get(timeout=5) == [
        "last",
        ["body", [["a", ["first"]], ["c", ["b", ["first"]]], ["d", ["first"]]]],
    ]
    assert ended(failed) == "FAILURE"
    wait_until(nothing_waits, "everything has run")


def test_what_a_worker_that_is_stopped_leaves_is_done_by_the_next(workers: Workers) -> None:
    body = ends.count.si(77).set(queue="left")
    chord([ends.counted.si(0).set(queue="left") for _ in range(200)], body).apply_async()
    first = workers.start("-c", "2", "-Q", "left", IMPORTS=IMPORTS)
    wait_until(lambda: query("SELECT ended > 20 FROM djtasks_chord") == [(True,)], "a part of it is done")
    assert first.stop() == 0
    assert query("SELECT count(*) FROM effect") == [(0,)]
    workers.start("-c", "2", "-Q", "left", IMPORTS=IMPORTS)
    wait_until(nothing_waits, "everything has run")
    assert query("SELECT number FROM effect") == [(77,)]


def test_each_next_step_comes_once_however_often_children_and_workers_are_killed(workers: Workers) -> None:
    def start() -> RunningWorker:
        return workers.start("-c", "2", "-Q", "storm", IMPORTS=IMPORTS, TASK_MAX_CRASHES=1000)

    started = [start() for _ in range(2)]
    member = ends.counted.si(0).set(queue="storm")
    bodies = [ends.count.si(number).set(queue="storm") for number in range(20)]
    chains = [chain(*(member.clone() for _ in range(10)), body) for body in bodies[:10]]
    group(chains + [chord([member.clone() for _ in range(20)], body) for body in bodies[10:]]).apply_async()
    for turn in range(6):
        victim = started[turn % 2]
        before = query("SELECT count(*) FROM djtasks_result")
        if turn == 3:
            victim.signal(signal.SIGKILL)
            victim.wait()
            started[turn % 2] = start()
        else:
            for process in victim.server.children()[:1]:
                process.kill()
        wait_until(
            lambda before=before: query("SELECT count(*) FROM djtasks_result") != before or nothing_waits(),  # type: ignore[misc]
            "something goes on",
        )
    wait_until(nothing_waits, "everything has run", 60.0)
    numbers = Counter(number for (number,) in query("SELECT number FROM effect"))
    assert numbers == Counter(range(20))
