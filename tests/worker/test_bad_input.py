"""No message, result or exception takes a process with it: it ends as a failure, and the next task runs as before."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from djtasks import AsyncResult
from djtasks.db.messages import enqueue
from djtasks.exceptions import EncodeError, PayloadTooLarge
from tests.hostile import BAD, GOOD, ODD, ODD_LIMITS, Bad
from tests.worker.running import RunningWorker, Workers, ended, query, value
from tests.worker_app import tasks


@pytest.fixture(scope="module", params=["prefork", "threads", "solo"])
def pool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def worker(pool: str, shared: Workers) -> RunningWorker:
    """A worker with one child, thread or place, and a queue of its own."""
    return shared.start("-P", pool, "-c", "1", "-Q", pool, RESULT_MAX_BYTES=1000)


@pytest.fixture
def ends(worker: RunningWorker, pool: str) -> Callable[..., str]:
    """Wait for the end of a task, and see that the worker is as it was; returns the task's state."""
    before = value(tasks.pid.apply_async(queue=pool))

    def ends(result: AsyncResult[Any]) -> str:
        state = ended(result)
        assert value(tasks.pid.apply_async(queue=pool)) == before
        assert worker.process.poll() is None
        assert "exited with" not in worker.log
        assert query("SELECT count(*) FROM djtasks_message") == [(0,)]
        return state

    return ends


def write(bad: Bad, queue: str) -> AsyncResult[Any]:
    """Put a message into its table, past all that looks at it in the caller, and wake the worker."""
    message = bad.message(tasks.echo.name, queue)
    enqueue(connection, [message])
    tasks.noop.apply_async(queue=queue)
    return AsyncResult(message.id)


@pytest.mark.parametrize("bad", BAD.values(), ids=list(BAD))
def test_a_bad_message_is_a_failure_that_says_what_is_wrong_with_it(
    pool: str, bad: Bad, ends: Callable[..., str]
) -> None:
    result = write(bad, pool)
    assert ends(result) == "FAILURE"
    assert type(result.result) is bad.error
    assert bad.says in str(result.result)


@pytest.mark.parametrize(("body", "shown"), ODD)
def test_an_odd_argument_reaches_the_task_and_comes_back(
    pool: str, body: bytes, shown: str, ends: Callable[..., str]
) -> None:
    result = write(Bad({"body": body}, GOOD.error, ""), pool)
    assert ends(result) == "SUCCESS"
    assert repr(result.get()) == shown


@pytest.mark.parametrize("limit", ODD_LIMITS)
def test_a_limit_that_can_be_none_does_not_limit(pool: str, limit: str, ends: Callable[..., str]) -> None:
    result = write(Bad({"headers": f'{{"timelimit":[{limit},{limit}]}}'}, GOOD.error, ""), pool)
    assert ends(result) == "SUCCESS"


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        ((tasks.odd, ()), EncodeError, "object is no type that JSON can carry"),
        ((tasks.dig, (100_000,)), EncodeError, "nested too deeply"),
        ((tasks.much, (1000,)), PayloadTooLarge, "the result is 1,002 bytes, over RESULT_MAX_BYTES (1,000)"),
        ((tasks.fail_unspeakably, ("the oven is cold",)), tasks.Unspeakable, "the oven is cold"),
    ],
    ids=["no JSON", "too deep", "too large", "no repr"],
)
def test_what_cannot_be_stored_or_shown_is_a_failure(
    pool: str, call: Any, error: type[Exception], says: str, ends: Callable[..., str]
) -> None:
    task, args = call
    result = task.apply_async(args, queue=pool)
    assert ends(result) == "FAILURE"
    assert type(result.result) is error
    assert says in str(result.result)


def test_the_log_says_that_an_exception_could_not_be_shown(
    worker: RunningWorker, pool: str, ends: Callable[..., str]
) -> None:
    assert ends(tasks.fail_unspeakably.apply_async(["x"], queue=pool)) == "FAILURE"
    worker.says("raised unexpected: <Unspeakable object: its repr raised RuntimeError>")
