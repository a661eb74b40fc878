"""What an ordinary day of a worker is made of: one worker with two children, for all tests here."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from tests.worker.running import Gate, RunningWorker, Workers, ended, error, query, row, value, wait_until
from tests.worker_app import tasks

#: Much longer than any test lasts: what is picked up sooner was rung for.
POLL = 300


@pytest.fixture(scope="module", autouse=True)
def worker(shared: Workers) -> RunningWorker:
    return shared.start("-c", "2", WORKER_POLL_INTERVAL=POLL)


def test_a_call_is_run_and_its_result_is_stored(worker: RunningWorker) -> None:
    result = tasks.echo.delay({"n": [1, None, "ä"]})
    assert value(result) == {"n": [1, None, "ä"]}
    assert result.state == "SUCCESS"
    assert result.worker == f"{worker.name}@here"
    assert row(result) is None


def test_an_idle_worker_is_rung_and_does_not_poll(shared: Workers) -> None:
    for _ in range(5):
        asked = time.monotonic()
        result = tasks.noted.delay()
        ended(result)
        assert shared.audit.lines("ran", result)[0]["time"] - asked < 1.0


def test_a_call_made_in_a_transaction_is_rung_for_after_its_commit(shared: Workers) -> None:
    with transaction.atomic():
        result = tasks.noted.delay()
        assert query("SELECT 1 FROM djtasks_message") == []
    assert ended(result, 10) == "SUCCESS"


def test_the_log_says_received_and_succeeded_in_one_line_each_and_not_the_arguments(worker: RunningWorker) -> None:
    result = tasks.swallow.delay("what nobody is to read")
    ended(result)
    said = worker.says(f"tasks.swallow[{result.id}] succeeded in ")
    lines = [line for line in said.splitlines() if result.id in line]
    assert len(lines) == 2, lines
    assert lines[0].endswith(f"Task tests.worker_app.tasks.swallow[{result.id}] received")
    assert "INFO/MainProcess" in lines[0]
    assert "INFO/ForkPoolWorker-" in lines[1]
    assert "what nobody is to read" not in said


def test_three_thousand_calls_end_in_success_exactly_once(shared: Workers) -> None:
    results = tasks.noted.bulk_apply_async(([number], {}) for number in range(3000))
    ids = {result.id for result in results}
    wait_until(lambda: not query("SELECT 1 FROM djtasks_message LIMIT 1"), "all have ended")
    states = query("SELECT state, count(*) FROM djtasks_result WHERE id = ANY (%s::uuid[]) GROUP BY 1", list(ids))
    assert states == [("SUCCESS", 3000)]
    ran = [line["id"] for line in shared.audit.lines("ran") if line["id"] in ids]
    assert len(ran) == 3000
    assert set(ran) == ids


@pytest.mark.parametrize("option", ["countdown", "eta"])
def test_a_call_for_later_runs_in_time_and_not_early(shared: Workers, option: str) -> None:
    asked = time.monotonic()
    when = {"countdown": 1.0} if option == "countdown" else {"eta": datetime.now(UTC) + timedelta(seconds=1)}
    result = tasks.noted.apply_async([1], **when)
    assert ended(result) == "SUCCESS"
    late = shared.audit.lines("ran", result)[0]["time"] - asked - 1.0
    assert 0 <= late < 1.2


def test_a_call_whose_time_is_over_is_revoked_and_never_runs(worker: RunningWorker, shared: Workers) -> None:
    result = tasks.noted.apply_async([1], countdown=0.4, expires=0.1)
    assert ended(result) == "REVOKED"
    assert f"{type(result.result).__name__}: {result.result}" == "TaskRevokedError: expired"
    worker.says(f"Discarding revoked task: tests.worker_app.tasks.noted[{result.id}]")
    assert shared.audit.lines("ran", result) == []


def test_an_exception_is_stored_with_its_traceback(worker: RunningWorker) -> None:
    result = tasks.fail.delay("no such luck")
    assert error(result) == "ValueError: no such luck"
    assert result.traceback is not None
    assert "in fail" in result.traceback
    worker.says(f"Task tests.worker_app.tasks.fail[{result.id}] raised unexpected: ValueError('no such luck')")


def test_a_retried_task_runs_again_under_the_same_id(shared: Workers) -> None:
    result = tasks.retried.delay()
    assert value(result) == 2
    assert [line["retries"] for line in shared.audit.lines("ran", result)] == [0, 1, 2]


def test_a_retry_takes_members_of_enumerations_as_what_they_stand_for() -> None:
    assert value(tasks.retried_by_enumeration.delay()) == [9, "celery"]


def test_a_state_of_the_tasks_own_can_be_read_while_it_runs(gate: Gate) -> None:
    result = tasks.halfway.delay(str(gate))
    wait_until(lambda: result.state == "HALFWAY", "the state is stored")
    assert result.info == {"done": 50}
    gate.open()
    assert value(result) == "done"


def test_started_names_the_process_that_runs_the_task(worker: RunningWorker, gate: Gate) -> None:
    result = tasks.started.delay(str(gate))
    wait_until(lambda: result.state == "STARTED", "the state is stored")
    info = result.info
    gate.open()
    assert info == {"pid": value(result), "hostname": f"{worker.name}@here"}


def test_arguments_and_results_of_many_megabytes_pass_through_the_pool() -> None:
    text = "many megabytes " * 400_000
    results = [tasks.echo.delay([number, text]) for number in range(4)]
    assert [value(result) == [number, text] for number, result in enumerate(results)] == [True] * 4


def test_children_have_no_database_session_but_those_that_tasks_open(gate: Gate, shared: Workers) -> None:
    results = [tasks.session.delay(str(gate)) for _ in range(2)]
    for result in results:
        shared.audit.began(result)
    # Not those of the tests' own process: what looks on, and what waits for results.
    mine = query("SELECT pid FROM pg_stat_activity WHERE application_name ~ '^djtasks (?!test|waiting)'")
    gate.open()
    found = [value(result) for result in results]
    assert [each["before"] for each in found] == [False, False]
    backends = {each["backend"] for each in found}
    assert len(backends) == len({each["pid"] for each in found}) == 2
    assert not backends & {pid for (pid,) in mine}
    assert len(mine) == 2


def test_a_session_that_breaks_in_one_task_is_none_of_the_next_ones_business(gate: Gate) -> None:
    broken = [tasks.break_session.delay() for _ in range(2)]
    assert {ended(result) for result in broken} == {"FAILURE"}
    assert all(value(tasks.session.delay())["before"] is False for _ in range(4))
