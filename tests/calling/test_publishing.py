"""A call is written, and when."""

import itertools
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.db import connection, transaction

from djtasks import Task, app, shared_task, signals
from djtasks.exceptions import ImproperlyConfigured
from djtasks.ids import as_task_id
from tests.calling.conftest import Configure, connected, waiting, work

pytestmark = pytest.mark.django_db(transaction=True)


@shared_task(name="shop.add")
def add(x: int, y: int = 0) -> int:
    return x + y


@pytest.fixture(autouse=True)
def defined(registry: dict[str, Any]) -> None:
    registry[add.name] = add


class Undo(Exception):
    pass


@contextmanager
def rolled_back() -> Iterator[None]:
    """A transaction, or a savepoint, that is rolled back at its end."""
    with suppress(Undo), transaction.atomic():
        yield
        raise Undo


# -- when ---------------------------------------------------------------------------------------------------------


def test_outside_of_a_transaction_a_call_is_written_at_once() -> None:
    result = add.delay(1, 2)
    assert [row["id"] for row in waiting("shop.add")] == [result.id]


def test_inside_a_transaction_it_is_written_on_commit_and_its_id_is_known_at_once() -> None:
    with transaction.atomic():
        result = add.delay(1)
        assert result.id
        assert waiting("shop.add") == []
    assert [row["id"] for row in waiting("shop.add")] == [result.id]


def test_what_is_rolled_back_is_not_written() -> None:
    with rolled_back():
        add.delay(1)
    assert waiting("shop.add") == []


def test_a_rolled_back_savepoint_takes_only_its_own_calls_with_it() -> None:
    with transaction.atomic():
        before = add.delay(1)
        with rolled_back():
            add.delay(2)
        after = add.delay(3)
    assert [row["id"] for row in waiting("shop.add")] == [before.id, after.id]


def test_in_transaction_a_call_is_a_part_of_it() -> None:
    with transaction.atomic():
        result = add.apply_async((1,), enqueue="in_transaction")
        assert result.exists()
        assert waiting("shop.add") == []
    assert len(waiting("shop.add")) == 1


def test_immediately_a_call_survives_a_rollback() -> None:
    with rolled_back():
        add.apply_async((1,), enqueue="immediately")
    assert len(waiting("shop.add")) == 1


def test_the_mode_is_the_calls_else_the_tasks_else_the_settings(configure: Configure) -> None:
    @shared_task(name="shop.tied", enqueue="in_transaction")
    def tied() -> None: ...

    def seen_inside(task: Task[..., Any], **options: Any) -> bool:
        with transaction.atomic():
            return task.apply_async(**options).state == "PENDING" and bool(row_inside(task.name))

    def row_inside(name: str) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM djtasks_message WHERE name = %s", [name])
            return bool(cursor.fetchone()[0])

    @shared_task(name="shop.free")
    def free() -> None: ...

    assert seen_inside(tied)
    assert not seen_inside(free)
    configure(ENQUEUE="in_transaction")
    assert seen_inside(free, countdown=1)


def test_a_mode_that_there_is_not_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="'sometimes'"):
        add.apply_async((1,), enqueue="sometimes")


def test_on_commit_by_name_holds_whatever_the_settings_say(configure: Configure) -> None:
    configure(ENQUEUE="immediately")
    with transaction.atomic():
        first = add.delay_on_commit(1)
        second = add.apply_async_on_commit((2,), countdown=5)
        assert waiting("shop.add") == []
    assert [row["id"] for row in waiting("shop.add")] == [first.id, second.id]


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_call_may_wait_for_the_commit_of_another_database() -> None:
    with transaction.atomic(using="other"):
        add.apply_async((1,), using="other")
        add.apply_async((2,))
        assert len(waiting("shop.add")) == 1
    assert len(waiting("shop.add")) == 2


# -- what ---------------------------------------------------------------------------------------------------------


def test_arguments_are_checked_before_anything_is_written() -> None:
    with pytest.raises(TypeError, match=r"shop\.add\(x: int, y: int = 0\) -> int missing a required argument: 'x'"):
        add.delay()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="task args must be a list or tuple"):
        add.apply_async(1, 2, ignore_result=True)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="task keyword arguments must be a mapping"):
        add.apply_async((1,), [2])  # type: ignore[arg-type]
    assert waiting("shop.add") == []


def test_without_typing_the_worker_finds_out() -> None:
    @shared_task(name="shop.loose", typing=False)
    def loose(x: int) -> None: ...

    loose.apply_async()
    assert [outcome.state for outcome in work()] == ["FAILURE"]


def test_options_become_columns() -> None:
    add.apply_async((1,), countdown=60, queue="slow", priority=-5, serializer="yaml")
    [row] = waiting("shop.add")
    assert (row["queue"], row["priority"], row["content_type"]) == ("slow", -5, "application/x-yaml")
    assert 59 < row["wait"] < 61


def test_a_task_may_be_called_by_its_name_whether_it_is_known_here_or_not() -> None:
    known = app.send_task("shop.add", (1, 2, 3))
    unknown = app.send_task("elsewhere.pay", [1], {"x": 2}, queue="money")
    assert [row["id"] for row in waiting("shop.add")] == [known.id]
    assert [(row["id"], row["queue"]) for row in waiting("elsewhere.pay")] == [(unknown.id, "money")]


def test_send_task_takes_the_options_of_a_task_that_is_known_here() -> None:
    @shared_task(name="shop.slow", queue="slow")
    def slow() -> None: ...

    app.send_task("shop.slow")
    assert [row["queue"] for row in waiting("shop.slow")] == ["slow"]


def test_a_text_of_ones_own_is_an_id_and_the_second_call_of_a_waiting_one_adds_nothing() -> None:
    first = add.apply_async((1,), task_id="nightly")
    second = add.apply_async((2,), task_id="nightly")
    assert first == second == "nightly"
    assert [row["id"] for row in waiting("shop.add")] == [as_task_id("nightly")]


def test_a_shadow_name_of_the_class_travels_with_the_call() -> None:
    class Shadowed(Task[..., Any]):
        def shadow_name(self, args: Any, kwargs: Any, options: Any) -> str | None:
            return f"of {args[0]}"

    @shared_task(base=Shadowed, name="shop.shadowed")
    def shadowed(x: int) -> None: ...

    shadowed.delay(5)
    assert waiting("shop.shadowed")[0]["headers"] == '{"shadow":"of 5"}'


def test_receivers_hear_that_a_call_was_enqueued() -> None:
    heard: list[Any] = []

    def hear(sender: str, headers: Any, body: Any, routing_key: str, **kwargs: Any) -> None:
        heard.append((sender, headers["id"], body[:2], routing_key))

    with connected(signals.after_task_publish, hear):
        result = add.delay(1, y=2)
    assert heard == [("shop.add", result.id, ((1,), {"y": 2}), "celery")]


# -- many ---------------------------------------------------------------------------------------------------------


def test_many_calls_are_written_in_order_and_their_results_are_too() -> None:
    results = add.bulk_apply_async(((number,), {"y": 1}) for number in range(2500))
    assert len(results) == 2500
    assert [result.id for result in results] == [row["id"] for row in waiting("shop.add")]
    assert results[-1].id == results[2499].id
    assert [result.id for result in results[10:12]] == [results[10].id, results[11].id]
    with pytest.raises(IndexError):
        results[2500]


def test_many_calls_share_their_options() -> None:
    add.bulk_apply_async([((1,), None), ([2], {})], queue="slow", priority=3)
    assert [(row["queue"], row["priority"]) for row in waiting("shop.add")] == [("slow", 3)] * 2


def test_many_calls_wait_for_the_commit_too() -> None:
    with transaction.atomic():
        add.bulk_apply_async([((1,), {})] * 3)
        assert waiting("shop.add") == []
    assert len(waiting("shop.add")) == 3


def test_an_ignored_result_is_known_to_be_ignored() -> None:
    assert add.apply_async((1,), ignore_result=True).get() is None
    assert [result.get() for result in add.bulk_apply_async([((1,), {})], ignore_result=True)] == [None]


@pytest.mark.parametrize("pair", [5, (1,), ((1,), {}, 3), (1, {}), ((1,), [])])
def test_what_is_no_pair_of_arguments_is_refused_by_its_number(pair: Any) -> None:
    with pytest.raises(TypeError, match=r"call 1 must be a pair \(args, kwargs\)"):
        add.bulk_apply_async([((1,), {}), pair])
    assert waiting("shop.add") == []


def test_arguments_of_many_calls_are_checked() -> None:
    with pytest.raises(TypeError, match="missing a required argument"):
        add.bulk_apply_async([((), {})])


def test_many_calls_cannot_share_an_id() -> None:
    with pytest.raises(TypeError, match="no option 'task_id'"):
        add.bulk_apply_async([], task_id="nightly")


def test_calls_are_read_while_they_are_written_and_never_held_whole() -> None:
    most = 0
    count = itertools.count()

    def calls() -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
        nonlocal most
        for _ in range(8000):
            if next(count) % 500 == 0:
                most = max(most, tracemalloc.get_traced_memory()[0])
            yield (1, 2), {}

    add.bulk_apply_async([((1,), {})] * 2000)
    tracemalloc.start()
    try:
        results = add.bulk_apply_async(calls(), queue="many")
    finally:
        tracemalloc.stop()
    assert len(results) == 8000
    # A thousand messages are a few megabytes; eight thousand of them, or their results, would be many more.
    assert most < 4_000_000
