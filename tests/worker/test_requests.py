"""`Task.Request`: what the worker's own process is told of the calls of a task."""

from typing import Any

import pytest

from djtasks import AsyncResult, Task
from djtasks.messages import Claimed, Outcome
from djtasks.payload import pack_value
from djtasks.worker.pools.base import Job
from djtasks.worker.receiving import Request
from djtasks.worker.requests import Requests
from tests.worker.running import RunningWorker, Workers, ended, wait_until
from tests.worker_app import requested


@pytest.fixture(scope="module")
def worker(shared: Workers) -> RunningWorker:
    return shared.start("-c", "1", IMPORTS=["tests.worker_app.requested"])


def told(shared: Workers, result: AsyncResult[Any], last: str) -> list[str]:
    """What was told of the call, up to this event."""

    def events() -> list[str]:
        found = [line["event"] for line in shared.audit.lines(None, result)]
        return found if found[-1:] == [last] else []

    return wait_until(events, f"{last} of {result.id} was told")


@pytest.mark.parametrize(
    ("how", "options", "events"),
    [
        ("well", {}, ["accepted", "success"]),
        ("fail", {}, ["accepted", "failure"]),
        ("retry", {}, ["accepted", "retry", "accepted", "success"]),
        ("die", {}, ["accepted", "failure"]),
        ("hang", {"time_limit": 0.5}, ["accepted", "timeout", "failure"]),
        ("raise in the hook", {}, ["accepted", "success"]),
    ],
)
def test_the_request_of_a_task_is_told_what_becomes_of_it(
    shared: Workers, worker: RunningWorker, how: str, options: dict[str, Any], events: list[str]
) -> None:
    result = requested.run.apply_async((how,), **options)
    assert told(shared, result, events[-1]) == events
    assert {line["pid"] for line in shared.audit.lines(None, result)} == {worker.pid}
    ended(result)


def test_it_is_told_what_celery_tells(shared: Workers, worker: RunningWorker) -> None:
    result = requested.run.delay("well")
    told(shared, result, "success")
    accepted, success = shared.audit.lines(None, result)
    assert (accepted["of"], success["failed"], success["value"]) == (worker.pid, False, "'well'")
    assert success["runtime"] >= 0


def test_a_class_may_be_named(shared: Workers, worker: RunningWorker) -> None:
    result = requested.by_name.delay()
    assert told(shared, result, "success") == ["accepted", "success"]


def test_what_is_no_request_is_refused() -> None:
    class Wrong(Task[..., Any]):
        name = "wrong"
        Request = dict

    with pytest.raises(TypeError, match="the Request of the task 'wrong' must be a class made from"):
        Requests({"wrong": Wrong()}, "here", {}, lambda work: work())


def test_what_was_given_back_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("djtasks.worker.requests._MOST", 2)
    told: list[int] = []

    class Mine(Request):
        def on_success(self, *args: Any, **kwargs: Any) -> None:
            told.append(self.message.claim)

    class Own(Task[..., Any]):
        name = "own"
        Request = Mine

    held = {4}
    requests = Requests({"own": Own()}, "here", held, lambda work: work())
    for claim in range(5):
        requests.accepted([job(claim)])
    requests.accepted([job(5)])
    content_type, encoding, body = pack_value(1)
    for claim in range(6):
        requests.ended(job(claim).message, Outcome(claim, "x", "SUCCESS", body, content_type, encoding))
    assert told == [3, 4, 5]


def job(claim: int) -> Job:
    message = Claimed(
        claim, str(claim), "own", "q", 0, 0, 0, False, b"[[],{}]", "application/json", "", None, None, None, 0
    )
    return Job(message, None, None, 0.0, 0)
