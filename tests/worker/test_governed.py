"""Rates, limits, unique keys and paused queues under real workers, killed ones among them."""

import signal
import time
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from djtasks import commanding
from djtasks.db import notify, queues
from djtasks.db.connections import open_private
from tests.waits import wait_until as wait_long
from tests.worker.running import DEADLINE, Audit, Gate, Workers, ended, query, taken, value, wait_until, waits
from tests.worker_app import limited
from tests.worker_app import tasks as app

OPTIONS: dict[str, Any] = {"IMPORTS": ["tests.worker_app.limited"]}


def left() -> int:
    """How many messages there are."""
    return int(query("SELECT count(*) FROM djtasks_message")[0][0])


def times(audit: Audit) -> list[float]:
    """When tasks ran, in order."""
    return sorted(line["time"] for line in audit.lines("ran"))


# -- rates --------------------------------------------------------------------------------------------------------


def test_a_rate_is_kept_and_spaced_evenly(workers: Workers, audit: Audit) -> None:
    workers.start("-c", "2", **OPTIONS)
    limited.twenty_a_second.bulk_apply_async(((number,), {}) for number in range(60))
    wait_until(lambda: not left(), "all have run")
    found = times(audit)
    assert len(found) == 60
    assert found[-1] - found[0] == pytest.approx(59 / 20, rel=0.05)
    gaps = [later - earlier for earlier, later in pairwise(found)]
    # Evenly, as far as the machine has time for it.
    assert sorted(gaps)[len(gaps) // 2] == pytest.approx(1 / 20, rel=0.2)
    assert sorted(audit.numbers()) == list(range(60))


def test_the_first_gap_after_an_idle_time_is_as_even_as_the_others(workers: Workers, audit: Audit) -> None:
    workers.start("-c", "2", **OPTIONS, WORKER_POLL_INTERVAL=60)
    wait_until(lambda: query("SELECT 1 FROM djtasks_worker WHERE idle") != [], "the worker sleeps")
    for number in range(4):
        limited.twenty_a_second.delay(number)
    wait_until(lambda: not left(), "all have run", 10)
    assert len(times(audit)) == 4


def test_each_worker_has_a_rate_of_its_own(workers: Workers, audit: Audit) -> None:
    for _ in range(2):
        workers.start("-c", "1", **OPTIONS)
    limited.twenty_a_second.bulk_apply_async(((number,), {}) for number in range(200))
    wait_until(lambda: not left(), "all have run")
    found = times(audit)
    # The second one hears of what the first has set aside a second later.
    assert found[-1] - found[0] == pytest.approx(200 / 40, rel=0.2)
    assert len({line["pid"] for line in audit.lines("ran")}) == 2


def test_a_rate_of_all_workers_together_is_kept_by_all(workers: Workers, audit: Audit) -> None:
    for _ in range(2):
        workers.start("-c", "2", **OPTIONS)
    limited.twenty_a_second_in_all.bulk_apply_async(((number,), {}) for number in range(60))
    wait_until(lambda: not left(), "all have run")
    found = times(audit)
    assert len(found) == 60
    assert found[-1] - found[0] == pytest.approx(59 / 20, rel=0.05)


def test_a_rate_blocks_no_other_task(workers: Workers, audit: Audit) -> None:
    workers.start("-c", "1", **OPTIONS)
    limited.twenty_a_second.bulk_apply_async(((number,), {}) for number in range(5000))
    assert value(app.echo.delay("hello"), 5) == "hello"
    assert left() > 4000


def test_the_default_rate_is_that_of_tasks_that_name_none(workers: Workers, audit: Audit) -> None:
    workers.start("-c", "1", TASK_DEFAULT_RATE_LIMIT="10/s", **OPTIONS)
    app.noted.bulk_apply_async(((number,), {}) for number in range(15))
    wait_until(lambda: not left(), "all have run")
    found = times(audit)
    assert found[-1] - found[0] == pytest.approx(1.4, rel=0.1)


def test_the_rate_of_a_running_worker_can_be_changed(workers: Workers, audit: Audit) -> None:
    workers.start("-c", "1", TASK_DEFAULT_RATE_LIMIT="1/h", **OPTIONS)
    app.noted.bulk_apply_async(((number,), {}) for number in range(20))
    wait_until(audit.numbers, "the first has run")
    [answer] = commanding.rate_limit(app.noted.name, "50/s", reply=True, timeout=5)
    assert list(answer.values()) == [{"ok": "new rate limit set successfully"}]
    wait_until(lambda: not left(), "all have run")


def test_calls_one_after_the_other_wait_for_their_rate_and_no_longer(workers: Workers, audit: Audit) -> None:
    workers.start("-c", "1", **OPTIONS)
    limited.twenty_a_second.delay(0).get(timeout=DEADLINE)
    began = time.monotonic()
    for number in range(1, 5):
        limited.twenty_a_second.delay(number).get(timeout=DEADLINE)
    assert time.monotonic() - began < 1.0


def test_of_what_was_set_aside_the_higher_priority_and_the_older_starts_first(workers: Workers, audit: Audit) -> None:
    workers.start("-c", "1", **OPTIONS)
    limited.twenty_a_second.bulk_apply_async(((number,), {}) for number in range(30))
    limited.twenty_a_second.bulk_apply_async((((100 + number,), {}) for number in range(3)), priority=5)
    wait_until(lambda: not left(), "all have run")
    numbers = audit.numbers()
    assert max(numbers.index(100 + number) for number in range(3)) < 20
    plain = [number for number in numbers if number < 100]
    assert plain == sorted(plain)


def test_a_worker_may_keep_no_rates(workers: Workers, audit: Audit) -> None:
    workers.start("-c", "1", WORKER_DISABLE_RATE_LIMITS=True, **OPTIONS)
    limited.twenty_a_second.bulk_apply_async(((number,), {}) for number in range(100))
    wait_until(lambda: not left(), "all have run", 4)


def test_what_one_worker_has_set_aside_another_one_runs(workers: Workers, audit: Audit) -> None:
    first = workers.start("-c", "1", **OPTIONS)
    limited.twenty_a_second.bulk_apply_async(((number,), {}) for number in range(200))
    wait_until(
        lambda: query("SELECT count(*) FROM djtasks_message WHERE reason = 'rate'")[0][0] > 100, "they are set aside"
    )
    first.signal(signal.SIGKILL)
    workers.start("-c", "2", WORKER_DISABLE_RATE_LIMITS=True, **OPTIONS)
    wait_until(lambda: not left(), "all have run")
    assert set(audit.numbers()) <= set(range(200))


# -- limits -------------------------------------------------------------------------------------------------------


def most_at_a_time(audit: Audit) -> int:
    """How many of a key have run at the same time. One whose process was killed runs until it has run again."""
    inside: dict[str, set[str]] = {}
    most = 0
    for line in sorted(audit.lines(), key=lambda line: line["time"]):
        members = inside.setdefault(line["key"], set())
        (members.add if line["event"] == "enter" else members.discard)(line["id"])
        most = max(most, len(members))
    return most


def test_no_more_of_a_key_run_than_may_and_all_of_them_do(workers: Workers, audit: Audit) -> None:
    for _ in range(2):
        workers.start("-c", "4", **OPTIONS)
    results = [limited.two_of_a_key.delay(f"{number % 3}", 0.2) for number in range(36)]
    wait_until(lambda: not left(), "all have run")
    assert most_at_a_time(audit) == 2
    assert {result.state for result in results} == {"SUCCESS"}


def test_a_full_limit_blocks_no_other_task(workers: Workers, gate: Gate) -> None:
    workers.start("-c", "4", **OPTIONS)
    held = [limited.alone.delay(str(gate)) for _ in range(20)]
    assert value(app.echo.delay("hello")) == "hello"
    wait_until(lambda: sum(taken(each) for each in held) == 1, "one of them runs")
    gate.open()
    assert {ended(each) for each in held} == {"SUCCESS"}


def test_a_limited_call_in_bulk_and_in_a_transaction_runs(workers: Workers) -> None:
    workers.start("-c", "2", **OPTIONS)
    results = limited.two_of_a_key.bulk_apply_async(((f"{number}", 0.0), {}) for number in range(1200))
    later = limited.two_of_a_key.apply_async(("x", 0.0), countdown=0.5)
    wait_until(lambda: not left(), "all have run")
    assert later.state == results[0].state == results[-1].state == "SUCCESS"


def test_limits_hold_under_four_workers_of_which_one_is_killed_every_second(workers: Workers, audit: Audit) -> None:
    settings = {**OPTIONS, "WORKER_HEARTBEAT_INTERVAL": 0.5, "WORKER_DEAD_AFTER": 3.0, "TASK_MAX_CRASHES": 100}
    running = [workers.start("-c", "2", **settings) for _ in range(4)]
    results = limited.two_of_a_key.bulk_apply_async(((f"{number % 4}", 0.03), {}) for number in range(1200))
    until = time.monotonic() + 20
    while time.monotonic() < until and left():
        running.pop(0).signal(signal.SIGKILL)
        running.append(workers.start("-c", "2", **settings))
    wait_long(lambda: not left(), "all have ended", 60)
    assert most_at_a_time(audit) <= 2
    assert Counter(result.state for result in results) == {"SUCCESS": 1200}
    assert len({line["id"] for line in audit.lines("leave")}) == 1200


# -- unique keys --------------------------------------------------------------------------------------------------


def test_a_running_task_holds_its_key_until_it_has_ended(workers: Workers, audit: Audit, gate: Gate) -> None:
    workers.start("-c", "2", **OPTIONS)
    first = limited.unique_report.delay(1, str(gate))
    audit.began(first)
    assert limited.unique_report.delay(1).id == first.id
    gate.open()
    assert value(first) == 1
    second = limited.unique_report.delay(1)
    assert second.id != first.id
    assert value(second) == 1


# -- paused queues ------------------------------------------------------------------------------------------------


def test_nothing_is_taken_from_a_paused_queue_until_it_is_resumed(workers: Workers) -> None:
    workers.start("-c", "1", "-Q", "celery,b")
    assert value(app.echo.delay(1)) == 1
    with open_private("test") as conn:
        assert queues.pause(conn, ["b"], by="me") == ["b"]
        assert queues.pause(conn, ["b"]) == []
        time.sleep(1.0)
        paused = app.echo.apply_async((2,), queue="b")
        assert value(app.echo.delay(3)) == 3
        assert waits(paused)
        assert queues.resume(conn, ["b"]) == ["b"]
        notify.ring_workers(conn, {"b"}, 1)
        assert value(paused) == 2


def test_a_worker_whose_queues_are_all_paused_waits(workers: Workers) -> None:
    with open_private("test") as conn:
        queues.pause(conn, ["celery"])
        worker = workers.start("-c", "1")
        result = app.echo.delay(1)
        worker.registered()
        time.sleep(0.5)
        assert waits(result)
        queues.resume(conn, ["celery"])
        assert value(result) == 1
