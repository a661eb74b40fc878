"""Spans of enqueues and runs."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from djtasks import Task, shared_task, signals
from djtasks.contrib.opentelemetry import instrument, uninstrument
from djtasks.exceptions import EncodeError
from djtasks.messages import Claimed
from tests.calling.conftest import Runner, _sessions, claimed, message_of, registry, run, waiting

__all__ = ["_sessions", "registry", "run"]


class Spans:
    """What was exported."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self.exporter = exporter

    def __call__(self, start: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name.startswith(start)]


@pytest.fixture
def provider() -> TracerProvider:
    return TracerProvider()


@pytest.fixture
def spans(provider: TracerProvider) -> Iterator[Spans]:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrument(provider)
    yield Spans(exporter)
    uninstrument()


@pytest.fixture
def add() -> Task[..., Any]:
    @shared_task(name="shop.add", queue="sums")
    def add(x: int, y: int = 0) -> int:
        trace.get_current_span().set_attribute("inside", True)
        return x + y

    return add


def enqueued(task: Task[..., Any], *args: Any) -> Claimed:
    """A call's message, as it is after its announcement."""
    message = message_of(task, *args)
    signals.after_task_publish.send(task.name)
    return claimed(message)


@pytest.mark.django_db(transaction=True)
def test_an_enqueue_is_a_span_in_the_callers_trace(spans: Spans, provider: TracerProvider, add: Task[..., Any]) -> None:
    with provider.get_tracer("test").start_as_current_span("request") as request:
        result = add.delay(1)
    (span,) = spans("enqueue")
    assert (span.name, span.kind) == ("enqueue shop.add", SpanKind.PRODUCER)
    assert span.parent is not None
    assert span.parent.span_id == request.get_span_context().span_id
    assert dict(span.attributes or {}) == {
        "messaging.system": "djtasks",
        "messaging.destination.name": "sums",
        "messaging.message.id": result.id,
        "djtasks.task": "shop.add",
    }
    assert span.context is not None
    assert f"{span.context.span_id:016x}" in waiting("shop.add")[0]["headers"]


def test_a_run_is_a_span_below_its_enqueue_and_what_it_does_is_inside(
    spans: Spans, add: Task[..., Any], run: Runner
) -> None:
    run.trace(enqueued(add, 1))
    (span,), (enqueue,) = spans("run"), spans("enqueue")
    assert (span.name, span.kind) == ("run shop.add", SpanKind.CONSUMER)
    assert span.parent is not None
    assert enqueue.context is not None
    assert span.parent.span_id == enqueue.context.span_id
    found = dict(span.attributes or {})
    assert (found["inside"], found["djtasks.state"], found["djtasks.retries"]) == (True, "SUCCESS", 0)
    assert found["messaging.destination.name"] == "sums"
    assert span.status.status_code is StatusCode.UNSET
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_call_from_a_task_is_below_the_run_of_that_task(spans: Spans, add: Task[..., Any], run: Runner) -> None:
    @shared_task(name="shop.outer")
    def outer() -> None:
        enqueued(add, 1)

    run.trace(enqueued(outer))
    (span,) = spans("run shop.outer")
    (inner,) = spans("enqueue shop.add")
    assert span.context is not None
    assert inner.parent is not None
    assert inner.parent.span_id == span.context.span_id


def test_a_failure_is_an_error_with_its_exception(spans: Spans, run: Runner) -> None:
    @shared_task(name="shop.fail")
    def fail() -> None:
        raise ValueError("broken")

    run.trace(enqueued(fail))
    (span,) = spans("run")
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["djtasks.state"] == "FAILURE"
    (event,) = span.events
    assert (event.attributes or {})["exception.message"] == "broken"


def test_what_a_task_throws_as_expected_is_no_error(spans: Spans, run: Runner) -> None:
    @shared_task(name="shop.fail", throws=ValueError)
    def fail() -> None:
        raise ValueError("broken")

    run.trace(enqueued(fail))
    (span,) = spans("run")
    assert span.status.status_code is StatusCode.UNSET
    assert span.events == ()


def test_a_span_does_not_tell_what_is_sensitive(spans: Spans, run: Runner) -> None:
    @shared_task(name="shop.pay", sensitive=("card",))
    def pay(card: str) -> None:
        raise ValueError(card)

    run.trace(enqueued(pay, "4111-1111"))
    assert "4111-1111" not in "".join(span.to_json() for span in spans(""))
    assert len(spans("run")[0].events) == 1


def test_each_retry_is_a_span_of_its_own_in_the_same_trace(spans: Spans, run: Runner) -> None:
    @shared_task(bind=True, name="shop.again")
    def again(self: Any) -> None:
        if self.request.retries < 2:
            raise self.retry(exc=ValueError("not yet"), countdown=0)

    message = enqueued(again)
    for retries in range(3):
        run.trace(message._replace(retries=retries))
    found = spans("run")
    assert [(span.attributes or {})["djtasks.state"] for span in found] == ["RETRY", "RETRY", "SUCCESS"]
    assert len({span.parent.span_id for span in found if span.parent}) == 1
    assert [len(span.events) for span in found] == [1, 1, 0]


def test_a_call_that_is_refused_leaves_a_span_that_says_so(spans: Spans, add: Task[..., Any]) -> None:
    with pytest.raises(EncodeError):
        message_of(add, object())
    enqueued(add, 1)
    first, second = spans("enqueue")
    assert first.status.status_code is StatusCode.ERROR
    assert second.status.status_code is StatusCode.UNSET


def test_a_message_without_a_trace_begins_one(spans: Spans, add: Task[..., Any], run: Runner) -> None:
    run.trace(enqueued(add, 1)._replace(headers=None))
    assert spans("run")[0].parent is None


def test_instrumenting_twice_makes_each_span_once(
    spans: Spans, provider: TracerProvider, add: Task[..., Any], run: Runner
) -> None:
    instrument(provider)
    run.trace(enqueued(add, 1))
    assert len(spans("")) == 2


def test_uninstrumented_nothing_listens(spans: Spans, add: Task[..., Any]) -> None:
    uninstrument()
    assert not signals.before_task_publish.receivers
    assert not signals.task_prerun.receivers
    assert message_of(add, 1).headers is None
