"""Following: each next step of a workflow is there when the one before it has ended; what never runs ends as well."""

import itertools
from collections.abc import Iterator
from typing import Any

import pydantic
import pytest
from django.db import connection, transaction

from djtasks import AsyncResult, control, ending, shared_task, signals
from djtasks.canvas import chain, chord, group
from djtasks.exceptions import ChordError, Ignore, TaskRevokedError
from djtasks.testing import drain
from tests.calling.conftest import Configure, connected

pytestmark = pytest.mark.django_db
#: A revocation is told at the commit.
committed = pytest.mark.django_db(transaction=True)
HEARD: list[Any] = []


@shared_task
def add(*args: Any) -> Any:
    return sum(args)


@shared_task(bind=True)
def seen(self: Any, *args: Any) -> Any:
    request = self.request
    HEARD.append((args, request.id, request.parent_id, request.root_id, request.group))
    return args[0] if args else None


@shared_task
def same(value: Any) -> Any:
    return value


@shared_task(ignore_result=True)
def quiet(*args: Any) -> Any:
    return sum(args)


@shared_task
def fail(*args: Any) -> None:
    raise ValueError(f"no {args}")


@shared_task(ignore_result=True)
def fail_quietly(*args: Any) -> None:
    raise ValueError("quietly")


@shared_task
def ignored(*args: Any) -> None:
    raise Ignore


@shared_task(bind=True, default_retry_delay=0)
def third_time(self: Any, value: Any) -> Any:
    if self.request.retries < 2:
        raise self.retry()
    return value


@shared_task(bind=True)
def traced(self: Any, *args: Any) -> None:
    HEARD.append(self.request.headers["trace"])


@shared_task(bind=True)
def stamped(self: Any, *args: Any) -> None:
    HEARD.append(self.request.stamps)


class Order(pydantic.BaseModel):
    """Something to validate."""

    number: int


@shared_task(pydantic=True)
def counted(value: int, order: Order, other: Order | None = None) -> int:
    assert isinstance(order, Order)
    return value + order.number + (other.number if other else 0)


@shared_task
def told(task_id: str) -> None:
    HEARD.append(task_id)


@shared_task
def hears(request: Any, exc: BaseException, traceback: Any) -> None:
    HEARD.append((request.id, repr(exc), traceback))


@pytest.fixture(autouse=True)
def known(db: None, registry: dict[str, Any]) -> Iterator[None]:
    HEARD.clear()
    tasks = (add, seen, same, quiet, fail, fail_quietly, ignored, third_time, traced, stamped, counted, told, hears)
    registry.update({task.name: task for task in tasks})
    yield
    with connection.cursor() as cursor:
        for table in ("message", "chord", "part"):
            cursor.execute(f"SELECT count(*) FROM djtasks_{table}")
            assert cursor.fetchone() == (0,), f"{table}s are left over"


def value(result: Any) -> Any:
    """What has come of a workflow, after everything has run."""
    drain()
    return result.get(timeout=0)


def states(*results: Any) -> list[str]:
    return [AsyncResult(result.id).state for result in results]


def lineage(result: Any) -> list[Any]:
    """A result and those it comes after, the first one first."""
    found = []
    while result is not None:
        found.append(result)
        result = result.parent
    return found[::-1]


# -- successes ----------------------------------------------------------------------------------------------------


def test_each_task_of_a_chain_gets_what_the_one_before_it_returned() -> None:
    result = chain(add.s(1), add.s(2), add.si(5), add.s(3)).apply_async((10,))
    assert value(result) == 8
    assert [each.get(timeout=0) for each in lineage(result)] == [11, 13, 5, 8]


def test_a_chain_knows_its_root_and_each_task_its_parent() -> None:
    result = chain(seen.s(1), seen.s(), seen.s()).apply_async()
    drain()
    ids = [each.id for each in lineage(result)]
    assert [(heard[1], heard[2], heard[3]) for heard in HEARD] == [
        (ids[0], None, ids[0]),
        (ids[1], ids[0], ids[0]),
        (ids[2], ids[1], ids[0]),
    ]


def test_links_of_a_task_come_before_the_next_of_its_chain() -> None:
    chain(add.s(1).set(link=seen.s("link")), seen.s("next")).apply_async()
    drain()
    assert [heard[0] for heard in HEARD] == [(1, "link"), (1, "next")]


@pytest.mark.parametrize("how", ["delay", "call"])
def test_a_workflow_may_be_linked(how: str) -> None:
    linked = chord([add.s(1), add.s(2)], seen.s())
    add.apply_async((1, 1), link=[chain(add.s(5), seen.s()), linked] if how == "delay" else [linked.clone()])
    drain()
    assert sorted(str(heard[0]) for heard in HEARD) == sorted(
        ["(7,)", "([3, 4],)"] if how == "delay" else ["([3, 4],)"]
    )


def test_a_group_in_a_chain_runs_side_by_side_and_its_results_come_together() -> None:
    result = chain(add.s(1), group(add.s(n) for n in range(3)), same.s(), seen.s()).apply_async((1,))
    assert value(result) == [2, 3, 4]


def test_a_group_that_follows_is_written_in_statements_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "_STATEMENT_BYTES", 1000)
    result = chain(add.s(1), group(add.s(n) for n in range(20)), same.s())()
    assert value(result) == [n + 1 for n in range(20)]


def test_a_chain_may_end_in_a_group() -> None:
    result = chain(add.s(1), group(add.s(1), add.s(2))).apply_async((1,))
    assert value(result) == [3, 4]
    assert result.parent.get(timeout=0) == 2


def test_the_body_of_a_chord_gets_the_results_in_the_order_of_the_header() -> None:
    header = [add.s(1), chain(add.s(1), add.s(1)), group(add.s(2), add.s(3)), chord([add.s(1), add.s(2)], same.s())]
    assert value(chord(header, same.s()).apply_async((10,))) == [11, 12, 12, 13, [11, 12]]


def test_parts_may_end_in_any_order() -> None:
    header = [add.s(number).set(priority=number % 7) for number in range(20)]
    assert value(chord(header)(same.s())) == list(range(20))


def test_a_chord_of_one_gets_a_list_of_one_and_one_of_none_an_empty_list() -> None:
    assert value(chord([add.s(4)])(same.s())) == [4]
    assert value(chord([])(same.s())) == []
    assert value(chain(add.s(1), group([]), add.s(2)).apply_async()) == 3


def test_the_body_is_of_the_headers_group_and_family() -> None:
    result = chain(add.s(1), group(add.s(1), add.s(2)), seen.s()).apply_async()
    first, members, _ = lineage(result)
    drain()
    assert [(([2, 3],), result.id, first.id, first.id, members.id)] == HEARD


def test_a_chord_may_have_a_chord_a_group_or_a_chain_as_its_body() -> None:
    assert value(chord([add.s(1)], chord([same.s(), same.s()], same.s())).apply_async()) == [[1], [1]]
    assert value(chord([add.s(1)], group(same.s(), same.s())).apply_async()) == [[1], [1]]
    assert value(chord([add.s(1)], chain(same.s(), same.s())).apply_async()) == [1]


def test_workflows_nest_in_one_another() -> None:
    inner: Any = add.s(0)
    for _ in range(6):
        inner = chord([inner, add.s(1)], chain(same.s(), group(same.s()), same.s()))
    assert value(chain(inner, same.s()).apply_async((1,)))[1] == 2


def test_members_without_results_feed_their_chord() -> None:
    result = chord([quiet.s(1, 1), quiet.s(2, 2)])(same.s())
    assert value(result) == [2, 4]
    assert [AsyncResult(each.id).state for each in result.parent.results] == ["PENDING", "PENDING"]


def test_a_member_that_was_ignored_counts_as_none() -> None:
    assert value(chord([add.s(1), ignored.s(), add.s(2)])(same.s())) == [1, None, 2]


def test_a_retry_keeps_its_place() -> None:
    assert value(chord([chain(third_time.s(1), third_time.s()), third_time.s(2)], third_time.s())()) == [1, 2]


def test_a_generator_may_make_the_header() -> None:
    result = chord(add.s(number) for number in range(50))(same.s())
    assert value(result) == list(range(50))


def test_what_was_linked_to_a_chord_follows_its_body() -> None:
    chord([add.s(1)], same.s()).apply_async(link=seen.s())
    drain()
    assert [heard[0] for heard in HEARD] == [([1],)]


def test_headers_of_hooks_and_options_of_steps_travel() -> None:
    made = chain(add.s(1), add.s(2).set(queue="other", priority=3), group(add.s(1).set(queue="third")))
    result = made.apply_async()
    assert [run.queue for run in drain()] == ["celery", "other", "third"]
    assert result.ready()


def test_headers_that_hooks_have_added_travel_to_every_step() -> None:
    def hook(sender: str, headers: dict[str, Any], **_: Any) -> None:
        if "trace" not in headers:
            headers["trace"] = f"t{next(numbers)}"

    numbers = itertools.count(1)
    HEARD.clear()
    with connected(signals.before_task_publish, hook):
        chain(traced.s(), group(traced.s(), traced.s()), traced.s(), traced.s()).apply_async(enqueue="in_transaction")
        chord([traced.s(), traced.s()], chain(traced.s(), traced.s())).apply_async(enqueue="in_transaction")
        drain()
    assert ["t1", "t2", "t3", *["t1"] * 2, *["t2"], *["t1"], *["t2"], *["t1"]] == HEARD


def test_stamps_travel_with_every_step() -> None:
    made = chain(stamped.s(), group(stamped.s(), stamped.s()), stamped.s(), stamped.s())
    made.stamp(order=7)
    made.apply_async()
    drain()
    assert HEARD == [{"order": 7}] * 5


def test_models_are_arguments_of_what_waits() -> None:
    first, other = Order(number=10), Order(number=100)
    made = chain(
        counted.s(1, first), counted.s(first, other=other), group(counted.s(other), counted.si(5, other)), same.s()
    )
    assert value(made()) == [221, 105]
    assert value(chord([group(add.s(3))], chain(add.si(1), counted.s(other)))()) == 101


def test_values_that_only_other_serializers_know_are_joined_one_by_one(configure: Configure) -> None:
    configure(RESULT_SERIALIZER="pickle", RESULT_ACCEPT_CONTENT=["pickle", "json"])
    assert value(chord([add.s(1), add.s(2)])(same.s())) == [1, 2]


def test_compressed_values_are_joined(configure: Configure) -> None:
    configure(RESULT_COMPRESSION="gzip")
    assert value(chord([add.s(1), add.s(2)])(same.s())) == [1, 2]


# -- failures -----------------------------------------------------------------------------------------------------


def test_what_stands_behind_a_failure_in_a_chain_ends_with_the_same_exception() -> None:
    result = chain(add.s(1), fail.s(), add.s(2), group(add.s(1), add.s(2)), same.s(), add.s(3)).apply_async()
    drain()
    first, failed, *later = lineage(result)
    assert states(first, failed) == ["SUCCESS", "FAILURE"]
    assert {state for each in later for state in states(*getattr(each, "results", [each]))} == {"FAILURE"}
    with pytest.raises(ValueError, match=r"no \(1,\)"):
        AsyncResult(result.id).get(timeout=0)
    assert AsyncResult(result.id).traceback == AsyncResult(failed.id).traceback


def test_the_body_of_a_failed_chord_ends_in_a_chord_error_and_get_raises_the_original() -> None:
    result = chord([add.s(1), fail.s(2), fail.s(3), add.s(4)])(same.s())
    drain()
    members = result.parent.results
    assert states(*members) == ["SUCCESS", "FAILURE", "FAILURE", "SUCCESS"]
    assert states(result) == ["FAILURE"]
    with pytest.raises(ValueError, match=r"no \(2,\)"):
        result.get(timeout=0)
    with pytest.raises(ChordError, match=rf"Dependency {members[1].id} raised ValueError\('no \(2,\)'\)"):
        AsyncResult(result.id).get(timeout=0)


def test_a_failure_reaches_the_end_of_a_body_and_what_stands_behind_it() -> None:
    result = chain(group(fail.s(), add.s(1)), chain(same.s(), same.s()), chord([add.s(1)], same.s()), same.s())()
    drain()
    later = [each for each in lineage(result)[1:] if not hasattr(each, "results")]
    assert states(*later) == ["FAILURE"] * 4


def test_each_member_of_a_body_that_is_a_group_ends_with_the_original_exception() -> None:
    result = chord([fail.s(1)], group(same.s(), same.s())).apply_async()
    drain()
    assert states(*result.results) == ["FAILURE", "FAILURE"]
    with pytest.raises(ValueError, match="no"):
        AsyncResult(result.results[1].id).get(timeout=0)


@pytest.mark.parametrize(
    "member",
    [
        lambda: chain(add.s(1), fail.s(), add.s(2)),
        lambda: chain(fail.s(), group(add.s(1), add.s(2))),
        lambda: chord([fail.s()], same.s()),
        lambda: chord([add.s(1)], fail.s()),
        lambda: chain(fail.s(), chord([add.s(1)], same.s())),
        lambda: chain(add.s(1), group(add.s(1), fail.s()), same.s(), add.s(2)),
        lambda: fail_quietly.s(),
        lambda: chain(ignored.s(), add.s(1)),
    ],
)
def test_a_failure_inside_of_a_member_reaches_the_chord(member: Any) -> None:
    result = chord([add.s(1), member(), add.s(2)])(same.s())
    drain()
    assert states(result) == ["FAILURE"]
    with pytest.raises(ChordError):
        AsyncResult(result.id).get(timeout=0)


def test_errbacks_of_a_body_are_called_once_with_its_id() -> None:
    body = same.s().on_error(told.s()).on_error(hears.s())
    result = chord([fail.s(1), fail.s(2)])(body)
    drain()
    assert result.id in HEARD
    (heard,) = [each for each in HEARD if each != result.id]
    assert heard[0] == result.id
    assert "ChordError" in heard[1]
    assert heard[2] is None


def test_errbacks_of_a_chain_are_called_once_for_the_failing_task() -> None:
    result = chain(add.s(1), fail.s(), add.s(2)).on_error(told.s()).apply_async()
    drain()
    assert [result.parent.id] == HEARD


def test_a_workflow_may_be_an_errback() -> None:
    fail.apply_async(link_error=chain(same.s(), seen.s()))
    fail.apply_async(link_error=chord([same.s(), same.s()], seen.s()))
    drain()
    assert len(HEARD) == 2


def test_what_cannot_be_sent_as_a_body_is_the_bodys_failure() -> None:
    result = chord([add.s(1)], add.s().set(task_id="the body")).apply_async(enqueue="in_transaction")
    with connection.cursor() as cursor:
        cursor.execute('UPDATE djtasks_chord SET body = replace(body, \'"options":{\', \'"options":{"countdown":-1,\')')
    drain()
    assert result.id == "the body"
    with pytest.raises(ValueError, match="countdown must not be negative"):
        AsyncResult("the body").get(timeout=0)


def test_results_that_are_too_large_together_are_the_bodys_failure(configure: Configure) -> None:
    configure(PAYLOAD_MAX_BYTES=1000, PAYLOAD_WARN_BYTES=1000)
    result = chord([same.s("x" * 600), same.s("y" * 600)])(same.s())
    drain()
    assert states(result) == ["FAILURE"]
    assert "PAYLOAD_MAX_BYTES" in str(AsyncResult(result.id).result)


def test_a_step_that_cannot_be_sent_is_the_failure_of_the_task_before_it() -> None:
    result = chain(add.s(1), add.s(2).set(countdown=-1), add.s(3)).apply_async()
    drain()
    assert states(*lineage(result)) == ["FAILURE"] * 3
    with pytest.raises(ValueError, match="countdown must not be negative"):
        AsyncResult(result.id).get(timeout=0)


# -- revoked, expired ---------------------------------------------------------------------------------------------


@committed
def test_a_revoked_member_fails_its_chord() -> None:
    result = chord([add.s(1), add.s(2)])(same.s())
    control.revoke(result.parent.results[0].id)
    drain()
    assert states(result.parent.results[0], result) == ["REVOKED", "FAILURE"]
    with pytest.raises(ChordError, match="TaskRevokedError"):
        AsyncResult(result.id).get(timeout=0)


@committed
def test_what_stands_behind_a_revoked_link_is_revoked() -> None:
    result = chain(add.s(1), add.s(2), add.s(3)).apply_async()
    first, second, third = lineage(result)
    control.revoke(first.id)
    drain()
    assert states(first, second, third) == ["REVOKED"] * 3
    with pytest.raises(TaskRevokedError):
        result.get(timeout=0)


@committed
def test_a_later_link_may_be_revoked_before_it_is_there() -> None:
    result = chain(add.s(1), add.s(2), add.s(3)).apply_async()
    first, second, third = lineage(result)
    control.revoke(second.id)
    drain()
    assert states(first, second, third) == ["SUCCESS", "REVOKED", "REVOKED"]


def test_an_expired_member_fails_its_chord() -> None:
    result = chord([add.s(1), add.s(2).set(expires=0)])(same.s())
    drain()
    assert states(result.parent.results[1], result) == ["REVOKED", "FAILURE"]


# -- transactions -------------------------------------------------------------------------------------------------


@shared_task(atomic=True)
def atomically(*args: Any) -> Any:
    chord([add.s(1), add.s(2)], seen.s()).apply_async()
    return sum(args)


@committed
def test_an_atomic_task_is_a_part_and_sends_workflows_in_its_transaction(registry: dict[str, Any]) -> None:
    registry[atomically.name] = atomically
    result = chain(chord([atomically.s(1), add.s(2)], same.s()), same.s()).apply_async()
    assert value(result) == [1, 2]
    assert [heard[0] for heard in HEARD] == [([1, 2],)]


@committed
def test_a_chord_closes_inside_of_a_transaction() -> None:
    with transaction.atomic():
        result = chord([add.s(1), add.s(2)])(same.s())
        drain()
        assert result.get(timeout=0) == [1, 2]
        transaction.set_rollback(True)
    assert states(result) == ["PENDING"]
