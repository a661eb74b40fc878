"""One run of a message: how it ends, what is stored of it, and who hears of it."""

import logging
from typing import Any

import pytest

from djtasks import Task, current_task, shared_task, signals, tracer
from djtasks.exceptions import (
    ContentDisallowed,
    DecodeError,
    EncodeError,
    Ignore,
    InvalidTaskError,
    NotRegistered,
    PayloadTooLarge,
    Reject,
    TaskRevokedError,
    WorkerLostError,
    WorkerShutdown,
)
from djtasks.messages import Again, Outcome
from djtasks.payload import unpack_exception, unpack_value
from djtasks.registry import tasks
from tests.calling.conftest import Configure, Runner, claimed, connected, message_of


def value_of(outcome: Outcome) -> Any:
    assert outcome.result is not None
    return unpack_value(outcome.result, outcome.content_type, outcome.content_encoding)


def error_of(outcome: Outcome) -> BaseException:
    assert outcome.result is not None
    error: BaseException = unpack_exception(outcome.result, outcome.content_type, outcome.content_encoding)
    return error


@shared_task
def fail(text: str = "no") -> None:
    raise ValueError(text)


@pytest.fixture(autouse=True)
def failing_task(registry: dict[str, Any]) -> None:
    registry[fail.name] = fail


# -- success ------------------------------------------------------------------------------------------------------


def test_what_a_task_returns_is_its_result(run: Runner) -> None:
    @shared_task
    def add(x: int, y: int) -> int:
        return x + y

    outcome = run(add, 1, 2)
    assert (outcome.claim, outcome.state, outcome.store, outcome.keep) == (7, "SUCCESS", True, False)
    assert value_of(outcome) == 3
    assert outcome.traceback is None
    assert outcome.started > 1e9
    assert 0 <= outcome.runtime < 60


def test_a_result_is_encoded_and_compressed_as_the_settings_say(run: Runner, configure: Configure) -> None:
    configure(RESULT_SERIALIZER="yaml", RESULT_COMPRESSION="gzip", RESULT_ACCEPT_CONTENT=["yaml"])

    @shared_task
    def echo(x: str) -> str:
        return x

    outcome = run(echo, "hi")
    assert (outcome.content_type, outcome.content_encoding) == ("application/x-yaml", "gzip")
    assert value_of(outcome) == "hi"


def test_with_result_extended_a_success_keeps_its_message(run: Runner, configure: Configure) -> None:
    configure(RESULT_EXTENDED=True)

    @shared_task
    def nothing() -> None: ...

    assert run(nothing).keep


# -- failure ------------------------------------------------------------------------------------------------------


def test_what_a_task_raises_is_stored_with_its_traceback_and_its_message(run: Runner) -> None:
    outcome = run(fail, "no")
    assert (outcome.state, outcome.store, outcome.keep) == ("FAILURE", True, True)
    error = error_of(outcome)
    assert type(error) is ValueError
    assert str(error) == "no"
    assert outcome.traceback is not None
    assert outcome.traceback.startswith("Traceback (most recent call last):")
    assert outcome.traceback.endswith("ValueError: no\n")


def test_a_traceback_begins_with_the_tasks_own_code(run: Runner) -> None:
    traceback = run(fail).traceback
    assert traceback is not None
    assert "test_tracer.py" in traceback.splitlines()[1]


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_a_traceback_is_text_that_the_database_can_hold(run: Runner, text: str) -> None:
    outcome = run(fail, text)
    assert outcome.traceback is not None
    assert "\0" not in outcome.traceback
    outcome.traceback.encode()
    assert str(error_of(outcome)) == text


def test_an_exception_whose_text_fails_is_a_failure_like_any_other(run: Runner) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("even this")

    @shared_task
    def breaks() -> None:
        raise Broken

    outcome = run(breaks)
    assert outcome.state == "FAILURE"
    assert type(error_of(outcome)).__name__.endswith("Broken")


@pytest.mark.parametrize("raised", [SystemExit(3), MemoryError("full"), GeneratorExit(), BaseException("base")])
def test_whatever_a_task_raises_its_process_goes_on(run: Runner, raised: BaseException) -> None:
    @shared_task
    def leave() -> None:
        raise raised

    outcome = run(leave)
    assert outcome.state == "FAILURE"
    assert type(error_of(outcome)).__name__ == type(raised).__name__


@pytest.mark.parametrize("raised", [KeyboardInterrupt, WorkerShutdown])
def test_what_is_to_end_the_worker_ends_it(run: Runner, raised: type[BaseException]) -> None:
    @shared_task
    def leave() -> None:
        raise raised

    with pytest.raises(raised):
        run(leave)
    assert not current_task


def test_a_result_that_cannot_be_encoded_is_a_failure_and_nobody_hears_of_a_success(run: Runner) -> None:
    heard: list[str] = []

    class Listening(Task[..., Any]):
        def on_success(self, *args: Any) -> None:
            heard.append("success")

        def on_failure(self, *args: Any) -> None:
            heard.append("failure")

    @shared_task(base=Listening)
    def odd() -> object:
        return object()

    outcome = run(odd)
    assert outcome.state == "FAILURE"
    assert type(error_of(outcome)) is EncodeError
    assert heard == ["failure"]


def test_a_result_over_the_limit_is_a_failure(run: Runner, configure: Configure) -> None:
    configure(RESULT_MAX_BYTES=1000)

    @shared_task
    def much() -> str:
        return "x" * 1000

    outcome = run(much)
    assert type(error_of(outcome)) is PayloadTooLarge
    assert "the result is 1,002 bytes, over RESULT_MAX_BYTES (1,000)" in str(error_of(outcome))


def test_a_large_result_is_warned_of(run: Runner, configure: Configure, caplog: pytest.LogCaptureFixture) -> None:
    configure(RESULT_WARN_BYTES=100)

    @shared_task(name="shop.much")
    def much(size: int) -> str:
        return "x" * size

    run(much, 50)
    assert "RESULT_WARN_BYTES" not in caplog.text
    assert run(much, 150).state == "SUCCESS"
    assert "returned 152 bytes, over RESULT_WARN_BYTES (100): store the data and return its key" in caplog.text


def test_an_exception_over_the_limit_is_stored_with_the_beginning_of_its_text(
    run: Runner, configure: Configure
) -> None:
    configure(RESULT_MAX_BYTES=5000)
    outcome = run(fail, "x" * 50_000)
    assert "ValueError of" in str(error_of(outcome))
    assert "xxxx" in str(error_of(outcome))
    assert len(outcome.result or b"") < 5000


def test_arguments_that_the_task_does_not_take_are_a_failure(run: Runner) -> None:
    outcome = run(fail, 1, 2, 3)
    assert type(error_of(outcome)) is TypeError


# -- what never reaches the task ----------------------------------------------------------------------------------


def test_an_unknown_task_is_a_failure(run: Runner) -> None:
    message = claimed(message_of(fail))
    del tasks[fail.name]
    outcome = run.trace(message)
    assert (outcome.state, outcome.keep) == ("FAILURE", True)
    assert type(error_of(outcome)) is NotRegistered


@pytest.mark.parametrize("late", [{"expired": True}, {"expires": 1.0}], ids=["by the database", "by now"])
def test_an_expired_task_is_revoked_and_does_not_run(run: Runner, late: dict[str, Any]) -> None:
    heard: list[Any] = []

    def hear(request: Any, expired: bool, terminated: bool, **kwargs: Any) -> None:
        heard.append((request.id, expired, terminated))

    with connected(signals.task_revoked, hear):
        outcome = run(fail, changes=late)
    assert outcome.state == "REVOKED"
    assert type(error_of(outcome)) is TaskRevokedError
    assert str(error_of(outcome)) == "expired"
    assert heard == [(outcome.id, True, False)]


def test_a_content_type_that_is_not_accepted_is_a_failure(run: Runner) -> None:
    outcome = run(fail, serializer="pickle")
    assert type(error_of(outcome)) is ContentDisallowed


@pytest.mark.parametrize("body", [b"{}", b"[1]", b"[1,{}]", b'[[],"x"]', b"\xff", b"", b"[" * 100_000])
def test_a_broken_body_is_a_failure(run: Runner, body: bytes) -> None:
    outcome = run(fail, changes={"body": body})
    assert (outcome.state, outcome.again) == ("FAILURE", None)
    assert isinstance(error_of(outcome), DecodeError | InvalidTaskError)


def test_a_body_of_the_wrong_shape_is_called_malformed(run: Runner) -> None:
    assert type(error_of(run(fail, changes={"body": b"{}"}))) is InvalidTaskError


# -- what is stored -----------------------------------------------------------------------------------------------


def test_the_call_decides_before_the_task_and_the_settings_whether_a_result_is_stored(
    run: Runner, configure: Configure
) -> None:
    @shared_task(ignore_result=True)
    def quiet() -> int:
        return 1

    @shared_task
    def plain() -> int:
        return 1

    assert not run(quiet).store
    assert run(quiet, ignore_result=False).store
    assert not run(plain, ignore_result=True).store
    configure(TASK_IGNORE_RESULT=True)
    assert not run(plain).store


def test_an_ignored_result_need_not_be_encodable(run: Runner) -> None:
    @shared_task(ignore_result=True)
    def odd() -> object:
        return object()

    assert run(odd).state == "SUCCESS"


def test_errors_of_an_ignored_result_are_stored_when_task_or_settings_say_so(run: Runner, configure: Configure) -> None:
    @shared_task(ignore_result=True, store_errors_even_if_ignored=True)
    def loud() -> None:
        raise ValueError

    assert not run(fail, ignore_result=True).store
    assert run(loud).store
    configure(TASK_STORE_ERRORS_EVEN_IF_IGNORED=True)
    assert run(fail, ignore_result=True).store


def test_a_tracked_task_says_that_it_has_started(run: Runner, configure: Configure) -> None:
    @shared_task(track_started=True)
    def tracked() -> None: ...

    outcome = run(tracked)
    assert [(each.claim, each.id, each.state) for each in run.reports] == [(7, outcome.id, "STARTED")]
    meta = unpack_value(run.reports[0].meta or b"", run.reports[0].content_type, "")
    assert meta["hostname"] == "celery@here"
    run(tracked, ignore_result=True)
    assert len(run.reports) == 1
    configure(TASK_TRACK_STARTED=True)
    run(fail)
    assert len(run.reports) == 2


def test_the_parent_can_end_a_message_that_its_child_could_not() -> None:
    message = claimed(message_of(fail))
    lost = tracer.failure(message, WorkerLostError("gone"), "text\0")
    assert (lost.claim, lost.id, lost.state, lost.store, lost.keep) == (7, message.id, "FAILURE", True, True)
    assert lost.traceback == "text\\x00"
    assert type(error_of(lost)) is WorkerLostError
    assert tracer.failure(message, TaskRevokedError("revoked")).state == "REVOKED"
    assert not tracer.failure(claimed(message_of(fail, ignore_result=True)), WorkerLostError()).store


# -- steering -----------------------------------------------------------------------------------------------------


def test_ignore_stores_nothing(run: Runner) -> None:
    @shared_task
    def skip() -> None:
        raise Ignore

    outcome = run(skip)
    assert (outcome.state, outcome.store, outcome.again) == ("IGNORED", False, None)


def test_reject_with_requeue_puts_the_message_back_without_counting_a_retry(run: Runner) -> None:
    @shared_task
    def refuse() -> None:
        raise Reject("later", requeue=True)

    outcome = run(refuse)
    assert (outcome.state, outcome.store, outcome.again) == ("REJECTED", False, Again(counts=False))


def test_reject_without_requeue_is_a_dead_letter_a_failure_that_keeps_its_message(run: Runner) -> None:
    heard: list[Any] = []

    def hear(exception: Any, **kwargs: Any) -> None:
        heard.append(exception)

    @shared_task
    def refuse() -> None:
        raise Reject("never", requeue=False)

    with connected(signals.task_failure, hear):
        outcome = run(refuse)
    assert (outcome.state, outcome.store, outcome.keep, outcome.again) == ("FAILURE", True, True, None)
    assert type(error_of(outcome)) is Reject
    assert [type(each) for each in heard] == [Reject]


# -- handlers -----------------------------------------------------------------------------------------------------


class Telling(Task[..., Any]):
    told: list[Any] = []  # noqa: RUF012 -- emptied before each test

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        self.told.append(("before_start", task_id, args, kwargs))

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        self.told.append(("on_success", retval, task_id, args, kwargs))

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self.told.append(("on_failure", repr(exc), task_id, args, kwargs, str(einfo).splitlines()[-1]))

    def on_retry(self, exc: BaseException | None, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self.told.append(("on_retry", repr(exc), task_id, args, kwargs))

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self.told.append(("after_return", status, repr(retval), task_id, args, kwargs, einfo))


@pytest.fixture
def told() -> list[Any]:
    Telling.told.clear()
    return Telling.told


def test_the_handlers_of_a_success_are_called_in_order(run: Runner, told: list[Any]) -> None:
    @shared_task(base=Telling)
    def add(x: int, y: int) -> int:
        return x + y

    task_id = run(add, 1, kwargs={"y": 2}).id
    assert told == [
        ("before_start", task_id, [1], {"y": 2}),
        ("on_success", 3, task_id, [1], {"y": 2}),
        ("after_return", "SUCCESS", "3", task_id, [1], {"y": 2}, None),
    ]


def test_the_handlers_of_a_failure_are_called_in_order(run: Runner, told: list[Any]) -> None:
    @shared_task(base=Telling)
    def breaks() -> None:
        raise ValueError("no")

    task_id = run(breaks).id
    assert told == [
        ("before_start", task_id, [], {}),
        ("on_failure", "ValueError('no')", task_id, [], {}, "ValueError: no"),
        ("after_return", "FAILURE", "ValueError('no')", task_id, [], {}, None),
    ]


def test_after_a_retry_only_on_retry_is_called(run: Runner, told: list[Any]) -> None:
    @shared_task(base=Telling, bind=True)
    def again(self: Task[..., Any]) -> None:
        raise self.retry(exc=ValueError("no"))

    task_id = run(again).id
    assert told[1:] == [("on_retry", "ValueError('no')", task_id, [], {})]


@pytest.mark.parametrize("steer", [Ignore, Reject])
def test_after_ignore_and_reject_no_handler_is_called(run: Runner, told: list[Any], steer: type[Exception]) -> None:
    @shared_task(base=Telling)
    def skip() -> None:
        raise steer

    run(skip)
    assert [each[0] for each in told] == ["before_start"]


def test_what_before_start_raises_is_the_tasks_failure(run: Runner) -> None:
    class Refusing(Task[..., Any]):
        def before_start(self, *args: Any) -> None:
            raise KeyError("not today")

    @shared_task(base=Refusing)
    def never() -> None:
        pytest.fail("ran all the same")

    assert type(error_of(run(never))) is KeyError


@pytest.mark.parametrize("handler", ["on_success", "after_return"])
def test_what_a_handler_raises_is_logged_and_announced_and_the_success_stands(
    run: Runner, handler: str, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Any] = []

    def hear(exception: Any, **kwargs: Any) -> None:
        heard.append(exception)

    def breaks(self: Any, *args: Any) -> None:
        raise RuntimeError("broken")

    breaks.__name__ = handler

    @shared_task(base=type("Breaking", (Task,), {handler: breaks}))
    def fine() -> int:
        return 1

    with connected(signals.task_internal_error, hear):
        outcome = run(fine)
    assert outcome.state == "SUCCESS"
    assert f"{handler} raised: RuntimeError('broken')" in caplog.text
    assert [str(each) for each in heard] == ["broken"]


def test_an_on_failure_that_was_written_without_einfo_is_called_without_it(run: Runner) -> None:
    seen: list[Any] = []

    class Old(Task[..., Any]):
        def on_failure(self, retval: Any, task_id: Any, args: Any, kwargs: Any) -> None:  # type: ignore[override]
            seen.append(retval)

    @shared_task(base=Old)
    def breaks() -> None:
        raise ValueError("no")

    run(breaks)
    assert [str(each) for each in seen] == ["no"]


def test_a_call_method_of_a_base_class_wraps_each_run(run: Runner) -> None:
    seen: list[Any] = []

    class Wrapping(Task[..., Any]):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            seen.append(("in", self.request.id))
            try:
                return super().__call__(*args, **kwargs)
            finally:
                seen.append("out")

    @shared_task(base=Wrapping, bind=True)
    def wrapped(self: Task[..., Any], deeper: bool) -> None:
        seen.append((self.request.id, self.request.called_directly))
        if deeper:
            self(False)

    task_id = run(wrapped, True).id
    assert seen == [("in", task_id), (task_id, False), ("in", task_id), (None, True), "out", "out"]


# -- signals ------------------------------------------------------------------------------------------------------


def test_signals_tell_of_start_end_and_outcome(run: Runner) -> None:
    heard: list[Any] = []

    def hear(name: str) -> Any:
        def receiver(**kwargs: Any) -> None:
            kwargs.pop("signal")
            heard.append((name, kwargs))

        return receiver

    @shared_task
    def add(x: int) -> int:
        return x

    with (
        connected(signals.task_prerun, hear("prerun"), add),
        connected(signals.task_success, hear("success"), add),
        connected(signals.task_postrun, hear("postrun")),
        connected(signals.task_failure, hear("failure")),
    ):
        task_id = run(add, 1).id
        runtime = heard[1][1].pop("runtime")
        assert runtime >= 0
        assert heard == [
            ("prerun", {"sender": add, "task_id": task_id, "task": add, "args": [1], "kwargs": {}}),
            ("success", {"sender": add, "result": 1}),
            (
                "postrun",
                {
                    "sender": add,
                    "task_id": task_id,
                    "task": add,
                    "args": [1],
                    "kwargs": {},
                    "retval": 1,
                    "state": "SUCCESS",
                },
            ),
        ]
        heard.clear()
        task_id = run(fail).id
    name, failure = heard[0]
    assert (name, failure["sender"], failure["task_id"]) == ("failure", fail, task_id)
    assert (str(failure["exception"]), failure["args"], failure["kwargs"]) == ("no", [], {})
    assert failure["traceback"].tb_frame.f_code is fail.run.__code__
    assert str(failure["einfo"]).endswith("ValueError: no\n")
    assert heard[1][1]["state"] == "FAILURE"


# -- log lines ----------------------------------------------------------------------------------------------------


def test_a_success_is_one_line_at_info(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    @shared_task(name="shop.add")
    def add(secret: str) -> int:
        return 42

    with caplog.at_level(logging.INFO, "djtasks"):
        outcome = run(add, "secret")
    [record] = caplog.records
    assert record.getMessage() == f"Task shop.add[{outcome.id}] succeeded in {outcome.runtime}s: 42"
    assert "secret" not in record.getMessage()
    assert "args" not in record.__dict__["data"]


def test_a_long_result_is_cut_in_the_log_where_the_task_says(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    @shared_task(name="shop.list", resultrepr_maxsize=10)
    def everything() -> str:
        return "x" * 100

    with caplog.at_level(logging.INFO, "djtasks"):
        run(everything)
    [record] = caplog.records
    assert record.getMessage().endswith(": 'xxxxxx...")


def test_arguments_are_logged_only_when_the_settings_say_so(
    run: Runner, caplog: pytest.LogCaptureFixture, configure: Configure
) -> None:
    configure(LOG_ARGUMENTS=True)
    with caplog.at_level(logging.INFO, "djtasks"):
        run(fail, "secret", argsrepr="(…)")
    assert caplog.records[0].__dict__["data"]["args"] == "(…)"


def test_a_failure_is_logged_with_its_traceback(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    outcome = run(fail)
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage() == f"Task {fail.name}[{outcome.id}] raised unexpected: ValueError('no')"
    assert record.exc_info is not None


def test_an_expected_failure_is_one_line_at_info_and_its_traceback_is_stored_all_the_same(
    run: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    @shared_task(name="shop.missing", throws=(KeyError,))
    def missing() -> None:
        raise KeyError("x")

    with caplog.at_level(logging.INFO, "djtasks"):
        outcome = run(missing)
    [record] = caplog.records
    assert (record.levelname, record.exc_info) == ("INFO", None)
    assert record.getMessage() == f"Task shop.missing[{outcome.id}] raised expected: KeyError('x')"
    assert outcome.traceback is not None


def test_a_shadow_stands_in_log_lines(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    run(fail, shadow="shop.other")
    assert caplog.records[0].getMessage().startswith("Task shop.other[")


# -- time limits --------------------------------------------------------------------------------------------------


def test_the_window_for_soft_time_limits_is_open_only_in_the_authors_code(run: Runner) -> None:
    seen: list[tuple[str, bool]] = []

    def look(where: str) -> None:
        seen.append((where, tracer.soft_limit_window.inside))

    class Looking(Task[..., Any]):
        def before_start(self, *args: Any) -> None:
            look("before_start")

        def on_success(self, *args: Any) -> None:
            look("on_success")

    @shared_task(base=Looking)
    def looking(outer: bool) -> None:
        look("run")
        if outer:
            looking.apply((False,))
            look("run, after a run inside it")

    with (
        connected(signals.task_prerun, lambda **kwargs: look("prerun")),
        connected(signals.task_postrun, lambda **kwargs: look("postrun")),
    ):
        run(looking, False)
    assert seen == [
        ("prerun", False),
        ("before_start", True),
        ("run", True),
        ("on_success", True),
        ("postrun", False),
    ]
    seen.clear()
    run(looking, True)
    assert seen[-2:] == [("run, after a run inside it", True), ("on_success", True)]
    assert not tracer.soft_limit_window.inside
