"""What goes wrong around a task's own code."""

from typing import Any

import pytest

from djtasks import Task, shared_task, signals, tracer
from tests.calling.conftest import Runner, claimed, connected, message_of


class Seen(list[dict[str, Any]]):
    """What a receiver was given."""

    def __call__(self, **kwargs: Any) -> None:
        self.append(kwargs)


@pytest.fixture
def add() -> Task[..., Any]:
    @shared_task(name="shop.add")
    def add(x: int) -> int:
        return x

    return add


def test_a_handler_that_raises_is_an_internal_error_and_the_outcome_stands(run: Runner) -> None:
    class Careless(Task[..., Any]):
        abstract = True

        def on_success(self, *args: Any, **kwargs: Any) -> None:
            raise LookupError("in the handler")

    @shared_task(name="shop.careless", base=Careless)
    def careless() -> int:
        return 1

    seen = Seen()
    with connected(signals.task_internal_error, seen):
        outcome = run(careless)
    assert outcome.state == "SUCCESS"
    assert set(seen[0]) == {
        "signal", "sender", "task_id", "args", "kwargs", "request", "exception", "traceback", "einfo",
    }  # fmt: skip
    assert (seen[0]["sender"], repr(seen[0]["exception"])) == (careless, "LookupError('in the handler')")


def test_an_error_of_djtasks_own_ends_the_task_and_is_told(
    run: Runner, add: Task[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(frame: Any) -> Any:
        raise RuntimeError("broken machinery")

    monkeypatch.setattr(tracer, "execute", broken)
    seen, failures = Seen(), Seen()
    with connected(signals.task_internal_error, seen), connected(signals.task_failure, failures):
        outcome = run(add, 5)
    assert (outcome.state, outcome.dead) == ("FAILURE", None)
    assert (seen[0]["args"], seen[0]["request"].id, str(seen[0]["exception"])) == ([5], outcome.id, "broken machinery")
    assert failures == []


def test_a_message_that_cannot_be_read_is_no_internal_error_but_a_dead_letter(run: Runner, add: Task[..., Any]) -> None:
    seen = Seen()
    with connected(signals.task_internal_error, seen):
        outcome = run.trace(claimed(message_of(add, 5), body=b"no json"))
    assert (outcome.state, outcome.dead) == ("FAILURE", "undecodable")
    assert seen == []
