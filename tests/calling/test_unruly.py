"""Whatever a message says, and whatever an exception or a result does when asked: one outcome, and a living worker."""

import logging
import math
from collections.abc import Iterator
from typing import Any

import pytest

from djtasks import Task, current_task, shared_task, signals
from djtasks.exceptions import FATAL, Reject, Retry, TaskRevokedError, safe_repr
from djtasks.messages import Outcome
from djtasks.payload import unpack_exception, unpack_value
from tests.calling.conftest import Configure, Runner, connected
from tests.hostile import BAD, GOOD, HEADERS, ODD_LIMITS, Bad


def error_of(outcome: Outcome) -> BaseException:
    assert outcome.result is not None
    error: BaseException = unpack_exception(outcome.result, outcome.content_type, outcome.content_encoding)
    return error


@shared_task(bind=True, name="shop.see", time_limit=30, soft_time_limit=20)
def see(self: Task[..., Any], value: Any = None) -> Any:
    """What is said of the time limits."""
    return [self.request.time_limit, self.request.soft_time_limit]


@pytest.fixture(autouse=True)
def defined(registry: dict[str, Any]) -> None:
    registry[see.name] = see


# -- messages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", BAD.values(), ids=list(BAD))
def test_a_bad_message_has_an_outcome_that_says_what_is_wrong_with_it(run: Runner, bad: Bad) -> None:
    outcome = run(see, 1, changes=dict(bad.said))
    assert (outcome.state, outcome.again, outcome.store, outcome.keep) == ("FAILURE", None, True, True)
    assert type(error_of(outcome)) is bad.error
    assert bad.says in str(error_of(outcome))
    assert not current_task


@pytest.mark.parametrize("headers", [None, *(bad.said["headers"] for bad in HEADERS.values())], ids=["none", *HEADERS])
@pytest.mark.parametrize(
    "late",
    [{"expired": True}, {"expires": 1.0}, {"expires": -math.inf}, {"expired": True, "eta": -math.inf}],
    ids=["by the database", "by now", "for ever", "and due for ever"],
)
def test_an_expired_message_is_revoked_whatever_its_headers(
    run: Runner, late: dict[str, Any], headers: str | None
) -> None:
    heard: list[Any] = []

    def hear(request: Any, expired: bool, **kwargs: Any) -> None:
        heard.append((request.id, request.task, expired))

    with connected(signals.task_revoked, hear):
        outcome = run(see, changes={**late, "headers": headers})
    assert (outcome.state, outcome.again) == ("REVOKED", None)
    assert type(error_of(outcome)) is TaskRevokedError
    assert heard == [(outcome.id, "shop.see", True)]


def test_a_receiver_that_wants_to_leave_does_not_take_the_worker_with_it(
    run: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    def leave(**kwargs: Any) -> None:
        raise SystemExit(3)

    with connected(signals.task_revoked, leave):
        assert run(see, changes={"expired": True}).state == "REVOKED"
    assert "A receiver of task_revoked raised SystemExit(3)" in caplog.text
    with connected(signals.task_postrun, leave):
        assert run(see).again is None
    assert not current_task


@pytest.mark.parametrize("moment", [math.inf, -math.inf, 1e18])
def test_a_moment_that_no_calendar_has_is_not_shown(run: Runner, moment: float) -> None:
    seen: list[Any] = []

    @shared_task(bind=True)
    def look(self: Task[..., Any]) -> None:
        seen.append((self.request.eta, self.request.expires))

    assert run(look, changes={"eta": moment, "expires": math.inf}).state == "SUCCESS"
    assert seen == [(None, None)]


@pytest.mark.parametrize("limit", ODD_LIMITS)
def test_a_limit_that_can_be_none_leaves_the_tasks_own(run: Runner, limit: str) -> None:
    outcome = run(see, changes={"headers": f'{{"timelimit":[{limit},7]}}'})
    assert outcome.result is not None
    assert unpack_value(outcome.result, outcome.content_type, "") == [30, 7]


class Failing(logging.Handler):
    """A handler that cannot write."""

    def emit(self, record: logging.LogRecord) -> None:
        raise RecursionError("the log is broken")


@pytest.fixture
def broken_log() -> Iterator[None]:
    """The log raises what is logged to it."""
    handler = Failing()
    logger = logging.getLogger("djtasks.tracer")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


@pytest.mark.usefixtures("broken_log")
def test_a_log_that_fails_does_not_take_the_worker_with_it(run: Runner) -> None:
    assert run(see, changes={"body": b"{}"}).state == "FAILURE"
    assert run(see, 1, 2, 3).state == "FAILURE"


# -- exceptions and results ---------------------------------------------------------------------------------------


class ReprRaises(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class NothingWorks(ReprRaises):
    __str__ = ReprRaises.__repr__


class Leaves(Exception):
    def __repr__(self) -> str:
        raise SystemExit(3)

    __str__ = __repr__

    def __reduce__(self) -> Any:
        raise SystemExit(4)


class Silent:
    """A result that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def fail_with(run: Runner, error: BaseException) -> Outcome:
    """The outcome of a task that raises this."""

    @shared_task(name="shop.breaks")
    def breaks() -> None:
        raise error

    return run(breaks)


def test_an_exception_whose_repr_raises_is_a_failure_like_any_other(
    run: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = fail_with(run, ReprRaises("the oven is cold"))
    assert (outcome.state, outcome.again, outcome.store, outcome.keep) == ("FAILURE", None, True, True)
    assert type(error_of(outcome)) is ReprRaises
    assert str(error_of(outcome)) == "the oven is cold"
    assert outcome.traceback is not None
    assert outcome.traceback.endswith("ReprRaises: the oven is cold\n")
    assert "raised unexpected: <ReprRaises object: its repr raised RuntimeError>" in caplog.text


def test_an_exception_with_neither_text_nor_repr_is_a_failure_like_any_other(
    run: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = fail_with(run, NothingWorks("the oven is cold"))
    assert (outcome.state, outcome.again) == ("FAILURE", None)
    assert type(error_of(outcome)).__name__ == "NothingWorks"
    assert str(error_of(outcome)) == "<NothingWorks object: its repr raised RuntimeError>"
    assert error_of(outcome).args == ("the oven is cold",)
    assert "raised unexpected: <NothingWorks object: its repr raised RuntimeError>" in caplog.text


def test_an_exception_whose_methods_want_to_leave_is_a_failure_like_any_other(
    run: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = fail_with(run, Leaves("the oven is cold"))
    assert (outcome.state, outcome.again) == ("FAILURE", None)
    assert str(error_of(outcome)) == "<Leaves object: its repr raised SystemExit>"
    assert outcome.traceback
    assert "raised unexpected: <Leaves object: its repr raised SystemExit>" in caplog.text


@pytest.mark.parametrize(
    ("raised", "state"),
    [(Leaves(), "FAILURE"), (Reject(Silent()), "FAILURE"), (Retry(exc=Leaves(), when=1), "RETRY")],
    ids=["expected", "rejected", "retried"],
)
def test_wherever_such_an_object_is_met_the_run_ends_as_it_should(
    run: Runner, raised: Exception, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    @shared_task(throws=(Leaves,), name="shop.steered")
    def steered() -> None:
        raise raised

    with caplog.at_level(logging.INFO, "djtasks"):
        outcome = run(steered)
    assert outcome.state == state
    assert (outcome.again is not None) == (state == "RETRY")
    assert "its repr raised" in caplog.text


def test_an_ignored_result_that_cannot_be_shown_is_a_success(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    @shared_task(name="shop.silent", ignore_result=True)
    def silent() -> Silent:
        return Silent()

    with caplog.at_level(logging.INFO, "djtasks"):
        outcome = run(silent)
    assert (outcome.state, outcome.store) == ("SUCCESS", False)
    assert "<Silent object: its repr raised RuntimeError>" in caplog.text


def test_arguments_that_cannot_be_shown_are_refused_all_the_same(configure: Configure) -> None:
    for call in ({"args": Silent()}, {"kwargs": Silent()}, {"countdown": Silent()}, {"queue": Silent()}):
        with pytest.raises((TypeError, ValueError), match="its repr raised RuntimeError"):
            see.apply_async(**call)


# -- safe_repr ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raised", [ValueError, SystemExit, GeneratorExit, MemoryError, RecursionError])
def test_what_a_repr_raises_is_named_in_its_place(raised: type[BaseException]) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise raised

    assert safe_repr(Odd()) == f"<Odd object: its repr raised {raised.__name__}>"


@pytest.mark.parametrize("raised", FATAL)
def test_what_is_to_end_the_worker_ends_it_in_a_repr_too(raised: type[BaseException]) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise raised

    with pytest.raises(raised):
        safe_repr(Odd())


def test_a_good_message_beside_them_is_run(run: Runner) -> None:
    assert run(see, changes=dict(GOOD.said)).state == "SUCCESS"
