"""Sharing queues: a thousand of them on one worker, one of them flooded; and queues of one worker alone."""

from djtasks import app
from tests.worker.running import RunningWorker, Workers, query, value, wait_until
from tests.worker_app import tasks

TENANTS = [f"tenant {number}" for number in range(1000)]


def test_of_a_thousand_queues_the_flooded_one_comes_behind_all_others(workers: Workers) -> None:
    gate = workers.gate()
    held = tasks.hold.apply_async([str(gate)], queue=TENANTS[0], priority=1)
    flood = tasks.noted.bulk_apply_async((((0,), None) for _ in range(400)), queue=TENANTS[0])
    worker = workers.start("-c", "1", "-P", "threads", "--prefetch-multiplier", "1", "-Q", ",".join(TENANTS))
    workers.audit.began(held)
    # They are called behind the flood, while the worker is at its first task.
    others = [tasks.noted.apply_async([number], queue=TENANTS[number]) for number in range(1, 1000, 19)]
    gate.open()
    for result in others:
        value(result)
    order = workers.audit.numbers()
    last = max(place for place, number in enumerate(order) if number)
    # What it had in hand already, and at the most what it began until it looked at its queues again.
    assert order[: last + 1].count(0) < 100
    assert len(order[: last + 1]) - order[: last + 1].count(0) == len(others)
    cancelled_and_added_while_it_works(worker)
    wait_until(flood[-1].ready, "the flood has run")
    wait_until(lambda: workers.audit.numbers().count(0) == len(flood), "all of the flood has run")


def cancelled_and_added_while_it_works(worker: RunningWorker) -> None:
    """One of a thousand queues more, and one less."""
    node = [f"{worker.name}@here"]
    assert app.control.cancel_consumer(TENANTS[1], destination=node, reply=True, timeout=20)
    assert app.control.add_consumer("one more", destination=node, reply=True, timeout=20)
    assert value(tasks.echo.apply_async(["found"], queue="one more")) == "found"
    waiting = tasks.echo.apply_async(["not taken"], queue=TENANTS[1])
    # What is called after it, in another queue, runs before it.
    assert [value(tasks.echo.apply_async([name], queue=name)) for name in TENANTS[2:5]] == TENANTS[2:5]
    assert not waiting.ready()
    assert query("SELECT jsonb_array_length(queues) FROM djtasks_worker WHERE pid = %s", worker.pid) == [(1000,)]
    assert app.control.add_consumer(TENANTS[1], destination=node, reply=True, timeout=20)
    assert value(waiting) == "not taken"
