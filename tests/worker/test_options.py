"""What `runworker` can be told, and what it makes of tasks that it does not know."""

import argparse
import os
import socket
from pathlib import Path

import pytest

from djtasks.cli import worker as cli
from tests.other_app.tasks import elsewhere
from tests.worker.running import Workers, ended, error, query, value, wait_until, waits
from tests.worker_app import tasks


def test_a_worker_takes_from_the_queues_it_is_told_but_the_excluded_and_says_who_and_where_it_is(
    workers: Workers, tmp_path: Path
) -> None:
    here, excluded, other = (tasks.echo.apply_async([1], queue=name) for name in ("a", "b", "d"))
    log = tmp_path / "said.log"
    worker = workers.launch("-Q", "a,b,c", "-X", "b", "-n", "probe@%h", "-l", "INFO", "-f", str(log), "-c", "2")
    assert ended(here) == "SUCCESS"
    assert here.worker == f"probe@{socket.gethostname()}"
    assert waits(excluded)
    assert waits(other)
    banner = worker.says("[tasks]")
    queues = banner[banner.index("[queues]") : banner.index("[tasks]")]
    assert [line.strip() for line in queues.splitlines()[1:] if line.strip()] == [".> a", ".> c"]
    assert f"probe@{socket.gethostname()}" in banner
    assert ".> concurrency: 2 (prefork)" in banner
    wait_until(lambda: f"echo[{here.id}] succeeded" in log.read_text(), "the log is in the file")
    assert f"probe@{socket.gethostname()} ready." in log.read_text()
    assert "  . tests.worker_app.tasks.echo\n" in worker.log
    assert "succeeded" not in worker.log


def test_a_quiet_worker_shows_no_banner_and_has_a_child_for_each_cpu(workers: Workers) -> None:
    worker = workers.start("-q")
    assert "[queues]" not in worker.log
    worker.children(len(os.sched_getaffinity(0)))
    worker.stop()


def test_purge_throws_away_what_waits_in_its_queues_now_or_for_later_and_nothing_else(workers: Workers) -> None:
    now = tasks.noted.delay()
    later = tasks.noted.apply_async(countdown=1000)
    other = tasks.noted.apply_async(queue="other")
    worker = workers.start("--purge", "-Q", "celery")
    assert query("SELECT id::text FROM djtasks_message") == [(other.id,)]
    assert not now.exists()
    assert not later.exists()
    assert "Purged 2 messages from celery" in worker.log
    assert value(tasks.echo.delay("after")) == "after"
    assert workers.audit.lines("ran", now) == []


def test_a_child_is_replaced_after_so_many_tasks_and_none_is_lost(workers: Workers) -> None:
    workers.start("-c", "1", "--max-tasks-per-child", "3")
    results = [tasks.pid.delay() for _ in range(10)]
    pids = [value(result) for result in results]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3, 1]


def test_a_child_that_has_taken_too_much_memory_is_replaced_after_its_task(workers: Workers) -> None:
    worker = workers.start("-c", "1", "--max-memory-per-child", "150000")
    small = [value(tasks.allocate.delay(1)) for _ in range(2)]
    large = value(tasks.allocate.delay(200))
    after = value(tasks.pid.delay())
    assert small == [large, large]
    assert after != large
    worker.says("uses more than 150000 KiB")


def test_prefetch_multiplier_bounds_what_a_child_is_given(workers: Workers) -> None:
    gate = workers.gate()
    workers.start("-c", "1", "--prefetch-multiplier", "1")
    for result in tasks.noop.bulk_apply_async(([], {}) for _ in range(200)):
        ended(result)
    held = tasks.hold.delay(str(gate))
    workers.audit.began(held)
    behind = [tasks.noop.delay() for _ in range(5)]
    assert query("SELECT count(*) FROM djtasks_message WHERE owner IS NOT NULL") == [(1,)]
    assert all(waits(each) for each in behind)
    gate.open()
    assert ended(held) == "SUCCESS"


def test_a_higher_priority_runs_first_and_equal_ones_in_their_order(workers: Workers) -> None:
    order = [0, 5, -5, 5, 0, 100, -100, 0]
    results = [tasks.noted.apply_async([number], priority=priority) for number, priority in enumerate(order)]
    workers.start("-c", "1")
    for result in results:
        ended(result)
    assert workers.audit.numbers() == [5, 1, 3, 0, 4, 7, 2, 6]


def test_a_task_that_a_worker_does_not_know_waits_for_one_that_does(workers: Workers) -> None:
    ignorant = workers.start("-c", "1")
    result = elsewhere.delay()
    ignorant.says("Received unregistered task of type 'tests.other_app.tasks.elsewhere'")
    assert value(tasks.echo.delay("meanwhile")) == "meanwhile"
    assert waits(result)
    knowing = workers.start("-c", "1", apps="tests.other_app")
    assert value(result, 10) == "ran elsewhere"
    assert result.worker == f"{knowing.name}@here"
    again = elsewhere.delay()
    assert value(again) == "ran elsewhere"
    assert ignorant.log.count("Received unregistered task") == 1


def test_a_task_that_a_worker_does_not_know_fails_where_that_is_wanted(workers: Workers) -> None:
    workers.start("-c", "1", ON_UNKNOWN_TASK="fail")
    assert error(elsewhere.delay()) == "NotRegistered: 'tests.other_app.tasks.elsewhere'"


def test_arguments_are_in_the_log_where_that_is_wanted(workers: Workers) -> None:
    worker = workers.start("-c", "1", LOG_ARGUMENTS=True)
    value(tasks.echo.delay("what everybody may read"))
    worker.says("what everybody may read")


def test_a_setting_stands_in_for_an_option(workers: Workers) -> None:
    worker = workers.start("-q", WORKER_POOL="threads", WORKER_CONCURRENCY=3)
    assert query("SELECT pool, concurrency FROM djtasks_worker WHERE pid = %s", worker.pid) == [("threads", 3)]


def test_a_worker_says_in_its_row_who_it_is_from_the_start(workers: Workers) -> None:
    worker = workers.start("-c", "2", "-Q", "a,b")
    found = query(
        "SELECT name, host, pid, process_group, pool, concurrency, queues::text FROM djtasks_worker WHERE pid = %s",
        worker.pid,
    )
    assert found == [
        (f"{worker.name}@here", socket.gethostname(), worker.pid, worker.server.pid, "prefork", 2, '["a", "b"]')
    ]
    assert {os.getpgid(child.pid) for child in worker.children(2)} == {worker.server.pid}


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_what_runs_before_the_fork_is_named_where_it_could_do_harm(workers: Workers, pool: str) -> None:
    worker = workers.start("-c", "2", "-P", pool, apps="tests.careless_app,tests.worker_app")
    gate = workers.gate()
    results = [tasks.session.delay(str(gate)) for _ in range(2)]
    for result in results:
        workers.audit.began(result)
    gate.open()
    found = [value(result) for result in results]
    assert [each["before"] for each in found] == [False, False]
    assert len({each["backend"] for each in found}) == 2
    assert ("Threads run before the worker forks: careless-thread." in worker.log) is (pool == "prefork")


@pytest.mark.parametrize(
    ("options", "multiplier"),
    [([], 0), (["-O", "fair"], 0), (["-Ofair", "--prefetch-multiplier", "4"], 4), (["--disable-prefetch"], 1)],
)
def test_celerys_options_against_prefetching_are_understood(options: list[str], multiplier: int) -> None:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    assert cli.worker_options(vars(parser.parse_args(options))).prefetch_multiplier == multiplier
