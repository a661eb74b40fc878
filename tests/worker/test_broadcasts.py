"""Broadcasts, and queues of one worker alone: real workers, calls of every kind, and a worker that is killed."""

import json
import signal
from collections import Counter
from collections.abc import Iterator
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import override_settings

from djtasks import AsyncResult, Broadcast, app, chain, worker_direct
from tests.worker.running import RunningWorker, Workers, query, value, wait_until, waits
from tests.worker_app import tasks

SETTINGS = {
    "WORKER_DIRECT": True,
    "TASK_QUEUES": {"celery": {}, "news": {"broadcast": True}},
    "TASK_CREATE_MISSING_QUEUES": False,
}
POOL = ("-c", "1", "-P", "threads")


@pytest.fixture(autouse=True)
def declared() -> Iterator[None]:
    """The queues, as the callers have them."""
    with override_settings(DJTASKS={**SETTINGS, "TASK_QUEUES": ["celery", Broadcast("news")]}):
        yield


def two(workers: Workers) -> tuple[RunningWorker, RunningWorker]:
    """Two workers that hear the news."""
    launched = [workers.launch("-l", "INFO", *POOL, **SETTINGS) for _ in range(2)]
    first, second = (worker.ready() for worker in launched)
    return first, second


def node(worker: RunningWorker) -> str:
    """Its name."""
    return f"{worker.name}@here"


def runs(workers: Workers) -> Counter[tuple[int, int]]:
    """How often each process has run each number."""
    return Counter((line["pid"], line["number"]) for line in workers.audit.lines("ran"))


def test_every_worker_runs_its_copy_however_the_call_was_made(workers: Workers) -> None:
    both = two(workers)
    sent: list[AsyncResult[int]] = [tasks.noted.apply_async([0], queue="news")]
    with transaction.atomic():
        sent += [
            tasks.noted.apply_async([number], queue="news", enqueue=mode)
            for number, mode in enumerate(("on_commit", "in_transaction", "immediately"), 1)
        ]
        assert not runs(workers)[both[0].pid, 1]
    sent += list(tasks.noted.bulk_apply_async((((number,), None) for number in range(4, 9)), queue="news"))
    sent.append(tasks.noted.apply_async([9], queue=Broadcast("news"), countdown=0.3, task_id="nightly"))
    # What follows it follows once.
    follows = chain(tasks.noted.si(10).set(queue="news"), tasks.noted.si(100)).apply_async()
    assert [value(result) for result in sent] == list(range(10))
    assert value(follows) == 100
    wanted = Counter((worker.pid, number) for worker in both for number in range(11))
    wait_until(lambda: sum(runs(workers).values()) > sum(wanted.values()), "all copies have run")
    [extra] = (runs(workers) - wanted).items()
    assert extra[0][1] == 100
    wait_until(lambda: not query("SELECT FROM djtasks_message"), "nothing is left")
    # A copy is a task of its own, with a result of its own.
    copies = query("SELECT state, worker FROM djtasks_result WHERE parent_id = %s", sent[0].id)
    assert [state for state, _ in copies] == ["SUCCESS"]
    assert {copies[0][1], sent[0].worker} == {node(worker) for worker in both}
    # Who comes later has missed it.
    late = workers.start(*POOL, **SETTINGS)
    assert value(tasks.echo.apply_async(["ready"], queue=worker_direct(node(late)))) == "ready"
    assert late.pid not in {pid for pid, _ in runs(workers)}
    assert app.control.cancel_consumer("news", destination=[node(late)], reply=True, timeout=20)
    value(tasks.noted.apply_async([11], queue="news"))
    wait_until(lambda: sum(count for (_, number), count in runs(workers).items() if number == 11) == 2, "both ran it")
    assert app.control.add_consumer("news", destination=[node(late)], reply=True, timeout=20)
    value(tasks.noted.apply_async([12], queue="news"))
    wait_until(lambda: runs(workers)[late.pid, 12], "it hears the news again")


def test_a_queue_of_one_worker_waits_for_that_worker_and_is_listed(workers: Workers) -> None:
    first, second = two(workers)
    for worker in (first, second):
        assert value(tasks.pid.apply_async(queue=worker_direct(node(worker)))) == worker.pid
    assert second.stop() == 0
    left = tasks.echo.apply_async(["for the second"], queue=worker_direct(node(second)))
    value(tasks.echo.delay("others go on"))
    assert waits(left)
    said = StringIO()
    call_command("djtasks", "list", "queues", "--json", stdout=said)
    [row] = [row for row in json.loads(said.getvalue()) if row["queue"] == f"{node(second)}.dq"]
    assert (row["messages"], row["workers"]) == (1, 0)
    workers.start(*POOL, "-n", node(second), **SETTINGS)
    assert value(left) == "for the second"


def test_a_worker_that_is_killed_loses_no_news_and_hears_the_rest_when_it_comes_back(workers: Workers) -> None:
    first, second = two(workers)
    count = 200
    sent = tasks.noted_late.bulk_apply_async((((number,), None) for number in range(count)), queue="news")
    wait_until(lambda: runs(workers), "the news is running")
    first.signal(signal.SIGKILL)
    back = workers.launch("-l", "INFO", *POOL, "-n", node(first), **SETTINGS)
    assert sorted(value(result) for result in sent) == list(range(count))
    wait_until(lambda: not query("SELECT FROM djtasks_message"), "nothing is left")
    found = runs(workers)
    heard = {number: {pid for pid, each in found if each == number} for number in range(count)}
    # What was passed on while it was dead has no copy for it; what was before, it runs after all.
    assert all(second.pid in pids for pids in heard.values())
    assert back.pid in set().union(*heard.values())
    ids = [result.id for result in sent]
    passed_on = query("SELECT count(*) FROM djtasks_result WHERE parent_id = ANY (%s::uuid[])", ids)[0][0]
    assert passed_on == sum(len(pids & {first.pid, back.pid}) > 0 for pids in heard.values())
