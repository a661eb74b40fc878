"""The results of several tasks: as one, saved and restored, waited for together."""

import asyncio
import json
import pickle
import threading
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from djtasks import AsyncResult, EagerResult, GroupResult, ResultSet, app, result_from_tuple, shared_task
from djtasks.db import groups
from djtasks.db.connections import borrow
from djtasks.exceptions import ImproperlyConfigured, NotEnqueuedYet, TaskRevokedError, TimeoutError
from djtasks.ids import new_task_id
from tests.calling.conftest import Configure, work
from tests.waits import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@shared_task(name="sets.echo")
def echo(x: Any = None) -> Any:
    return x


@shared_task(name="sets.fail")
def fail(text: str = "no") -> None:
    raise LookupError(text)


@shared_task(name="sets.quiet", ignore_result=True)
def quiet() -> None:
    return None


@pytest.fixture(autouse=True)
def defined(registry: dict[str, Any]) -> None:
    for task in (echo, fail, quiet):
        registry[task.name] = task


def go(coroutine: Any) -> Any:
    """Run a coroutine, and leave no session behind."""

    async def main() -> Any:
        try:
            return await coroutine
        finally:
            await sync_to_async(connections.close_all)()

    return asyncio.run(main())


def queries_of(act: Any) -> tuple[Any, int]:
    """What an act gives, and how many queries it took."""
    with CaptureQueriesContext(connection) as queries:
        answer = act()
    return answer, len(queries)


# -- the members --------------------------------------------------------------------------------------------------


def test_the_members_of_a_set_can_be_changed() -> None:
    first, second, third = (AsyncResult[Any](name) for name in ("first", "second", "third"))
    results = ResultSet([first])
    results.add(second)
    results.add(AsyncResult("second"))
    results.update([second, third, third])
    assert [each.id for each in results] == ["first", "second", "third"]
    assert (len(results), results[1], results[-1].id) == (3, "second", "third")
    results.remove("second")
    results.discard("second")
    results.discard(third)
    assert results == ResultSet([AsyncResult("first")])
    with pytest.raises(KeyError):
        results.remove("second")
    results.clear()
    assert not results
    assert repr(ResultSet([first, second])) == "<ResultSet: [first, second]>"


def test_an_empty_set_has_ended_well() -> None:
    results = ResultSet([])
    assert (results.ready(), results.successful(), results.failed(), results.waiting()) == (True, True, False, False)
    assert (results.completed_count(), results.get(), list(results.iter_native())) == (0, [], [])


def test_members_are_added_to_the_lazy_results_of_many_calls() -> None:
    results = GroupResult("g", echo.bulk_apply_async([((number,), None) for number in range(3)]))
    results.add(echo.delay(3))
    work()
    assert results.get(timeout=10) == [0, 1, 2, 3]


# -- how they stand -----------------------------------------------------------------------------------------------


def test_the_progress_of_a_thousand_tasks_is_one_query() -> None:
    results = GroupResult("g", echo.bulk_apply_async([((number,), None) for number in range(1500)]))
    assert queries_of(results.completed_count) == (0, 1)
    work()
    assert queries_of(results.completed_count) == (1000, 1)
    assert queries_of(results.ready) == (False, 1)
    assert queries_of(results.waiting) == (True, 1)
    work()
    assert queries_of(results.states) == ({"SUCCESS": 1500}, 1)
    assert queries_of(results.successful) == (True, 1)


def test_a_set_tells_how_its_members_ended() -> None:
    good, bad, late = echo.delay(1), fail.delay(), echo.apply_async((2,), queue="slow")
    gone = echo.delay(3)
    gone.revoke()
    work()
    results = ResultSet([good, bad, late, gone, good])
    assert results.states() == {"SUCCESS": 2, "FAILURE": 1, "REVOKED": 1}
    assert (results.ready(), results.failed(), results.successful()) == (False, True, False)
    assert results.completed_count() == 2
    assert not ResultSet([gone]).failed()
    assert ResultSet([gone]).ready()


def test_a_group_in_a_group_counts_as_one_and_is_asked_for_with_the_others() -> None:
    members = [echo.delay(number) for number in range(4)]
    results = GroupResult("outer", [members[0], GroupResult("inner", members[1:3]), GroupResult("other", members[3:])])
    work()
    fail.apply_async(task_id="failed")
    results.add(GroupResult("third", [AsyncResult("failed")]))
    assert queries_of(results.completed_count) == (3, 1)
    work()
    assert results.completed_count() == 3
    assert results.failed()
    assert results.get(timeout=10, propagate=False)[:3] == [0, [1, 2], [3]]


def test_what_is_revoked_before_anybody_knows_it_has_ended_for_a_set_too() -> None:
    app.control.revoke("not yet known")
    results = ResultSet([AsyncResult("not yet known")])
    assert results.states() == {"REVOKED": 1}
    with pytest.raises(TaskRevokedError):
        results.get(timeout=10)


def test_what_has_run_already_need_not_be_asked_for() -> None:
    results = ResultSet([echo.apply((1,)), EagerResult("x", 2, "SUCCESS")])
    assert queries_of(lambda: (results.get(), results.ready(), results.completed_count())) == (([1, 2], True, 2), 0)


def test_the_first_failed_one_in_order_is_thrown() -> None:
    results = ResultSet([echo.delay(1), fail.delay("first"), fail.delay("second")])
    results.maybe_throw()
    work()
    with pytest.raises(LookupError, match="first"):
        results.maybe_throw()
    with pytest.raises(LookupError, match="first"):
        results.maybe_reraise()
    seen: list[Any] = []
    results.maybe_throw(callback=lambda task_id, value: seen.append(value), propagate=False)
    assert [str(each) for each in seen] == ["1", "first", "second"]


# -- waiting ------------------------------------------------------------------------------------------------------


def test_all_are_waited_for_and_stand_in_their_order() -> None:
    results = GroupResult("g", [echo.delay(number) for number in range(5)])
    thread = threading.Timer(0.05, work)
    thread.start()
    seen: list[Any] = []
    assert results.get(timeout=10, on_interval=lambda: seen.append(1), interval=0.01) == [0, 1, 2, 3, 4]
    thread.join()
    assert seen
    assert results.join() == results.join_native() == [0, 1, 2, 3, 4]
    assert queries_of(results.get) == ([0, 1, 2, 3, 4], 0)


def test_a_callback_is_given_each_value_instead() -> None:
    results = ResultSet([echo.delay(1), echo.delay(2)])
    work()
    seen: list[Any] = []
    assert results.get(timeout=10, callback=lambda task_id, value: seen.append((task_id, value))) == []
    assert seen == [(results[0].id, 1), (results[1].id, 2)]


def test_a_failure_is_raised_when_those_before_it_have_ended() -> None:
    results = ResultSet([echo.delay(1), fail.delay("early"), echo.apply_async((2,), queue="slow")])
    work()
    with pytest.raises(LookupError, match="early"):
        results.get(timeout=10)
    with pytest.raises(TimeoutError):
        results.get(timeout=0.05, propagate=False)
    work("slow")
    first, error, second = results.get(timeout=10, propagate=False)
    assert (first, second, type(error)) == (1, 2, LookupError)


def test_the_time_is_that_of_all_together() -> None:
    results = ResultSet([GroupResult("g", [echo.apply_async(queue="slow")]), echo.apply_async(queue="slow")])
    with pytest.raises(TimeoutError, match="timed out"):
        results.get(timeout=0.05)
    with pytest.raises(TimeoutError):
        results.get(timeout=0)


def test_what_a_broker_would_tell_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="on_message"):
        ResultSet([]).join(on_message=print)


def test_members_that_ignore_their_results_give_none() -> None:
    assert ResultSet([quiet.delay(), echo.apply((1,))]).get(timeout=10) == [None, 1]


def test_a_task_must_not_wait_for_a_group() -> None:
    @shared_task(name="sets.waits")
    def waits(propagate: bool) -> Any:
        return ResultSet([AsyncResult("x")]).get(timeout=0, disable_sync_subtasks=propagate)

    with pytest.raises(RuntimeError, match="must not wait"):
        waits.apply((True,)).get()
    with pytest.raises(TimeoutError):
        waits.apply((False,)).get()


def test_a_group_that_waits_for_the_commit_is_not_waited_for() -> None:
    with transaction.atomic():
        results = ResultSet([echo.delay(1)])
        with pytest.raises(NotEnqueuedYet):
            results.get()


def test_results_are_handed_out_as_they_come() -> None:
    slow, quick = echo.apply_async((1,), queue="slow"), echo.delay(2)
    work()
    found = ResultSet([slow, quick]).iter_native(timeout=10)
    task_id, meta = next(found)
    assert (task_id, meta["status"], meta["result"]) == (quick.id, "SUCCESS", 2)
    work("slow")
    assert [task_id for task_id, _ in found] == [slow.id]
    assert list(ResultSet([slow, quick]).iterate(timeout=10)) == [1, 2]


def test_more_are_waited_for_than_are_read_at_a_time() -> None:
    results = GroupResult("g", echo.bulk_apply_async([((number,), None) for number in range(2100)]))
    thread = threading.Thread(target=lambda: [work() for _ in range(3)])
    thread.start()
    assert results.get(timeout=30) == list(range(2100))
    thread.join()


def test_coroutines_wait_for_many_too() -> None:
    results = GroupResult("g", [echo.delay(1), GroupResult("inner", [echo.delay(2)]), quiet.delay()])

    async def wait() -> Any:
        waiting = asyncio.ensure_future(results.aget(timeout=10))
        await asyncio.to_thread(work)
        values = await waiting
        return values, await results.acompleted_count(), await results.ajoin(callback=lambda *_: None)

    assert go(wait()) == ([1, [2], None], 2, [])

    async def late() -> None:
        await ResultSet([AsyncResult("never")]).aget(timeout=0.02)

    with pytest.raises(TimeoutError):
        go(late())


def test_a_callback_is_called_once_all_have_ended() -> None:
    first, second = echo.delay(1), echo.apply_async((2,), queue="slow")
    seen: list[Any] = []
    results = ResultSet([first, second]).then(lambda each: seen.append(each.get()))
    first.then(lambda each: seen.append(each.result))
    work()
    wait_until(lambda: seen == [1], "the first callback")
    work("slow")
    wait_until(lambda: seen == [1, [1, 2]], "the second callback")
    results.then(lambda each: seen.append("at once"))
    assert seen[-1] == "at once"


def test_what_a_callback_raises_is_given_to_its_errback() -> None:
    result = fail.delay("why")
    seen: list[Any] = []
    result.then(lambda each: each.get(), on_error=seen.append)
    work()
    wait_until(lambda: bool(seen), "the errback")
    assert repr(seen[0]) == "LookupError('why')"
    with pytest.raises(LookupError):
        result.then(lambda each: each.get())


# -- parents ------------------------------------------------------------------------------------------------------


def test_a_failed_parent_group_is_raised_first_also_after_the_wait() -> None:
    header = GroupResult("header", [echo.delay(1), fail.delay("original")])
    body: AsyncResult[Any] = fail.apply_async(("of the body",), queue="slow")
    body.parent = header
    thread = threading.Timer(0.05, lambda: (work(), work("slow")))
    thread.start()
    with pytest.raises(LookupError, match="original"):
        body.get(timeout=10)
    thread.join()
    with pytest.raises(LookupError, match="of the body"):
        AsyncResult(body.id).get(timeout=10)
    with pytest.raises(LookupError, match="of the body"):
        body.get(timeout=10, follow_parents=False)

    async def wait() -> None:
        again: AsyncResult[Any] = AsyncResult(body.id, parent=header)
        await again.aget(timeout=10)

    with pytest.raises(LookupError, match="original"):
        go(wait())


def test_forgetting_forgets_members_and_their_parents() -> None:
    parent, member, other = echo.delay(0), echo.delay(1), echo.delay(2)
    work()
    member.parent = parent
    results = GroupResult("g", [member, other])
    assert results.get(timeout=10) == [1, 2]
    results.forget()
    assert [each.exists() for each in (parent, member, other)] == [False] * 3


def test_forgetting_a_body_forgets_its_header() -> None:
    member, body = echo.delay(1), echo.delay(2)
    work()
    body.parent = GroupResult("g", [member])
    body.forget()
    assert not member.exists()


def test_all_members_are_revoked_at_once() -> None:
    results = GroupResult("g", [echo.delay(1), GroupResult("inner", [echo.delay(2)])])
    assert set(results.revoke().values()) == {"prevented"}
    assert results.states() == {"REVOKED": 2}


# -- being kept ---------------------------------------------------------------------------------------------------


def test_a_saved_group_is_restored_by_its_id() -> None:
    inner = GroupResult("inner", [AsyncResult("b")])
    saved = GroupResult("outer", [AsyncResult("a", parent=AsyncResult("z")), inner], parent=AsyncResult("p"))
    saved.save()
    saved.save()
    found = GroupResult.restore("outer")
    assert found == saved
    assert found is not None
    assert found.as_tuple() == saved.as_tuple()
    saved.delete()
    assert GroupResult.restore("outer") is None
    assert app.GroupResult.restore("nobody") is None


def test_a_group_of_many_is_saved_and_restored_with_16_bytes_a_member() -> None:
    saved = GroupResult(new_task_id(), echo.bulk_apply_async(((number,), None) for number in range(1000)))
    saved.save()
    found = GroupResult.restore(saved.id)
    assert found is not None
    assert type(found.results) is type(saved.results)
    assert found == saved


def test_an_empty_group_is_saved_too() -> None:
    GroupResult("empty", []).save()
    found = GroupResult.restore("empty")
    assert found is not None
    assert (bool(found), found.get(), found.ready()) == (True, [], True)


def test_a_saved_group_goes_with_the_results(configure: Configure) -> None:
    configure(RESULT_EXPIRES=0.001)
    GroupResult("old", []).save()
    configure(RESULT_EXPIRES=None)
    GroupResult("kept", []).save()
    wait_until(lambda: GroupResult.restore("old") is None, "the end of its time")
    assert groups.prune(borrow()) == 1
    assert GroupResult.restore("kept") is not None


def test_a_group_is_a_value() -> None:
    first = GroupResult("g", [AsyncResult("a")], parent=AsyncResult("p"))
    assert (str(first), first.id, first.children) == ("g", "g", [AsyncResult("a")])
    assert first == GroupResult("g", [AsyncResult("a")], parent=AsyncResult("p")) == "g"
    assert first != GroupResult("g", [AsyncResult("a")])
    assert {first: 1}[first] == 1
    assert repr(first) == "<GroupResult: g [a]>"
    assert pickle.loads(pickle.dumps(first)) == first
    assert first.as_list() == ["g", "p"]
    assert not GroupResult()


def test_a_result_is_made_of_its_tuple() -> None:
    group = GroupResult("g", [AsyncResult("a", parent=AsyncResult("b"))], parent=AsyncResult("p"))
    assert group.as_tuple() == (("g", (("p", None), None)), [(("a", (("b", None), None)), None)])
    for found in (result_from_tuple(group.as_tuple()), result_from_tuple(json.loads(json.dumps(group.as_tuple())))):
        assert found == group
        assert found[0].parent == AsyncResult("b")
    assert result_from_tuple(group) is group
    assert result_from_tuple(("x", None)) == AsyncResult("x")
    for wrong in (5, "xyz", (1, 2, 3)):
        with pytest.raises(ValueError, match="a result is"):
            result_from_tuple(wrong)


def test_a_task_that_returns_a_group_returns_its_tuple() -> None:
    @shared_task(name="sets.returns")
    def returns() -> Any:
        return GroupResult("g", [AsyncResult("a")])

    result = returns.delay()
    work()
    value = result.get(timeout=10)
    assert value == [["g", None], [[["a", None], None]]]
    assert result_from_tuple(value) == GroupResult("g", [AsyncResult("a")])
