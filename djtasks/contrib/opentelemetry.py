"""OpenTelemetry: a span for each enqueue and for each run of a task, in one trace.

    # in the `ready` of an AppConfig, so that callers and workers do it
    from djtasks.contrib.opentelemetry import instrument

    instrument()

The trace's context travels in the message (headers `traceparent` and `tracestate`, as W3C names them): through retries,
and to what is linked to the task. Needs `opentelemetry-api`: pip install "djtasks[opentelemetry]".
"""

from contextvars import ContextVar, Token
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from djtasks import masking, signals
from djtasks.current import Context as Request
from djtasks.exceptions import ImproperlyConfigured, safe_repr

try:
    from opentelemetry import context, propagate, trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider
except ImportError as error:
    raise ImproperlyConfigured(
        'djtasks.contrib.opentelemetry needs opentelemetry-api; install it with: pip install "djtasks[opentelemetry]"'
    ) from error

_UID: Final = "djtasks.contrib.opentelemetry"


class _Run(NamedTuple):
    span: Span
    token: Token[Context]


class _Instrumentation:
    """The receivers; at most one object of it is connected."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        #: The enqueue that goes on.
        self.enqueue: ContextVar[Span | None] = ContextVar("djtasks_enqueue_span", default=None)
        self.runs: WeakKeyDictionary[Request, _Run] = WeakKeyDictionary()

    def connect(self) -> None:
        for signal, receiver in self._receivers():
            signal.connect(receiver, weak=False, dispatch_uid=_UID)

    def disconnect(self) -> None:
        for signal, receiver in self._receivers():
            signal.disconnect(receiver, dispatch_uid=_UID)

    def _receivers(self) -> list[tuple[signals.Signal, Any]]:
        return [
            (signals.before_task_publish, self.before_publish),
            (signals.after_task_publish, self.after_publish),
            (signals.task_prerun, self.prerun),
            (signals.task_failure, self.failure),
            (signals.task_retry, self.retry),
            (signals.task_postrun, self.postrun),
        ]

    # -- the caller -----------------------------------------------------------------------------------------------

    def before_publish(self, sender: str, headers: dict[str, Any], routing_key: str, **_: Any) -> None:
        """Begin the span of an enqueue, and let the message carry its context."""
        self._end_enqueue("the call before this one raised")
        span = self.tracer.start_span(
            f"enqueue {sender}", kind=SpanKind.PRODUCER, attributes=_attributes(sender, headers["id"], routing_key)
        )
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(span))
        headers.update(carrier)
        self.enqueue.set(span)

    def after_publish(self, **_: Any) -> None:
        """End it."""
        self._end_enqueue(None)

    def _end_enqueue(self, error: str | None) -> None:
        span = self.enqueue.get()
        if span is None:
            return
        if error is not None:
            span.set_status(Status(StatusCode.ERROR, error))
        span.end()
        self.enqueue.set(None)

    # -- the worker -----------------------------------------------------------------------------------------------

    def prerun(self, sender: Any, task_id: str, **_: Any) -> None:
        """Begin the span of a run, in the trace of the call; what the task does is inside of it."""
        request = sender.request
        carrier = {key: each for key, each in (request.headers or {}).items() if isinstance(each, str)}
        parent = propagate.extract(carrier) if carrier else None
        delivery = request.delivery_info or {}
        span = self.tracer.start_span(
            f"run {sender.name}",
            context=parent,
            kind=SpanKind.CONSUMER,
            attributes={
                **_attributes(sender.name, task_id, delivery.get("routing_key", "")),
                "djtasks.retries": request.retries,
            },
        )
        # Not in the parent's context alone: what a middleware has put into this process's is kept.
        self.runs[request] = _Run(span, context.attach(trace.set_span_in_context(span)))

    def failure(self, sender: Any, exception: BaseException, **_: Any) -> None:
        """Say in the span of the run what the task raised; what is in its `throws` is no error."""
        run = self.runs.get(sender.request)
        if run is None or (sender.throws and isinstance(exception, sender.throws)):
            return
        _note(run.span, sender, exception)
        run.span.set_status(Status(StatusCode.ERROR, type(exception).__name__))

    def retry(self, sender: Any, request: Request, reason: Any, **_: Any) -> None:
        """Say in the span of the run why the task is to run again."""
        run = self.runs.get(request)
        if run is not None and reason.exc is not None:
            _note(run.span, sender, reason.exc)

    def postrun(self, sender: Any, state: str | None = None, **_: Any) -> None:
        """End the span of the run."""
        run = self.runs.pop(sender.request, None)
        if run is None:
            return
        run.span.set_attribute("djtasks.state", state or "")
        run.span.end()
        context.detach(run.token)


def _attributes(name: str, task_id: str, queue: str) -> dict[str, str]:
    return {
        "messaging.system": "djtasks",
        "messaging.destination.name": queue,
        "messaging.message.id": str(task_id),
        "djtasks.task": name,
    }


def _note(span: Span, task: Any, error: BaseException) -> None:
    """The exception as an event of the span; without its text where the task has sensitive arguments."""
    if task.request.sensitive or masking.of(task):
        span.add_event("exception", {"exception.type": type(error).__name__, "exception.message": masking.MASK})
    else:
        try:
            span.record_exception(error)
        except Exception:
            # Its own __str__ may raise.
            span.add_event("exception", {"exception.message": safe_repr(error)})


_connected: _Instrumentation | None = None


def instrument(tracer_provider: TracerProvider | None = None) -> None:
    """Make spans from now on, with this provider or the global one. Doing it twice is doing it once, anew."""
    global _connected
    uninstrument()
    _connected = _Instrumentation(trace.get_tracer("djtasks", tracer_provider=tracer_provider))
    _connected.connect()


def uninstrument() -> None:
    """Make no more spans."""
    global _connected
    if _connected is not None:
        _connected.disconnect()
        _connected = None
