"""The tasks that Celery brings."""

from datetime import timedelta
from typing import Any

import pytest

from djtasks import Task, app, builtins, result_from_tuple, shared_task, signature
from djtasks.db.connections import open_private
from djtasks.registry import tasks
from djtasks.testing import drain
from tests.calling.conftest import Configure, Runner, waiting, work


@pytest.fixture
def add() -> Task[..., Any]:
    @shared_task(name="shop.add")
    def add(x: int, y: int = 10) -> int:
        return x + y

    return add


def test_every_process_knows_them_and_listings_leave_them_out() -> None:
    names = {"ping", "backend_cleanup", "accumulate", "map", "starmap", "chunks", "group", "chain", "chord"}
    assert {f"celery.{name}" for name in names} <= tasks.keys()
    assert not [name for name in tasks.names() if name.startswith("celery.")]


def test_a_ping_is_answered(run: Runner) -> None:
    assert run(app.tasks["celery.ping"]).result == b'"pong"'


def test_arguments_are_accumulated() -> None:
    assert builtins.accumulate.apply((1, 2, 3)).get() == (1, 2, 3)
    assert builtins.accumulate.apply((1, 2, 3), {"index": 1}).get() == 2


def test_a_map_calls_the_task_for_each(run: Runner, add: Task[..., Any]) -> None:
    assert run(builtins.xmap, kwargs=add.map([1, 2]).kwargs).result == b"[11,12]"
    assert run(builtins.xstarmap, kwargs=add.starmap([(1, 2), (3, 4)]).kwargs).result == b"[3,7]"


def test_a_map_drops_the_arguments_of_the_signature(run: Runner, add: Task[..., Any]) -> None:
    assert builtins.xmap.apply((dict(add.s(100, y=100)), [1, 2])).get() == [11, 12]


def test_a_map_of_an_unknown_task_fails() -> None:
    assert builtins.xmap.apply((dict(signature("shop.nothing")), [1])).state == "FAILURE"


@pytest.mark.django_db(transaction=True)
def test_chunks_are_starmaps_of_their_own(add: Task[..., Any]) -> None:
    result = add.chunks([(number, number) for number in range(5)], 2).delay()
    assert len(waiting("celery.starmap")) == 3
    assert [done.result for done in work()] == [b"[0,2]", b"[4,6]", b"[8]"]
    assert result.get() == [[0, 2], [4, 6], [8]]


@pytest.mark.django_db(transaction=True)
def test_the_task_of_chunks_enqueues_them(add: Task[..., Any]) -> None:
    app.tasks["celery.chunks"].delay(add.s(), [(1, 2), (3, 4)], 1)
    [outcome] = work()
    assert outcome.state == "SUCCESS"
    assert [done.result for done in work()] == [b"[3]", b"[7]"]


@pytest.mark.django_db(transaction=True)
def test_the_tasks_of_groups_and_chords_enqueue_them(add: Task[..., Any]) -> None:
    app.tasks["celery.group"].delay([dict(add.s(1)), dict(add.s(2))], None, None, [5])
    work()
    assert [done.result for done in work()] == [b"6", b"7"]
    body = dict(app.tasks["celery.accumulate"].s(index=0))
    sent = app.tasks["celery.chord"].delay([dict(add.s(1, 2))], body, interval=1)
    drain()
    assert result_from_tuple(sent.get()).get() == [3]


def test_a_chain_is_no_task() -> None:
    assert isinstance(app.tasks["celery.chain"].apply().result, NotImplementedError)


def test_a_chunk_of_nothing_is_refused(add: Task[..., Any]) -> None:
    with pytest.raises(ValueError, match="a chunk holds at least one row, not 0"):
        add.chunks([(1, 1)], 0)


@pytest.mark.django_db(transaction=True)
def test_a_cleanup_deletes_what_has_expired_now(add: Task[..., Any], configure: Configure) -> None:
    results = [add.delay(1), add.delay(2)]
    work()
    with open_private("test") as conn:
        conn.execute("UPDATE djtasks_result SET done = done - interval '2 days' WHERE id = %s", [results[0].id])
    configure(RESULT_EXPIRES=None)
    assert builtins.backend_cleanup() == 0
    configure(RESULT_EXPIRES=timedelta(days=1))
    assert builtins.backend_cleanup() == 1
    assert [result.exists() for result in results] == [False, True]
