"""Sensitive arguments of calls and runs: they are nowhere to be read."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from djtasks import Task, shared_task, signals
from djtasks.current import current_task
from djtasks.einfo import ExceptionInfo
from djtasks.masking import MASK
from djtasks.messages import Outcome
from tests.calling.conftest import Configure, Runner, claimed, connected, message_of

SECRET = "4111-1111-1111-1111"


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO):
        yield


@pytest.fixture
def pay() -> Task[..., Any]:
    @shared_task(name="shop.pay", sensitive=("card",), max_retries=None)
    def pay(user: str, card: str, end: str = "") -> str:
        if end == "retry":
            raise current_task.retry(exc=ValueError(f"no bank for {card}"))
        if end == "fail":
            raise ValueError(f"card {card!r} of {user} is refused", card, {"card": [card]})
        return f"{user} paid with {card}"

    return pay


def texts(outcome: Outcome) -> str:
    return f"{outcome.traceback} {(outcome.result or b'').decode()}"


def test_the_header_of_a_message_says_which_arguments_are_sensitive(pay: Task[..., Any]) -> None:
    assert json.loads(message_of(pay, "ann", SECRET).headers or "") == {"sensitive": [[1], ["card"], None]}
    said = json.loads(message_of(pay, "ann", SECRET, countdown=5, shadow="x").headers or "")
    assert said["sensitive"] == [[1], ["card"], None]


def test_a_task_without_sensitive_arguments_says_nothing_of_them() -> None:
    @shared_task(name="shop.plain")
    def plain() -> None: ...

    assert message_of(plain).headers is None


def test_a_sensitive_argument_that_is_misspelt_is_refused_where_the_task_is_called() -> None:
    @shared_task(name="shop.misspelt", sensitive=("crad",))
    def misspelt(card: str) -> None: ...

    with pytest.raises(ValueError, match="no parameter 'crad'"):
        message_of(misspelt, SECRET)


@pytest.mark.parametrize("end", ["", "fail", "retry"])
def test_a_sensitive_argument_stands_in_no_line_of_the_log(
    run: Runner, pay: Task[..., Any], caplog: pytest.LogCaptureFixture, configure: Configure, end: str
) -> None:
    configure(LOG_ARGUMENTS=True)
    run(pay, "ann", SECRET, end)
    assert "shop.pay" in caplog.text
    assert SECRET not in caplog.text
    shown = [record.data for record in caplog.records if hasattr(record, "data")]
    assert shown
    assert SECRET not in str(shown)
    assert shown[-1]["args"] == f"['ann', {MASK}, {end!r}]"


@pytest.mark.parametrize("end", ["fail", "retry"])
def test_a_sensitive_argument_stands_in_no_traceback_and_no_stored_exception(
    run: Runner, pay: Task[..., Any], end: str
) -> None:
    outcome = run(pay, "ann", SECRET, end)
    assert outcome.result
    assert MASK in texts(outcome)
    assert SECRET not in texts(outcome)


def test_the_log_of_a_failure_still_has_its_traceback(
    run: Runner, pay: Task[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    run(pay, "ann", SECRET, "fail")
    record = next(record for record in caplog.records if "raised unexpected" in record.getMessage())
    assert "Traceback (most recent call last):" in record.getMessage()
    assert f"card '{MASK}' of ann is refused" in record.getMessage()
    assert record.exc_info is None


def test_handlers_and_receivers_get_the_arguments_and_the_exception_themselves(run: Runner) -> None:
    seen: dict[str, Any] = {}

    class Payment(Task[..., Any]):
        abstract = True

        def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: ExceptionInfo) -> None:
            seen.update(args=args, exc=str(exc), text=einfo.traceback)

    @shared_task(name="shop.charge", base=Payment, sensitive=True)
    def charge(card: str) -> None:
        raise ValueError(card)

    def receiver(args: Any, **_: Any) -> None:
        seen["signal"] = args

    with connected(signals.task_failure, receiver):
        run(charge, SECRET)
    assert (seen["args"], seen["signal"], seen["exc"]) == ([SECRET], [SECRET], SECRET)
    assert SECRET not in seen["text"]


def test_the_request_is_shown_without_sensitive_arguments(run: Runner) -> None:
    shown: list[str] = []

    @shared_task(name="shop.show", sensitive=("card",))
    def show(card: str) -> None:
        shown.append(repr(current_task.request))

    run(show, SECRET)
    assert SECRET not in shown[0]
    assert MASK in shown[0]


def test_the_worker_hides_what_the_caller_called_sensitive_even_if_its_own_task_does_not(
    run: Runner, pay: Task[..., Any], caplog: pytest.LogCaptureFixture, configure: Configure
) -> None:
    configure(LOG_ARGUMENTS=True)
    message = message_of(pay, "ann", SECRET, "fail")
    type(pay).sensitive = ()
    assert SECRET not in texts(run.trace(claimed(message)))
    assert SECRET not in caplog.text


def test_a_message_of_before_is_hidden_by_what_the_task_says_now(
    run: Runner, pay: Task[..., Any], caplog: pytest.LogCaptureFixture, configure: Configure
) -> None:
    configure(LOG_ARGUMENTS=True)
    message = message_of(pay, "ann", SECRET, "fail")._replace(headers=None)
    assert SECRET not in texts(run.trace(claimed(message)))
    assert SECRET not in caplog.text


def test_what_before_task_publish_shows_of_the_arguments_is_masked(pay: Task[..., Any]) -> None:
    seen: dict[str, Any] = {}

    def receiver(headers: dict[str, Any], **_: Any) -> None:
        seen.update(headers)

    with connected(signals.before_task_publish, receiver):
        message_of(pay, "ann", kwargs={"card": SECRET})
    assert (seen["argsrepr"], seen["kwargsrepr"]) == ("('ann',)", f"{{'card': {MASK}}}")


def test_an_eager_run_logs_no_sensitive_arguments(
    pay: Task[..., Any], caplog: pytest.LogCaptureFixture, configure: Configure
) -> None:
    configure(LOG_ARGUMENTS=True)
    result = pay.apply(("ann", SECRET, "fail"))
    assert result.state == "FAILURE"
    assert SECRET not in caplog.text


def test_too_many_retries_with_other_arguments_do_not_tell_these(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    @shared_task(bind=True, name="shop.renew", sensitive=("card",), max_retries=0)
    def renew(self: Any, card: str) -> None:
        raise self.retry(args=(SECRET[::-1],))

    outcome = run(renew, SECRET)
    assert "MaxRetriesExceededError" in texts(outcome)
    assert SECRET[::-1] not in texts(outcome) + caplog.text
