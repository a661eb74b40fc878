"""Every way in which a step of a workflow can end: what stands behind it ends as well, and nothing is left behind."""

from collections.abc import Iterator
from typing import Any

import pytest

from djtasks import AsyncResult, Task, chain, chord, control, group, shared_task
from djtasks.db.connections import borrow, rows
from djtasks.exceptions import ChordError, Ignore, TaskAlreadyQueued, TaskRevokedError
from djtasks.registry import tasks
from djtasks.requeue import requeue
from djtasks.testing import drain, run_pending
from tests.calling.conftest import Configure
from tests.storage.calls import committed

pytestmark = pytest.mark.django_db

ran: list[Any] = []
fails = True


@shared_task(name="exits.step")
def step(*args: Any) -> Any:
    ran.append(args)
    return args[-1] if args else None


@shared_task(name="exits.fails_at_first")
def fails_at_first(*args: Any) -> Any:
    if fails:
        raise LookupError("no")
    return step.run("at last")


@shared_task(name="exits.ignored")
def ignored(*args: Any) -> None:
    raise Ignore


@shared_task(name="exits.unique", unique=True)
def unique(number: int) -> int:
    return number


@shared_task(name="exits.newest", unique=True, on_conflict="replace")
def newest(number: int) -> int:
    ran.append(number)
    return number


@shared_task(name="exits.quiet", ignore_result=True)
def quiet(value: Any = 7) -> Any:
    return value


@pytest.fixture(autouse=True)
def _registered(registry: dict[str, Any]) -> Iterator[None]:
    tasks.update({task.name: task for task in globals().values() if isinstance(task, Task)})
    ran.clear()
    globals()["fails"] = True
    yield
    left = rows(borrow(), "SELECT (SELECT count(*) FROM djtasks_chord) + (SELECT count(*) FROM djtasks_part)")
    assert left == [(0,)], "a chord, or a part of one, is left behind"


def states(*results: Any) -> list[str]:
    """The states, and of what never ran the reason."""
    return [f"{each.state} {each.result}" if each.state == "REVOKED" else each.state for each in results]


def reason(result: Any) -> str:
    assert isinstance(result.result, ChordError)
    return str(result.result).partition(" raised ")[2]


# -- revoked, expired, purged -------------------------------------------------------------------------------------


@committed
def test_a_purge_ends_what_stands_behind_what_it_throws_away() -> None:
    last = chain(step.si(1), step.si(2), step.si(3))()
    body = chord([step.si(1), chain(step.si(2), step.si(3))], step.s())()
    alone = step.delay()
    assert control.purge(["celery"]) == 4
    assert states(last.parent.parent, last.parent, last) == ["REVOKED purged"] * 3
    assert (body.state, reason(body)) == ("FAILURE", "TaskRevokedError('purged')")
    assert alone.state == "PENDING"
    assert drain() == []


@committed
def test_a_revoked_step_takes_along_what_stands_behind_it() -> None:
    last = chain(step.si(1), step.si(2), step.si(3))()
    last.parent.parent.revoke()
    assert states(last.parent.parent, last.parent, last) == ["REVOKED revoked"] * 3
    body = chord([step.si(1), step.si(2)], step.s())()
    body.parent.results[1].revoke()
    drain()
    assert (body.state, reason(body), ran) == ("FAILURE", "TaskRevokedError('revoked')", [(1,)])
    with pytest.raises(TaskRevokedError):
        body.get(timeout=1)


@committed
def test_a_step_that_waits_for_its_turn_is_revoked_when_that_comes() -> None:
    last = chain(step.si(1), step.si(2), step.si(3))()
    body = chord([step.si(1), step.si(2)], step.s())()
    behind = chain(group(step.si(1), step.si(2)), step.s(), step.s())()
    for each in (last.parent, body, behind.parent):
        each.revoke()
    drain()
    assert states(last.parent.parent, last.parent, last) == ["SUCCESS", "REVOKED revoked", "REVOKED revoked"]
    assert states(body, behind.parent, behind) == ["REVOKED revoked"] * 3
    assert len(ran) == 5


@committed
def test_a_revoked_workflow_leaves_nothing() -> None:
    first = step.si(0)
    last = chain(first, group(step.si(1), chain(step.si(2), step.si(3))), step.s(), step.s())()
    root = last.parent.parent.parent
    run_pending()
    control.revoke(root.id, workflow=True)
    assert states(root, last.parent, last) == ["SUCCESS", "FAILURE", "FAILURE"]
    assert drain() == []


def test_a_step_that_expires_takes_along_what_stands_behind_it() -> None:
    last = chain(step.si(1).set(expires=0.0), step.si(2))()
    body = chord([step.si(1).set(expires=0.0), step.si(2)], step.s())()
    drain()
    assert states(last.parent, last) == ["REVOKED expired"] * 2
    assert (body.state, reason(body)) == ("FAILURE", "TaskRevokedError('expired')")


# -- ignored ------------------------------------------------------------------------------------------------------


def test_behind_a_step_that_is_ignored_nothing_runs() -> None:
    last = chain(ignored.si(), step.si(2), step.si(3))()
    body = chord([chain(ignored.si(), step.si(2)), step.si(1)], step.s())()
    drain()
    assert states(last.parent.parent, last.parent, last) == ["PENDING", "REVOKED ignored", "REVOKED ignored"]
    assert (body.state, reason(body), ran) == ("FAILURE", "TaskRevokedError('ignored')", [(1,)])


def test_what_is_ignored_is_none_among_the_results_of_its_chord() -> None:
    body = chord([ignored.si(), step.si(1), quiet.si()], step.s())()
    drain()
    assert body.get(timeout=1) == [None, 1, 7]


# -- unique keys --------------------------------------------------------------------------------------------------


def test_a_step_whose_unique_key_is_taken_fails() -> None:
    first = unique.delay(1)
    last = chain(unique.si(1), step.s())()
    body = chord([unique.si(1), step.si(1)], step.s())()
    later = chain(step.si(0), unique.si(1), step.s())()
    drain()
    assert first.get(timeout=1) == 1
    assert isinstance(last.parent.result, TaskAlreadyQueued)
    assert isinstance(body.parent.results[0].result, TaskAlreadyQueued)
    assert states(last.parent, last, body) == ["FAILURE"] * 3
    # By then the key was free again.
    assert states(later.parent, later) == ["SUCCESS"] * 2


@pytest.mark.parametrize("enqueue", ["on_commit", "in_transaction"])
def test_what_stands_behind_a_step_that_another_call_replaces_ends_with_it(enqueue: str, configure: Configure) -> None:
    configure(ENQUEUE=enqueue)
    last = chain(newest.si(1), step.s())()
    body = chord([newest.si(2), step.si(1)], step.s())()
    for number in (1, 2):
        newest.delay(number)
    drain()
    assert states(last.parent, last) == ["REVOKED replaced"] * 2
    assert (body.state, reason(body)) == ("FAILURE", "TaskRevokedError('replaced')")


# -- run again ----------------------------------------------------------------------------------------------------


@committed
def test_a_step_that_is_put_back_goes_on_with_its_chain() -> None:
    last = chain(fails_at_first.si(), step.s(), step.s())()
    drain()
    assert states(last.parent.parent, last.parent, last) == ["FAILURE"] * 3
    globals()["fails"] = False
    requeue([last.parent.parent.id])
    drain()
    assert AsyncResult(last.id).get(timeout=1) == "at last"


@committed
def test_a_member_that_is_put_back_does_not_count_again() -> None:
    body = chord([fails_at_first.si(), step.si(1)], step.s())()
    drain()
    assert body.state == "FAILURE"
    globals()["fails"] = False
    requeue([body.parent.results[0].id])
    drain()
    assert states(*body.parent.results, body) == ["SUCCESS", "SUCCESS", "FAILURE"]


def test_a_copy_of_a_members_call_is_no_part_of_its_chord() -> None:
    @shared_task(name="exits.copies", bind=True)
    def copies(self: Any, again: bool = True) -> int:
        if again:
            self.signature_from_request(args=(False,), task_id=None).set(task_id=None).apply_async()
        return 1

    body = chord([copies.s(), step.si(2)], step.s())()
    drain()
    assert body.get(timeout=1) == [1, 2]
