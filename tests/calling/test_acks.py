"""Acks: what of a task's message is left when its run does not end well."""

from typing import Any

import pytest

from djtasks import Task, acks, shared_task
from djtasks.exceptions import Ignore, Reject
from djtasks.messages import Again
from djtasks.payload import unpack_exception
from djtasks.worker.losses import outcome_of_limit, outcome_of_loss
from tests.calling.conftest import Configure, Runner, claimed, message_of

LATE = {"acks_late": True}


def task_with(**options: Any) -> Task[..., Any]:
    """A task with these options, which fails."""

    def acked() -> None:
        raise ValueError("no")

    made: Task[..., Any] = shared_task(name="tests.acked", **options)(acked)
    return made


@pytest.mark.parametrize(
    ("options", "settings", "failure", "timeout"),
    [
        ({}, {}, True, True),
        ({"acks_on_failure_or_timeout": False}, {}, True, True),
        (LATE, {}, True, True),
        ({**LATE, "acks_on_failure_or_timeout": False}, {}, False, False),
        ({**LATE, "acks_on_failure": False}, {}, False, True),
        ({**LATE, "acks_on_timeout": False}, {}, True, False),
        ({**LATE, "acks_on_failure_or_timeout": False, "acks_on_failure": True}, {}, True, False),
        (LATE, {"TASK_ACKS_ON_FAILURE_OR_TIMEOUT": False}, False, False),
        (LATE, {"TASK_ACKS_ON_FAILURE": False}, False, True),
        (LATE, {"TASK_ACKS_ON_TIMEOUT": False}, True, False),
        ({**LATE, "acks_on_failure": True}, {"TASK_ACKS_ON_FAILURE": False}, True, True),
        ({**LATE, "acks_on_failure_or_timeout": True}, {"TASK_ACKS_ON_FAILURE": False}, False, True),
        ({}, {"TASK_ACKS_LATE": True, "TASK_ACKS_ON_FAILURE_OR_TIMEOUT": False}, False, False),
        ({"atomic": True, "acks_on_failure": False}, {}, False, True),
    ],
)
def test_the_option_beats_its_setting_which_beats_the_option_for_both(
    options: dict[str, Any], settings: dict[str, Any], failure: bool, timeout: bool, configure: Configure
) -> None:
    configure(**settings)
    task = task_with(**options)
    assert (acks.on_failure(task), acks.on_timeout(task)) == (failure, timeout)


def test_a_late_task_that_acks_no_failure_becomes_a_dead_letter_when_it_fails(run: Runner) -> None:
    outcome = run(task_with(acks_late=True, acks_on_failure=False))
    assert (outcome.state, outcome.dead, outcome.keep, outcome.store) == ("FAILURE", "failed", True, True)


def test_a_failure_that_is_acknowledged_is_no_dead_letter(run: Runner) -> None:
    assert run(task_with(**LATE)).dead is None


def test_a_rejected_task_is_a_dead_letter(run: Runner) -> None:
    @shared_task
    def refuse() -> None:
        raise Reject("broken", requeue=False)

    outcome = run(refuse)
    assert (outcome.state, outcome.dead, outcome.keep) == ("FAILURE", "rejected", True)


def test_a_dead_letter_is_stored_although_the_result_is_ignored(run: Runner) -> None:
    @shared_task(ignore_result=True)
    def refuse() -> None:
        raise Reject("broken", requeue=False)

    outcome = run(refuse)
    assert (outcome.store, outcome.dead) == (True, "rejected")
    assert outcome.result is not None
    assert str(unpack_exception(outcome.result, outcome.content_type, "")) == "reject requeue=False: broken"


def test_a_message_that_cannot_be_read_is_a_dead_letter_whatever_its_task_says(run: Runner) -> None:
    task = task_with(ignore_result=True)
    outcome = run.trace(claimed(message_of(task), body=b"{", name=task.name))
    assert (outcome.state, outcome.dead, outcome.store, outcome.keep) == ("FAILURE", "undecodable", True, True)


def test_a_message_of_an_unknown_task_is_a_dead_letter_where_it_is_failed(run: Runner) -> None:
    outcome = run.trace(claimed(message_of(task_with()), name="tests.nobody"))
    assert (outcome.state, outcome.dead) == ("FAILURE", "unknown")


def test_an_ignored_task_is_none(run: Runner) -> None:
    @shared_task(acks_late=True, acks_on_failure=False)
    def ignored() -> None:
        raise Ignore

    outcome = run(ignored)
    assert (outcome.state, outcome.dead, outcome.store) == ("IGNORED", None, False)


def test_a_rejection_with_requeue_runs_again_and_is_redelivered_then(run: Runner) -> None:
    seen: list[bool] = []

    @shared_task(bind=True)
    def put_back(self: Task[..., Any]) -> None:
        assert self.request.delivery_info is not None
        seen.append(self.request.delivery_info["redelivered"])
        raise Reject("later", requeue=True)

    outcome = run(put_back)
    assert (outcome.state, outcome.again) == ("REJECTED", Again(counts=False))
    run(put_back, changes={"redelivered": True})
    run(put_back, changes={"crashes": 1})
    assert seen == [False, True, True]


def test_a_retried_run_that_failed_is_no_dead_letter(run: Runner) -> None:
    @shared_task(bind=True, acks_late=True, acks_on_failure=False)
    def again(self: Task[..., Any]) -> None:
        self.retry(throw=False, countdown=1)
        raise ValueError("no")

    outcome = run(again)
    assert (outcome.state, outcome.dead) == ("RETRY", None)


# -- losses and hard limits ---------------------------------------------------------------------------------------


def held(task: Task[..., Any], **fields: Any) -> Any:
    """A message of the task, in a worker's hands."""
    return claimed(message_of(task), rerun=acks.runs_again(task), **fields)


def test_too_many_lost_processes_make_a_dead_letter() -> None:
    task = task_with(**LATE)
    assert outcome_of_loss(held(task, crashes=2), "signal 9") is None
    outcome = outcome_of_loss(held(task, crashes=3), "signal 9")
    assert outcome is not None
    assert (outcome.state, outcome.dead) == ("FAILURE", "crashed")


@pytest.mark.parametrize(("acked", "dead"), [(True, None), (False, "failed")])
def test_a_lost_late_task_that_is_not_to_run_again_ends_as_its_failures_do(acked: bool, dead: str | None) -> None:
    task = task_with(**LATE, reject_on_worker_lost=False, acks_on_failure=acked)
    outcome = outcome_of_loss(held(task), "signal 9")
    assert outcome is not None
    assert (outcome.state, outcome.dead) == ("FAILURE", dead)


def test_a_hard_limit_ends_a_task() -> None:
    outcome = outcome_of_limit(held(task_with(**LATE)), 5.0)
    assert outcome is not None
    assert (outcome.state, outcome.dead) == ("FAILURE", None)


def test_without_an_ack_a_hard_limit_is_a_crash_and_the_last_one_makes_a_dead_letter() -> None:
    task = task_with(**LATE, acks_on_timeout=False)
    assert outcome_of_limit(held(task, crashes=2), 5.0) is None
    outcome = outcome_of_limit(held(task, crashes=3), 5.0)
    assert outcome is not None
    assert (outcome.state, outcome.dead) == ("FAILURE", "crashed")


def test_an_atomic_task_runs_again_when_its_process_is_lost() -> None:
    assert acks.runs_again(task_with(atomic=True))
