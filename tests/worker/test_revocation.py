"""Revocation, on real workers: what waits never runs, what runs is ended, and nothing else is hit."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import transaction

from djtasks import AsyncResult, app
from djtasks.exceptions import TaskRevokedError
from tests.worker.running import Gate, RunningWorker, Workers, ended, hand_over, living, query, value, wait_until, waits
from tests.worker_app import revocable, tasks

MODULE = "tests.worker_app.revocable"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the workers' receivers of task_revoked write."""
    return tmp_path_factory.mktemp("told") / "revoked"


@pytest.fixture(scope="module", autouse=True)
def worker(shared: Workers, told: Path) -> RunningWorker:
    return shared.launch("-l", "INFO", "-c", "2", environment={"REVOKED": str(told)}, IMPORTS=[MODULE]).ready()


@pytest.fixture(autouse=True)
def no_revocation() -> Iterator[None]:
    yield
    query("DELETE FROM djtasks_revocation")


def why(result: AsyncResult[None]) -> str:
    """With what a revoked task ended."""
    assert ended(result) == "REVOKED"
    assert isinstance(result.result, TaskRevokedError)
    return str(result.result)


def signals_of(told: Path, result: AsyncResult[None]) -> list[str]:
    lines = told.read_text().splitlines() if told.exists() else []
    return [line.partition(" ")[2] for line in lines if line.startswith(result.id)]


def test_a_task_that_waits_is_revoked_at_once_and_never_runs(shared: Workers) -> None:
    soon, late = tasks.noted.apply_async(queue="nobody"), tasks.noted.apply_async(countdown=3600)
    assert app.control.revoke([soon.id, late]) == {soon.id: "prevented", late.id: "prevented"}
    assert (soon.state, late.state) == ("REVOKED", "REVOKED")
    assert why(soon) == why(late) == "revoked"
    assert shared.audit.lines("ran", soon) == []
    assert query("SELECT count(*) FROM djtasks_message") == [(0,)]
    with pytest.raises(TaskRevokedError, match="revoked"):
        soon.get(timeout=1)


def test_a_running_task_goes_on_when_it_is_revoked_without_terminate(shared: Workers, gate: Gate) -> None:
    result = tasks.hold.delay(str(gate))
    shared.audit.began(result)
    assert result.revoke() == {result.id: "running"}
    gate.open()
    assert isinstance(value(result), int)


def test_a_running_task_is_terminated_within_a_second(
    worker: RunningWorker, shared: Workers, gate: Gate, told: Path
) -> None:
    result = tasks.hold.delay(str(gate))
    pid = shared.audit.began(result)["pid"]
    (other,) = [child for child in worker.children(2) if child.pid != pid]
    began = time.monotonic()
    assert result.revoke(terminate=True) == {result.id: "signalled"}
    assert why(result) == "terminated"
    assert time.monotonic() - began < 1.0
    assert living([other])
    assert len(worker.children(2)) == 2
    wait_until(lambda: signals_of(told, result), "task_revoked was sent")
    assert signals_of(told, result) == ["hold True 15 False"]
    assert not shared.audit.lines("end", result)


@pytest.mark.parametrize("sign", ["KILL", "SIGTERM", "HUP", 2, "SIGUSR2"])
def test_any_signal_ends_the_task(shared: Workers, sign: str | int) -> None:
    result = tasks.sleepy.delay()
    shared.audit.began(result)
    assert app.control.terminate(result.id, signal=sign) == {result.id: "signalled"}
    assert why(result) == "terminated"


@pytest.mark.parametrize("how", ["sum", "re"])
def test_a_task_in_c_code_is_terminated_within_a_second_too(shared: Workers, how: str) -> None:
    result = tasks.hold_in_c.delay(how)
    shared.audit.began(result)
    began = time.monotonic()
    result.revoke(terminate=True)
    assert why(result) == "terminated"
    assert time.monotonic() - began < 1.5


def test_a_task_that_takes_the_signal_for_nothing_is_killed(shared: Workers) -> None:
    result = revocable.deaf.delay()
    shared.audit.began(result)
    result.revoke(terminate=True)
    assert why(result) == "terminated"
    assert len(shared.audit.lines("term", result)) == 1


def test_the_child_that_has_gone_on_to_another_task_is_never_hit(shared: Workers) -> None:
    others = []
    for _ in range(150):
        brief = tasks.spin.delay(0.002)
        others.append(tasks.spin.delay(0.003))
        brief.revoke(terminate=True)
        assert ended(brief) in ("SUCCESS", "REVOKED")
    assert {ended(other) for other in others} == {"SUCCESS"}


def test_an_unknown_task_is_refused_when_it_comes(shared: Workers, told: Path) -> None:
    result: AsyncResult[None] = AsyncResult("of-tomorrow")
    assert app.control.revoke("of-tomorrow") == {"of-tomorrow": "noted"}
    assert result.state == "REVOKED"
    assert not result.exists()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=5)
    tasks.noted.apply_async(task_id="of-tomorrow")
    tasks.noted.apply_async([1], task_id="of-tomorrow", countdown=0.2)
    wait_until(lambda: not query("SELECT 1 FROM djtasks_message"), "it is gone")
    assert result.state == "REVOKED"
    assert shared.audit.lines("ran") == []
    wait_until(lambda: signals_of(told, result), "task_revoked was sent")
    assert signals_of(told, result)[0] == "noted False None False"


def test_a_task_that_has_ended_stays_as_it_is() -> None:
    result = tasks.echo.delay(7)
    assert value(result) == 7
    assert result.revoke(terminate=True) == {result.id: "done"}
    assert result.state == "SUCCESS"
    assert query("SELECT count(*) FROM djtasks_revocation") == [(0,)]


def test_inside_a_transaction_it_is_revoked_at_the_commit_and_not_after_a_rollback() -> None:
    kept = tasks.noted.apply_async(queue="nobody")
    with transaction.atomic():
        assert kept.revoke() == {kept.id: "pending"}
        transaction.set_rollback(True)
    assert waits(kept)
    with transaction.atomic():
        called = tasks.noted.apply_async(queue="nobody")
        assert app.control.revoke([kept, called]) == {kept.id: "pending", called.id: "pending"}
        assert waits(kept)
    assert (kept.state, called.state) == ("REVOKED", "REVOKED")


def test_immediately_does_not_wait_for_the_commit() -> None:
    result = tasks.noted.apply_async(queue="nobody")
    with transaction.atomic():
        assert result.revoke(immediately=True) == {result.id: "prevented"}
        transaction.set_rollback(True)
    assert result.state == "REVOKED"


def test_a_call_that_is_revoked_before_its_commit_never_runs(shared: Workers) -> None:
    with transaction.atomic():
        result = tasks.noted.delay()
        assert result.revoke(immediately=True) == {result.id: "noted"}
    assert why(result) == "revoked"
    assert shared.audit.lines("ran", result) == []


def test_a_revoked_task_that_asks_for_a_retry_does_not_run_again(shared: Workers, gate: Gate) -> None:
    result = revocable.come_back.delay(str(gate), 0.01)
    shared.audit.began(result)
    result.revoke()
    gate.open()
    assert why(result) == "revoked"
    assert len(shared.audit.lines("begin", result)) == 1


def test_what_lies_behind_a_run_is_taken_back_before_it_begins(shared: Workers, gate: Gate) -> None:
    shared.start("-c", "1", "-Q", "one")
    held, behind = hand_over("one", tasks.hold, gate, [tasks.noted] * 5)
    victim, *others = behind
    victim.revoke()
    assert why(victim) == "revoked"
    assert not held.ready()
    gate.open()
    assert {ended(each) for each in [held, *others]} == {"SUCCESS"}
    assert shared.audit.lines("ran", victim) == []


def test_a_workflow_is_revoked_with_all_that_its_tasks_call(shared: Workers, gate: Gate) -> None:
    first = revocable.spawn.apply_async([str(gate), 5])
    shared.audit.began(first)
    wait_until(lambda: len(query("SELECT 1 FROM djtasks_message WHERE root_id = %s", first.id)) >= 1, "it has called")
    said = first.revoke(terminate=True, workflow=True)
    assert first.id in said
    assert len(said) > 1
    assert set(said.values()) <= {"prevented", "signalled"}
    wait_until(lambda: not query("SELECT 1 FROM djtasks_message"), "all have ended")
    assert query("SELECT DISTINCT state FROM djtasks_result WHERE id = ANY(%s::uuid[])", list(said)) == [("REVOKED",)]
    late = tasks.noted.apply_async(root_id=first.id)
    assert why(late) == "revoked"


def test_a_thousand_tasks_are_revoked_at_once() -> None:
    results = list(tasks.noop.bulk_apply_async((([], {}) for _ in range(1000)), queue="nobody"))
    said = app.control.revoke(results)
    assert len(said) == 1000
    assert set(said.values()) == {"prevented"}
    assert query("SELECT state, count(*) FROM djtasks_result WHERE id = ANY(%s::uuid[]) GROUP BY 1", list(said)) == [
        ("REVOKED", 1000)
    ]


def test_a_revocation_outlives_the_workers(workers: Workers, gate: Gate) -> None:
    result: AsyncResult[None] = AsyncResult("beyond-a-restart")
    workers.start("-Q", "restart").stop()
    app.control.revoke(result)
    workers.start("-Q", "restart")
    tasks.noted.apply_async(task_id="beyond-a-restart", queue="restart")
    tasks.noted.apply_async([3], queue="restart")
    wait_until(lambda: workers.audit.lines("ran"), "the other one has run")
    assert [line["number"] for line in workers.audit.lines("ran")] == [3]


def test_a_task_without_a_result_is_revoked_too(shared: Workers, gate: Gate) -> None:
    waiting = revocable.quiet.apply_async([str(gate)], countdown=60)
    assert waiting.revoke() == {waiting.id: "prevented"}
    again: AsyncResult[None] = AsyncResult(waiting.id)
    assert again.state == "REVOKED"


def test_by_stamps(shared: Workers, gate: Gate) -> None:
    stamped = {"stamped_headers": ["monitor", "tenant"], "monitor": "a", "tenant": ["x", "y"]}
    waiting = tasks.noted.apply_async(queue="nobody", **stamped)
    other = tasks.noted.apply_async(queue="nobody", stamped_headers=["tenant"], tenant="z")
    running = tasks.hold.apply_async([str(gate)], **stamped)
    shared.audit.began(running)
    said = app.control.revoke_by_stamped_headers({"tenant": ["y", "w"]}, terminate=True)
    assert said == {waiting.id: "prevented", running.id: "signalled"}
    assert why(running) == "terminated"
    assert waits(other)
    late = tasks.noted.apply_async(**stamped)
    assert why(late) == "revoked"
    assert app.control.revoke_by_stamped_headers(["tenant=z"]) == {other.id: "prevented"}


def test_through_a_result_stamps_are_revoked_as_well() -> None:
    result = tasks.noted.apply_async(queue="nobody", stamped_headers=["tenant"], tenant=5)
    assert result.revoke_by_stamped_headers({"tenant": "5"}) == {}
    assert result.revoke_by_stamped_headers({"tenant": 5}) == {result.id: "prevented"}


def test_a_worker_that_hears_no_rings_looks_by_itself(workers: Workers, database: str, gate: Gate) -> None:
    behind_a_proxy = {"DATABASE_URL": f"{database}?DISABLE_SERVER_SIDE_CURSORS=true"}
    workers.launch("-l", "INFO", "-c", "1", "-Q", "deaf", environment=behind_a_proxy).ready()
    result = tasks.hold.apply_async([str(gate)], queue="deaf")
    workers.audit.began(result)
    began = time.monotonic()
    assert result.revoke(terminate=True) == {result.id: "signalled"}
    assert why(result) == "terminated"
    assert time.monotonic() - began < 3.0


def test_a_task_in_a_thread_is_not_terminated_and_the_worker_says_so(workers: Workers, gate: Gate) -> None:
    worker = workers.start("-P", "threads", "-c", "1", "-Q", "threads")
    result = tasks.hold.apply_async([str(gate)], queue="threads")
    workers.audit.began(result)
    assert result.revoke(terminate=True) == {result.id: "running"}
    worker.says("was to be terminated and goes on: the threads pool can end no task that runs")
    gate.open()
    assert isinstance(value(result), int)


def test_a_late_ack_task_that_is_terminated_does_not_run_again(shared: Workers, gate: Gate) -> None:
    result = tasks.hold_late.delay(str(gate))
    shared.audit.began(result)
    result.revoke(terminate=True, signal="KILL")
    assert why(result) == "terminated"
    assert len(shared.audit.lines("begin", result)) == 1


def test_an_option_that_there_is_not_is_refused_and_a_brokers_is_not() -> None:
    with pytest.raises(TypeError, match="'terminat'"):
        app.control.revoke("x", terminat=True)
    with pytest.raises(TypeError, match="list of the names"):
        app.control.ping(destination="celery@here")
    assert app.control.revoke("x", connection=None) == {"x": "noted"}


def test_replies_have_celerys_shape(worker: RunningWorker) -> None:
    result = tasks.noop.apply_async(queue="nobody")
    (reply,) = app.control.revoke(result.id, reply=True, destination=[f"{worker.name}@here"])
    assert reply == {f"{worker.name}@here": {"ok": f"tasks {{'{result.id}'}} flagged as revoked"}}
    (reply,) = app.control.terminate(result.id, reply=True, destination=[f"{worker.name}@here"])
    assert reply == {f"{worker.name}@here": {"ok": "terminate: tasks unknown"}}


@pytest.mark.parametrize(
    ("ids", "signal", "error"),
    [
        (None, "TERM", TypeError),
        ("", "TERM", TypeError),
        ([b"x"], "TERM", TypeError),
        ([1], "TERM", TypeError),
        ("a\ud800", "TERM", ValueError),
        ("x", "SIGWHAT", ValueError),
        ("x", 0, ValueError),
        ("x", 4096, ValueError),
        ("x", True, TypeError),
        ("x", 1.5, TypeError),
    ],
)
def test_malformed_ids_and_unknown_signals_are_refused_at_the_call(
    ids: object, signal: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"task_id|signal"):
        app.control.revoke(ids, terminate=True, signal=signal)
    assert query("SELECT count(*) FROM djtasks_revocation") == [(0,)]


@pytest.mark.parametrize("headers", [None, {}, [], "a=b", ["a"], {"a": object()}, {1: "b"}])
def test_stamps_that_are_none_are_refused_at_the_call(headers: object) -> None:
    with pytest.raises((TypeError, ValueError), match="stamp"):
        app.control.revoke_by_stamped_headers(headers)


def test_a_workflow_that_grows_while_it_is_revoked_ends(shared: Workers) -> None:
    first = revocable.breed.delay(6)
    shared.audit.began(first)
    wait_until(lambda: len(query("SELECT 1 FROM djtasks_message WHERE root_id = %s", first.id)) >= 8, "it has grown")
    first.revoke(workflow=True)
    wait_until(lambda: not query("SELECT 1 FROM djtasks_message"), "none is left")
    begun = len(shared.audit.lines("begin"))
    assert tasks.echo.delay(1).get(timeout=10) == 1
    assert len(shared.audit.lines("begin")) == begun
    assert query("SELECT count(*) > 0 FROM djtasks_result WHERE state = 'REVOKED' AND done IS NOT NULL") == [(True,)]
