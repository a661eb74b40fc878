"""The tasks that Celery brings."""

from datetime import timedelta
from typing import Any

import pytest

from djtasks import Task, app, builtins, shared_task, signature
from djtasks.db.connections import open_private
from djtasks.registry import tasks
from tests.calling.conftest import Configure, Runner, waiting, work


@pytest.fixture
def add() -> Task[..., Any]:
    @shared_task(name="shop.add")
    def add(x: int, y: int = 10) -> int:
        return x + y

    return add


def test_every_process_knows_them_and_listings_leave_them_out() -> None:
    names = {"ping", "backend_cleanup", "accumulate", "map", "starmap", "chunks"}
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
    add.chunks([(number, number) for number in range(5)], 2).delay()
    [outcome] = work()
    assert outcome.state == "SUCCESS"
    assert len(waiting("celery.starmap")) == 3
    assert [done.result for done in work()] == [b"[0,2]", b"[4,6]", b"[8]"]


def test_a_chunk_of_nothing_is_refused(add: Task[..., Any]) -> None:
    assert add.chunks([(1, 1)], 0).apply().state == "FAILURE"


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
