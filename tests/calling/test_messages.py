"""What a call says becomes a message; what is wrong with it is raised before anything is stored."""

import json
import logging
import uuid
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any

import pytest

from djtasks import Task, shared_task, signals
from djtasks.exceptions import EncodeError, ImproperlyConfigured, PayloadTooLarge, QueueNotFound
from djtasks.ids import as_task_id
from djtasks.messages import Message
from djtasks.payload import unpack_call
from tests.calling.conftest import Configure, Runner, connected, message_of

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def add() -> Task[[Any, Any], Any]:
    @shared_task(name="shop.add")
    def add(x: Any = 0, y: Any = 0) -> Any:
        return x

    return add


def headers(message: Message) -> dict[str, Any]:
    return dict(json.loads(message.headers or "{}"))


# -- the common call ----------------------------------------------------------------------------------------------


def test_a_call_without_options_has_no_headers_no_times_and_the_defaults(add: Task[..., Any]) -> None:
    message = message_of(add, 1, 2)
    assert uuid.UUID(message.id).version == 7
    assert message == Message(message.id, "shop.add", "celery", b"[[1,2],{}]")


def test_named_arguments_travel_beside_the_positional_ones(add: Task[..., Any]) -> None:
    message = message_of(add, 1, kwargs={"y": 2})
    assert unpack_call(message.body, message.content_type, message.content_encoding) == ([1], {"y": 2})


@pytest.mark.parametrize(
    "value", [NOON, date(2030, 1, 1), Decimal("1.10"), uuid.UUID(int=5), b"\xff", "\0", "\ud800", [1, {"a": None}]]
)
def test_arguments_come_back_as_they_were(add: Task[..., Any], value: Any) -> None:
    message = message_of(add, value)
    assert unpack_call(message.body, message.content_type, message.content_encoding) == ([value], {})


# -- when ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "seconds"), [(5, 5.0), (0.5, 0.5), (timedelta(minutes=1), 60.0), (Decimal(2), 2.0)])
def test_a_countdown_is_left_to_the_clock_of_the_database(add: Task[..., Any], given: Any, seconds: float) -> None:
    message = message_of(add, countdown=given)
    assert (message.countdown, message.eta) == (seconds, None)


def test_a_countdown_beats_an_eta(add: Task[..., Any]) -> None:
    message = message_of(add, countdown=5, eta=NOON)
    assert (message.countdown, message.eta) == (5.0, None)


def test_no_countdown_is_no_wait(add: Task[..., Any]) -> None:
    message = message_of(add, countdown=0)
    assert (message.countdown, message.eta) == (None, None)


@pytest.mark.parametrize(
    "eta",
    [
        NOON,
        NOON.replace(tzinfo=None),
        NOON.astimezone(timezone(timedelta(hours=5, minutes=30))),
        "2030-01-01T12:00:00",
        "2030-01-01T12:00:00Z",
        "2030-01-01T13:00:00+01:00",
    ],
    ids=["aware", "naive", "in another zone", "naive text", "text in UTC", "text in another zone"],
)
def test_an_eta_is_an_instant_and_a_naive_one_is_read_as_utc(add: Task[..., Any], eta: Any) -> None:
    assert message_of(add, eta=eta).eta == NOON.timestamp()


def test_without_enable_utc_a_naive_eta_is_in_the_zone_of_the_settings(
    add: Task[..., Any], configure: Configure
) -> None:
    configure(ENABLE_UTC=False, TIMEZONE="Europe/Paris")
    assert message_of(add, eta=datetime(2030, 1, 1, 13)).eta == NOON.timestamp()  # noqa: DTZ001


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"countdown": "5"}, TypeError, "countdown must be a number of seconds"),
        ({"countdown": True}, TypeError, "countdown must be a number of seconds"),
        ({"countdown": float("nan")}, ValueError, "countdown is out of range"),
        ({"countdown": -(2**31) - 1}, ValueError, "countdown is out of range"),
        ({"countdown": 1e12}, ValueError, "countdown is out of range"),
        ({"countdown": 10**400}, ValueError, "countdown is out of range"),
        ({"countdown": 10**5000}, ValueError, "countdown is out of range"),
        ({"countdown": Decimal("sNaN")}, ValueError, "countdown is out of range"),
        ({"countdown": ""}, TypeError, "countdown must be a number of seconds"),
        ({"countdown": False}, TypeError, "countdown must be a number of seconds"),
        ({"eta": 5}, TypeError, "for a number of seconds use countdown"),
        ({"eta": "tomorrow"}, ValueError, "eta must be a datetime or an ISO 8601 text"),
        ({"expires": "soon"}, ValueError, "expires must be a datetime or an ISO 8601 text"),
        ({"expires": [1]}, TypeError, "expires must be a number of seconds"),
        ({"expires": 10**400}, ValueError, "expires is out of range"),
        ({"expires": float("-inf")}, ValueError, "expires is out of range"),
        ({"expires": float("nan")}, ValueError, "expires is out of range"),
        ({"priority": 40_000}, ValueError, "priority must be from -32768 to 32767"),
        ({"priority": 10**5000}, ValueError, "priority must be from -32768 to 32767"),
        ({"priority": "high"}, ValueError, "priority must be a whole number"),
        ({"queue": ""}, ValueError, "queue must be the name of a queue"),
        ({"queue": "a\0b"}, ValueError, "queue must be the name of a queue"),
        ({"queue": "a\ud800"}, ValueError, "queue must be the name of a queue"),
        ({"task_id": 5}, TypeError, "task_id must be"),
        ({"task_id": 10**5000}, TypeError, "task_id must be"),
        ({"root_id": 5}, TypeError, "root_id must be the id of a task"),
        ({"retries": "x"}, TypeError, "retries must be a whole number, not 'x'"),
        ({"retries": True}, TypeError, "retries must be a whole number, not True"),
        ({"retries": -1}, ValueError, "retries must be from 0 to"),
        ({"retries": 2**31 - 1}, ValueError, "retries must be from 0 to"),
        ({"headers": [1]}, TypeError, "headers must be a mapping"),
        ({"headers": {"x": object()}}, EncodeError, "object"),
        ({"time_limit": 0}, ValueError, "time_limit must be a number of seconds above 0"),
        ({"soft_time_limit": -1}, ValueError, "soft_time_limit must be a number of seconds above 0"),
        ({"time_limit": 10**400}, ValueError, "time_limit must be a number of seconds above 0"),
        ({"time_limit": float("inf")}, ValueError, "time_limit must be a number of seconds above 0"),
        ({"soft_time_limit": float("nan")}, ValueError, "soft_time_limit must be a number of seconds above 0"),
        ({"soft_time_limit": "5"}, ValueError, "soft_time_limit must be a number of seconds above 0"),
        ({"time_limit": True}, ValueError, "time_limit must be a number of seconds above 0"),
        ({"time_limit": 5, "soft_time_limit": 6}, ValueError, "must not be above time_limit"),
        ({"serializer": "xml"}, ImproperlyConfigured, "no serializer is called 'xml'"),
        ({"compression": "rar"}, ImproperlyConfigured, "no compression is called 'rar'"),
        ({"coundown": 5}, TypeError, "no option 'coundown'; did you mean 'countdown'"),
        ({"link": "shop.add"}, TypeError, "link takes signatures, not 'shop.add'"),
        ({"link_error": ["shop.add"]}, TypeError, "link_error takes signatures, not 'shop.add'"),
        ({"link": {"task": "shop.add", "options": {"coundown": 5}}}, TypeError, "did you mean 'countdown'"),
        ({"countdown": -1}, ValueError, "countdown must not be negative, and is -1 seconds"),
        ({"stamped_headers": "tenant", "tenant": 5}, TypeError, "stamped_headers must be a list of names"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(
    add: Task[..., Any], options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        message_of(add, **options)


def test_workflow_options_without_a_value_are_let_pass(add: Task[..., Any]) -> None:
    assert message_of(add, link=None, link_error=[], chord=None).headers is None


def test_what_only_a_message_broker_could_keep_is_let_pass(add: Task[..., Any]) -> None:
    brokers = {"exchange": "x", "exchange_type": "topic", "delivery_mode": 2, "declare": [], "mandatory": True}
    ours = {"connection": object(), "producer": object(), "publisher": object()}
    message = message_of(add, 1, 2, **brokers, **ours)
    assert message == message_of(add, 1, 2)._replace(id=message.id)


def test_expires_in_seconds_is_left_to_the_clock_of_the_database(add: Task[..., Any]) -> None:
    message = message_of(add, expires=60)
    assert (message.expires_in, message.expires) == (60.0, None)


def test_expires_as_a_datetime_is_an_instant(add: Task[..., Any]) -> None:
    message = message_of(add, expires=NOON)
    assert (message.expires_in, message.expires) == (None, NOON.timestamp())


def test_the_tasks_expiry_holds_where_the_call_names_none() -> None:
    @shared_task(expires=30)
    def brief() -> None: ...

    assert message_of(brief).expires_in == 30.0
    assert message_of(brief, expires=5).expires_in == 5.0


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-14))])
@pytest.mark.parametrize("end", [datetime.min, datetime.max])  # noqa: DTZ901
def test_an_end_of_the_calendar_is_an_instant_that_every_zone_can_show(
    add: Task[..., Any], run: Runner, end: datetime, zone: tzinfo
) -> None:
    seen: list[Any] = []

    @shared_task(bind=True, name="shop.see")
    def see(self: Task[..., Any]) -> None:
        seen.append(self.request.eta)

    assert run(see, eta=end.replace(tzinfo=zone)).state == "SUCCESS"
    assert seen == [datetime.fromtimestamp(message_of(add, eta=end.replace(tzinfo=zone)).eta or 0, UTC).isoformat()]
    assert abs(datetime.fromisoformat(seen[0]).replace(tzinfo=None) - end) < timedelta(days=2)


@pytest.mark.parametrize("expires", [-5, datetime(2000, 1, 1, tzinfo=UTC)])
def test_an_expiry_in_the_past_is_warned_of(
    add: Task[..., Any], expires: Any, caplog: pytest.LogCaptureFixture
) -> None:
    message_of(add, expires=expires)
    assert "a call of shop.add expired" in caplog.text


# -- where --------------------------------------------------------------------------------------------------------


def test_the_call_beats_the_task_which_beats_the_settings(configure: Configure) -> None:
    configure(TASK_DEFAULT_QUEUE="rest", TASK_DEFAULT_PRIORITY=3)

    @shared_task(queue="own", priority=5)
    def routed() -> None: ...

    @shared_task
    def plain() -> None: ...

    assert message_of(plain)[2] == "rest"
    assert (message_of(routed).queue, message_of(routed).priority) == ("own", 5)
    message = message_of(routed, queue="said", priority=-100)
    assert (message.queue, message.priority) == ("said", -100)


def test_an_unknown_queue_is_refused_when_the_settings_say_so(add: Task[..., Any], configure: Configure) -> None:
    configure(TASK_QUEUES=["celery"], TASK_CREATE_MISSING_QUEUES=False)
    with pytest.raises(QueueNotFound):
        message_of(add, queue="nowhere")


# -- how ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
@pytest.mark.parametrize("compression", [None, "gzip", "bzip2", "lzma", "zstd"])
def test_each_serializer_and_compression_comes_back(
    add: Task[..., Any], configure: Configure, serializer: str, compression: str | None
) -> None:
    configure(ACCEPT_CONTENT=["json", "pickle", "yaml", "msgpack"])
    message = message_of(add, "x" * 100, serializer=serializer, compression=compression)
    args, kwargs = unpack_call(message.body, message.content_type, message.content_encoding)
    assert (list(args), kwargs) == (["x" * 100], {})
    assert message.content_encoding == (compression or "")


def test_the_tasks_serializer_and_compression_hold_where_the_call_names_none() -> None:
    @shared_task(serializer="yaml", compression="gzip")
    def odd() -> None: ...

    message = message_of(odd)
    assert (message.content_type, message.content_encoding) == ("application/x-yaml", "gzip")
    assert message_of(odd, serializer="json").content_type == "application/json"


def test_what_cannot_be_encoded_is_refused(add: Task[..., Any]) -> None:
    with pytest.raises(EncodeError, match="object is no type that JSON can carry"):
        message_of(add, object())


def test_too_large_a_payload_is_refused_and_a_large_one_is_warned_of(
    add: Task[..., Any], configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    configure(PAYLOAD_WARN_BYTES=100, PAYLOAD_MAX_BYTES=200)
    message_of(add, "x" * 50)
    assert not caplog.records
    message_of(add, "x" * 150)
    assert "the arguments of shop.add are 159 bytes, over PAYLOAD_WARN_BYTES (100)" in caplog.text
    with pytest.raises(PayloadTooLarge, match="the arguments of shop.add are 259 bytes, over PAYLOAD_MAX_BYTES"):
        message_of(add, "x" * 250)


def test_a_payload_that_no_worker_could_unpack_is_refused(add: Task[..., Any], configure: Configure) -> None:
    configure(PAYLOAD_WARN_BYTES=1000, PAYLOAD_MAX_BYTES=1000, RESULT_MAX_BYTES=1000, DECOMPRESSED_MAX_BYTES=1000)
    with pytest.raises(PayloadTooLarge, match="DECOMPRESSED_MAX_BYTES"):
        message_of(add, "x" * 2000, compression="gzip")


# -- what travels along -------------------------------------------------------------------------------------------


def test_a_uuid_as_task_id_is_the_id(add: Task[..., Any]) -> None:
    own = str(uuid.uuid4())
    message = message_of(add, task_id=own)
    assert (message.id, message.headers) == (own, None)
    assert message_of(add, task_id=uuid.UUID(own)).id == own


def test_any_other_text_as_task_id_is_mapped_to_one_and_kept(add: Task[..., Any]) -> None:
    message = message_of(add, task_id="nightly")
    assert message.id == as_task_id("nightly") == message_of(add, task_id="nightly").id
    assert headers(message) == {"task_id": "nightly"}


def test_headers_shadow_limits_and_reprs_travel_in_the_headers(add: Task[..., Any]) -> None:
    message = message_of(
        add,
        headers={"tenant": 5, "when": NOON},
        shadow="other",
        time_limit=10,
        soft_time_limit=5,
        ignore_result=True,
        argsrepr="(…)",
        kwargsrepr="{…}",
        app_id="shop",
    )
    said = headers(message)
    assert said.pop("headers")["tenant"] == 5
    assert said == {
        "shadow": "other",
        "timelimit": [10, 5],
        "ignore_result": True,
        "argsrepr": "(…)",
        "kwargsrepr": "{…}",
        "properties": {"app_id": "shop"},
    }


def test_only_the_limits_of_the_call_travel() -> None:
    @shared_task(time_limit=10, soft_time_limit=5)
    def limited() -> None: ...

    assert message_of(limited).headers is None
    assert headers(message_of(limited, time_limit=7)) == {"timelimit": [7, None]}
    with pytest.raises(ValueError, match=r"soft_time_limit \(5\) must not be above time_limit \(3\)"):
        message_of(limited, time_limit=3)


def test_a_task_whose_soft_limit_is_above_its_hard_one_cannot_be_called() -> None:
    @shared_task(time_limit=5, soft_time_limit=10)
    def wrong() -> None: ...

    with pytest.raises(ValueError, match="must not be above time_limit"):
        message_of(wrong)


def test_a_call_made_by_a_task_names_its_parent_and_its_root(run: Runner, add: Task[..., Any]) -> None:
    sent: list[Message] = []

    @shared_task
    def parent(depth: int) -> None:
        sent.append(message_of(add) if depth == 0 else message_of(add, headers={"x": 1}))

    for depth in (0, 1):
        outcome = run(parent, depth)
        said = headers(sent[-1])
        said.pop("headers", None)
        assert said == {"root_id": outcome.id, "parent_id": outcome.id}


def test_a_call_made_by_a_child_names_its_grandparent_as_root(run: Runner, add: Task[..., Any]) -> None:
    sent: list[Message] = []

    @shared_task
    def child() -> None:
        sent.append(message_of(add))

    outcome = run(child, root_id='the "root"', parent_id="the root")
    assert headers(sent[0]) == {"root_id": 'the "root"', "parent_id": outcome.id}


def test_a_function_call_of_a_task_is_no_parent(run: Runner, add: Task[..., Any]) -> None:
    sent: list[Message] = []

    @shared_task
    def inner() -> None:
        sent.append(message_of(add))

    @shared_task
    def outer() -> None:
        inner()

    inner()
    assert sent.pop().headers is None
    outcome = run(outer)
    assert headers(sent[0])["parent_id"] == outcome.id


# -- signals ------------------------------------------------------------------------------------------------------


def test_what_a_receiver_adds_to_the_headers_travels_with_the_call(add: Task[..., Any]) -> None:
    seen: dict[str, Any] = {}

    def trace_it(sender: str, headers: dict[str, Any], body: Any, **kwargs: Any) -> None:
        seen.update(headers, sender=sender, body=body)
        headers["trace"] = "abc"
        headers["id"] = "not taken over"

    with connected(signals.before_task_publish, trace_it):
        message = message_of(add, 1, headers={"tenant": 5})
    assert (seen["sender"], seen["task"], seen["id"], seen["tenant"]) == ("shop.add", "shop.add", message.id, 5)
    assert seen["body"][:2] == ((1,), {})
    assert headers(message) == {"headers": {"tenant": 5, "trace": "abc"}, "hooked": ["trace"]}


def test_a_receiver_that_fails_does_not_stop_the_call(add: Task[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    def fails(**kwargs: Any) -> None:
        raise RuntimeError("no")

    with connected(signals.before_task_publish, fails), caplog.at_level(logging.ERROR):
        assert message_of(add).name == "shop.add"
