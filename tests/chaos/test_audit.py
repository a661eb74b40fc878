"""The audit finds what is wrong; it is what the chaos runs stand on."""

from pathlib import Path

import pytest

from tests.chaos.audit import Fault, Ledger, Result, Run, Stored, Verdict, most_in_doubt, read_runs

ONE, TWO = "01900000-0000-7000-8000-000000000001", "01900000-0000-7000-8000-000000000002"


def call(serial: int, task_id: str, name: str = "late", event: str = "accepted", time: float = 10.0) -> str:
    """A line of the producer's ledger."""
    return f"{event} {serial} {task_id} {name} on_commit {time}\n"


def run(serial: int, task_id: str, token: str, retries: int = 0, claim: int = 5) -> Run:
    """A run by the worker w."""
    return Run(serial, task_id, retries, "w", 77, claim, token, 10.5)


def result(task_id: str, value: str | None, state: str = "SUCCESS", **fields: object) -> Result:
    """A result that the worker w has written."""
    plain = Result(task_id, state, "late", value, 1, 5, "w", 11.0)
    return plain._replace(**fields)  # type: ignore[arg-type]


def stored(*results: Result, waiting: set[str] | None = None, **fields: object) -> Stored:
    """What is stored: nothing odd, unless `fields` say so."""
    plain = Stored({each.id: each for each in results}, waiting or set(), {each.id: 1 for each in results}, {}, {})
    return plain._replace(**fields)  # type: ignore[arg-type]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """One late call, accepted."""
    path = tmp_path / "ledger"
    path.write_text(call(1, "-", event="try") + call(1, ONE))
    return Ledger(path)


def judge(ledger: Ledger, runs: list[Run], found: Stored, *faults: Fault) -> list[str]:
    """The problems."""
    return Verdict(ledger, runs, found, faults).problems


def test_a_task_that_ran_once_and_left_its_result_is_fine(ledger: Ledger) -> None:
    assert judge(ledger, [run(1, ONE, "a")], stored(result(ONE, "a"))) == []


def test_a_task_without_an_end_is_lost(ledger: Ledger) -> None:
    assert judge(ledger, [run(1, ONE, "a")], stored()) == [f"1 lost: {ONE}"]
    waiting = judge(ledger, [], stored(waiting={ONE}))
    assert waiting == [f"1 lost: {ONE}", f"1 left in the queue: {ONE}"]


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (result(ONE, "b"), "comes from no run"),
        (result(ONE, None), "comes from no run"),
        (result(ONE, "a", claim=6), "its writer 6 of w"),
        (result(ONE, "a", worker="x"), "its writer 5 of x"),
        (result(ONE, "ValueError", "FAILURE"), "failed with ValueError"),
        (result(ONE, None, "REVOKED"), "ended as REVOKED"),
    ],
)
def test_a_result_that_is_no_run_s_own_is_stale(ledger: Ledger, written: Result, why: str) -> None:
    (problem,) = judge(ledger, [run(1, ONE, "a")], stored(written))
    assert problem.startswith("1 stale")
    assert why in problem


def test_a_result_of_another_task_s_run_is_stale(ledger: Ledger) -> None:
    found = judge(ledger, [run(1, ONE, "a"), run(2, TWO, "b")], stored(result(ONE, "b")))
    assert "comes from no run of this task" in found[0]


def test_a_result_that_was_written_by_one_declared_dead_is_stale(ledger: Ledger) -> None:
    late = stored(result(ONE, "a", done=12.0), deaths={1: 11.5})
    assert "0.500 s after its worker w had been declared dead" in judge(ledger, [run(1, ONE, "a")], late)[0]
    in_time = stored(result(ONE, "a", done=11.0), deaths={1: 11.5})
    assert judge(ledger, [run(1, ONE, "a")], in_time) == []


def test_an_end_that_is_written_twice_or_changes_after_it_was_seen_is_stale(ledger: Ledger) -> None:
    twice = stored(result(ONE, "a"), ends={ONE: 2})
    assert judge(ledger, [run(1, ONE, "a")], twice) == [f"1 stale: {ONE}: ended 2 times"]
    changed = stored(result(ONE, "a"), seen={ONE: ("FAILURE", "WorkerLostError")})
    assert "was seen as ('FAILURE', 'WorkerLostError')" in judge(ledger, [run(1, ONE, "a")], changed)[0]
    gone = stored(seen={ONE: ("SUCCESS", "a")})
    assert "is now None" in judge(ledger, [run(1, ONE, "a")], gone)[1]


def test_what_ran_again_must_have_been_in_doubt(ledger: Ledger) -> None:
    runs = [run(1, ONE, "a"), run(1, ONE, "b")]
    assert judge(ledger, runs, stored(result(ONE, "b")))[0].startswith("1 ran again or ended with their worker")
    assert judge(ledger, runs, stored(result(ONE, "b")), Fault("a child killed", 10.0, doubt=1)) == []


def test_a_retry_is_no_second_run_of_the_same_attempt(ledger: Ledger) -> None:
    assert judge(ledger, [run(1, ONE, "a"), run(1, ONE, "b", retries=1)], stored(result(ONE, "b"))) == []


def test_an_early_task_never_runs_twice(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_text(call(1, ONE, "early"))
    found = stored(result(ONE, "b", name="early"))
    doubt = Fault("a worker killed", 10.0, doubt=5, children=2)
    assert judge(Ledger(path), [run(1, ONE, "a"), run(1, ONE, "b")], found, doubt) == [
        "early tasks ran 1 times too often"
    ]


def test_a_task_that_ended_with_its_worker_must_have_been_in_doubt(ledger: Ledger) -> None:
    found = stored(result(ONE, "WorkerLostError", "FAILURE", worker=None))
    assert len(judge(ledger, [], found)) == 1
    assert judge(ledger, [], found, Fault("a worker killed", 10.0, doubt=1, children=2)) == []


def test_a_fault_leaves_no_more_in_doubt_than_is_promised(ledger: Ledger) -> None:
    fault = Fault("a worker killed", 10.0, doubt=most_in_doubt(2) + 1, children=2)
    (problem,) = judge(ledger, [run(1, ONE, "a")], stored(result(ONE, "a")), fault)
    assert "were in doubt, over" in problem


def test_a_task_without_a_result_has_ended_when_it_ran_and_its_message_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_text(call(1, ONE, "late_silent"))
    assert judge(Ledger(path), [run(1, ONE, "a")], stored()) == []
    assert judge(Ledger(path), [], stored()) == [f"1 lost: {ONE}"]


def test_what_was_rolled_back_must_not_run_and_a_call_has_one_id(ledger: Ledger, tmp_path: Path) -> None:
    dropped = tmp_path / "dropped"
    dropped.write_text(call(2, TWO, event="dropped") + call(1, ONE))
    runs = [run(1, ONE, "a"), run(2, TWO, "b")]
    assert judge(Ledger(dropped), runs, stored(result(ONE, "a"))) == ["1 rolled back, and run: 2"]
    found = stored(result(ONE, "a"))
    assert judge(ledger, [run(1, ONE, "a"), run(1, TWO, "b")], found) == ["1 enqueued under two ids: 1"]


def test_recovery_is_the_longest_wait_of_what_was_there_when_it_broke(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_text(call(1, ONE, time=9.0) + call(2, TWO, time=21.0))
    found = stored(result(ONE, "a", done=12.5), result(TWO, "b", done=30.0))
    verdict = Verdict(Ledger(path), [], found, [Fault("it broke", 10.0), Fault("and again", 20.0)])
    assert verdict.recovery == 2.5


def test_runs_are_read_from_the_file_that_tasks_write(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    path.write_text(f"begin 1 {ONE} 0 w 77 5 a 10.5\nend a 11.0\n")
    assert read_runs(path) == [run(1, ONE, "a")]
    assert read_runs(tmp_path / "none") == []
