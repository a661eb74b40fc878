"""The signals about a call: what receivers see, and what they may change."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from djtasks import Task, shared_task, signals
from djtasks.conf import settings
from djtasks.current import current_task
from djtasks.messages import Message
from djtasks.publisher import build
from djtasks.signals import Signal
from tests.calling.conftest import Configure, Runner, claimed, connected, message_of, waiting

#: The headers of Celery's message protocol.
CELERYS = {
    "lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit", "root_id",
    "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting", "stamped_headers",
    "stamps",
}  # fmt: skip


class Seen(list[dict[str, Any]]):
    """What a receiver was given."""

    def __call__(self, **kwargs: Any) -> None:
        self.append(kwargs)


@pytest.fixture
def pay() -> Task[..., Any]:
    @shared_task(name="shop.pay", sensitive=("card",), queue="money")
    def pay(user: str, card: str = "") -> str:
        return user

    return pay


def said(message: Message) -> dict[str, Any]:
    return dict(json.loads(message.headers or "{}"))


def test_before_task_publish_says_where_the_call_goes_and_what_its_headers_will_be(pay: Task[..., Any]) -> None:
    seen = Seen()
    with connected(signals.before_task_publish, seen):
        message = message_of(pay, "ann", "4111-1111", countdown=60, time_limit=30, shadow="payment")
    call = seen[0]
    assert set(call) == {
        "signal", "sender", "body", "exchange", "routing_key", "headers", "properties", "declare", "retry_policy",
    }  # fmt: skip
    assert call["sender"] == "shop.pay"
    assert (call["exchange"], call["routing_key"], message.queue) == ("", "money", "money")
    assert call["body"] == (
        ("ann", "4111-1111"),
        {},
        {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
    )
    assert call["properties"] == {"correlation_id": message.id, "reply_to": ""}
    assert call["retry_policy"] == settings.TASK_PUBLISH_RETRY_POLICY
    headers = call["headers"]
    assert set(headers) == CELERYS
    assert (headers["id"], headers["root_id"], headers["parent_id"]) == (message.id, message.id, None)
    assert headers["timelimit"] == [30, None]
    assert headers["shadow"] == "payment"
    until = datetime.fromisoformat(headers["eta"]) - datetime.now(UTC)
    assert timedelta(seconds=50) < until <= timedelta(seconds=60)


def test_the_default_queue_is_named_where_nothing_routes_the_call() -> None:
    seen = Seen()
    with connected(signals.before_task_publish, seen):
        build("shop.unknown", (), {}, {"retry_policy": {"max_retries": 9}})
    assert seen[0]["routing_key"] == "celery"
    assert seen[0]["retry_policy"] == {**settings.TASK_PUBLISH_RETRY_POLICY, "max_retries": 9}


def test_what_receivers_change_of_a_call_is_taken_over(pay: Task[..., Any]) -> None:
    def change(headers: dict[str, Any], properties: dict[str, Any], body: Any, **_: Any) -> None:
        headers.update(shadow="another", tenant=5, id="not-to-be-changed", retries=99)
        properties.update(reply_to="me", priority=7, unheard_of=1)
        body[1]["card"] = "changed"

    kwargs = {"card": "4111"}
    with connected(signals.before_task_publish, change):
        message = message_of(pay, "ann", kwargs=kwargs, headers={"own": 1})
    found = said(message)
    assert found["shadow"] == "another"
    assert found["reply_to"] == "me"
    assert (message.priority, message.retries) == (7, 0)
    assert found["headers"] == {"own": 1, "tenant": 5}
    assert found["hooked"] == ["tenant"]
    assert json.loads(message.body)[1] == {"card": "changed"}
    assert "task_id" not in found


def test_a_priority_that_a_receiver_cannot_mean_is_refused(pay: Task[..., Any]) -> None:
    def change(properties: dict[str, Any], **_: Any) -> None:
        properties["priority"] = "high"

    with connected(signals.before_task_publish, change), pytest.raises(ValueError, match="priority"):
        message_of(pay, "ann")


@pytest.mark.django_db(transaction=True)
def test_the_retry_policy_that_a_receiver_leaves_is_the_one_in_force(pay: Task[..., Any], monkeypatch: Any) -> None:
    from_outbox: list[Any] = []
    monkeypatch.setattr("djtasks.outbox.enqueue", lambda message, **more: from_outbox.append(more["policy"]))

    def change(retry_policy: dict[str, Any], **_: Any) -> None:
        retry_policy["max_retries"] = 1

    with connected(signals.before_task_publish, change):
        pay.delay("ann")
    assert from_outbox[0]["max_retries"] == 1


@pytest.mark.django_db(transaction=True)
def test_after_task_publish_and_task_sent_say_what_was_sent(pay: Task[..., Any]) -> None:
    after, sent = Seen(), Seen()
    with connected(signals.after_task_publish, after), connected(signals.task_sent, sent):
        result = pay.apply_async(("ann",), {"card": "4111-1111"}, headers={"tenant": 5}, task_id="nightly")
    call = after[0]
    assert set(call) == {"signal", "sender", "headers", "body", "exchange", "routing_key"}
    assert (call["sender"], call["exchange"], call["routing_key"]) == ("shop.pay", "", "money")
    assert set(call["headers"]) > CELERYS
    assert (call["headers"]["id"], call["headers"]["tenant"]) == ("nightly", 5)
    assert call["body"][:2] == (("ann",), {"card": "4111-1111"})
    assert "4111" not in call["headers"]["kwargsrepr"]
    assert {key: sent[0][key] for key in ("task_id", "task", "args", "kwargs", "eta", "taskset")} == {
        "task_id": "nightly",
        "task": "shop.pay",
        "args": ("ann",),
        "kwargs": {"card": "4111-1111"},
        "eta": None,
        "taskset": None,
    }
    assert result.id == "nightly"


@pytest.mark.django_db(transaction=True)
def test_each_call_of_a_bulk_is_announced_with_options_of_its_own(pay: Task[..., Any]) -> None:
    before, after = Seen(), Seen()
    with connected(signals.before_task_publish, before), connected(signals.after_task_publish, after):
        results = pay.bulk_apply_async([(("ann",), None), (("ben",), None)])
    ids = [each.id for each in results]
    assert [call["headers"]["id"] for call in before] == ids
    assert [call["headers"]["id"] for call in after] == ids
    assert len(set(ids)) == 2


@pytest.mark.django_db(transaction=True)
def test_what_a_receiver_raises_does_not_keep_a_call_back(pay: Task[..., Any]) -> None:
    def broken(**_: Any) -> None:
        raise LookupError("broken receiver")

    with connected(signals.before_task_publish, broken), connected(signals.after_task_publish, broken):
        pay.delay("ann")
    assert len(waiting("shop.pay")) == 1


def test_headers_that_a_receiver_adds_travel_through_retries(run: Runner) -> None:
    @shared_task(bind=True, name="shop.again", max_retries=5)
    def again(self: Any) -> None:
        raise self.retry(countdown=1, priority=3)

    def trace(headers: dict[str, Any], **_: Any) -> None:
        headers["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    with connected(signals.before_task_publish, trace):
        outcome = run(again)
    assert outcome.again is not None
    # The row keeps its headers.
    assert outcome.again.headers is None


def test_headers_that_a_receiver_added_are_there_in_the_run(run: Runner) -> None:
    found: list[Any] = []

    @shared_task(name="shop.look")
    def look() -> None:
        found.append((current_task.request.headers, current_task.request.hooked))

    def trace(headers: dict[str, Any], **_: Any) -> None:
        headers["traceparent"] = "00-abc-def-01"

    with connected(signals.before_task_publish, trace):
        run(look)
    assert found == [({"traceparent": "00-abc-def-01"}, ["traceparent"])]


def test_headers_that_are_no_mapping_are_refused_with_and_without_receivers(pay: Task[..., Any]) -> None:
    with pytest.raises(TypeError, match="headers must be a mapping"):
        message_of(pay, headers=[1])
    with connected(signals.before_task_publish, Seen()), pytest.raises(TypeError, match="headers must be a mapping"):
        message_of(pay, headers=[1])


# -- nobody listens -----------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_with_no_receiver_connected_no_signal_is_sent(
    run: Runner, monkeypatch: pytest.MonkeyPatch, configure: Configure
) -> None:
    sent: list[Signal] = []
    monkeypatch.setattr(Signal, "send", lambda self, sender, **_: sent.append(self) or [])
    monkeypatch.setattr(Signal, "send_robust", lambda self, sender, **_: sent.append(self) or [])
    configure(TASK_TRACK_STARTED=True)

    @shared_task(bind=True, name="shop.any", max_retries=5)
    def any_end(self: Any, end: int) -> None:
        if end == 1:
            raise ValueError
        if end == 2:
            raise self.retry()

    for number in range(100):
        any_end.delay(number % 3)
        run(any_end, number % 3)
    any_end.bulk_apply_async(([0], {}) for _ in range(10))
    assert sent == []


def test_what_is_no_option_is_refused_before_anybody_hears_of_the_call(pay: Task[..., Any]) -> None:
    seen = Seen()
    with connected(signals.before_task_publish, seen), pytest.raises(TypeError):
        message_of(pay, "ann", chord_of=[pay])
    assert seen == []


def test_what_a_hook_added_goes_on_to_what_is_linked_and_from_there_to_the_next(run: Runner) -> None:
    @shared_task(name="shop.step")
    def step(*args: Any) -> int:
        return 1

    def trace(headers: dict[str, Any], **_: Any) -> None:
        headers["traceparent"] = "00-ab-cd-01"

    last = step.si()
    with connected(signals.before_task_publish, trace):
        message = message_of(step, link=step.si().set(link=last), headers={"own": 1})
    # Nobody listens where the links are sent: their headers are all there is.
    for _ in range(2):
        (successor,) = run.trace(claimed(message)).successors
        message = Message(*successor)
        found = said(message)
        assert (found["headers"], found["hooked"]) == ({"traceparent": "00-ab-cd-01"}, ["traceparent"])


def test_a_hook_that_renews_a_header_of_the_one_before_is_heard(run: Runner) -> None:
    @shared_task(name="shop.step")
    def step(*args: Any) -> int:
        return 1

    spans = iter(range(10))

    def trace(headers: dict[str, Any], **_: Any) -> None:
        headers["traceparent"] = f"00-{next(spans)}"

    with connected(signals.before_task_publish, trace):
        message = message_of(step, link=step.si().set(link=step.si()))
        for number in (1, 2):
            (successor,) = run.trace(claimed(message)).successors
            message = Message(*successor)
            found = said(message)
            assert (found["headers"], found["hooked"]) == ({"traceparent": f"00-{number}"}, ["traceparent"])
