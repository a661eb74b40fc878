"""Celery's signals."""

import gc
import logging
from typing import Any

import pytest

from djtasks import signals
from djtasks.exceptions import SoftTimeLimitExceeded
from djtasks.signals import Signal

CELERYS = """
before_task_publish after_task_publish task_received task_prerun task_postrun task_success task_retry task_failure
task_internal_error task_revoked task_rejected task_unknown task_sent celeryd_init celeryd_after_setup import_modules
worker_init worker_before_create_process worker_process_init worker_process_shutdown worker_ready worker_shutdown
worker_shutting_down heartbeat_sent setup_logging after_setup_logger after_setup_task_logger beat_init
beat_embedded_init eventlet_pool_started eventlet_pool_preshutdown eventlet_pool_postshutdown eventlet_pool_apply
user_preload_options
"""


@pytest.mark.parametrize("name", CELERYS.split())
def test_every_signal_of_celery_is_here(name: str) -> None:
    assert isinstance(getattr(signals, name), Signal)


def test_a_receiver_gets_the_signal_the_sender_and_the_arguments() -> None:
    signal, seen = Signal(), []

    @signal.connect
    def receiver(**kwargs: Any) -> str:
        seen.append(kwargs)
        return "answer"

    assert signal.send("task", task_id="1") == [(receiver, "answer")]
    assert seen == [{"signal": signal, "sender": "task", "task_id": "1"}]


def test_what_a_receiver_raises_is_logged_and_not_raised(caplog: pytest.LogCaptureFixture) -> None:
    signal, seen = Signal(), []

    @signal.connect
    def broken(**kwargs: Any) -> None:
        raise LookupError("broken receiver")

    @signal.connect
    def sound(**kwargs: Any) -> None:
        seen.append(1)

    with caplog.at_level(logging.ERROR):
        answers = signal.send(None)
    assert seen == [1]
    assert [type(answer) for _, answer in answers] == [LookupError, type(None)]
    assert "broken receiver" in caplog.text
    assert len(caplog.records) == 1


def test_a_time_limit_that_strikes_in_a_receiver_reaches_the_task() -> None:
    signal = Signal()

    @signal.connect
    def slow(**kwargs: Any) -> None:
        raise SoftTimeLimitExceeded

    with pytest.raises(SoftTimeLimitExceeded):
        signal.send(None)


def test_connect_is_a_decorator_with_and_without_options() -> None:
    signal = Signal()

    @signal.connect
    def bare(**kwargs: Any) -> None: ...

    @signal.connect(sender="a", weak=False)
    def with_options(**kwargs: Any) -> None: ...

    assert callable(bare)
    assert callable(with_options)
    assert [receiver for receiver, _ in signal.send("a")] == [bare, with_options]


def test_a_receiver_of_one_sender_hears_no_other() -> None:
    signal = Signal()

    def receiver(**kwargs: Any) -> None: ...

    task = object()
    signal.connect(receiver, sender=task)
    assert len(signal.send(task)) == 1
    assert signal.send(object()) == []


def test_equal_texts_are_the_same_sender() -> None:
    signal = Signal()

    @signal.connect(sender="".join(["proj.", "add"]))
    def receiver(**kwargs: Any) -> None: ...

    gc.collect()
    name = "".join(["proj", ".add"])
    assert len(signal.send(name)) == 1
    assert signal.has_listeners(name)
    assert signal.send("proj.other") == []
    assert signal.disconnect(receiver, sender="".join(["proj.a", "dd"]))
    assert signal.send(name) == []


def test_a_signal_nobody_listens_to_has_no_receivers() -> None:
    signal = Signal()
    assert not signal.receivers

    def receiver(**kwargs: Any) -> None: ...

    signal.connect(receiver)
    assert signal.receivers
    signal.disconnect(receiver)
    assert not signal.receivers


def test_the_same_uid_connects_once() -> None:
    signal = Signal()
    for _ in range(2):
        signal.connect(lambda **kwargs: 1, weak=False, dispatch_uid="once")
    assert len(signal.send(None)) == 1


def test_a_receiver_that_is_not_callable_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="must be callable"):
        Signal().connect("receiver")  # type: ignore[call-overload]


def test_a_receiver_that_is_to_be_called_again_is_and_can_be_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    signal, calls = Signal(), []
    waits: list[float] = []
    monkeypatch.setattr(signals.time, "sleep", waits.append)

    def receiver(number: int, **kwargs: Any) -> int:
        calls.append(number)
        if len(calls) < 3:
            raise LookupError
        return 5

    signal.connect(receiver, retry=True)
    assert [answer for _, answer in signal.send(None, number=7)] == [5]
    assert (calls, waits) == ([7, 7, 7], [2, 4])
    assert signal.disconnect(receiver)
    assert not signal.receivers


def test_a_receiver_that_always_raises_is_given_up_after_five_times(monkeypatch: pytest.MonkeyPatch) -> None:
    signal, waits = Signal(), []
    monkeypatch.setattr(signals.time, "sleep", waits.append)

    @signal.connect(retry=True)
    def receiver(**kwargs: Any) -> int:
        raise LookupError

    assert [type(answer) for _, answer in signal.send(None)] == [LookupError]
    assert waits == [2, 4, 6, 8, 10]
