"""A call that cannot be is refused where it is made, before any row exists, and harms no other call."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import pytest
from django.db import connection, transaction

from djtasks import AsyncResult, app, shared_task, signals
from djtasks.db.connections import open_private
from djtasks.exceptions import EncodeError, ImproperlyConfigured, PayloadTooLarge, QueueNotFound
from tests.calling.conftest import Configure, connected, work

pytestmark = pytest.mark.django_db(transaction=True)


@shared_task(name="shop.order")
def add(x: int, y: int = 0) -> int:
    return x + y


@pytest.fixture(autouse=True)
def defined(registry: dict[str, Any]) -> None:
    registry[add.name] = add


class Refused(NamedTuple):
    """A call that is refused, and what is said of it."""

    args: tuple[Any, ...]
    options: dict[str, Any]
    error: type[Exception]
    says: str


def _refused(error: type[Exception], says: str, *args: Any, **options: Any) -> Refused:
    return Refused(args or (1,), options, error, says)


#: What is wrong with the arguments, which many calls may have each for itself.
REFUSED_ARGUMENTS = {
    "arguments that do not fit": _refused(TypeError, "too many positional arguments", 1, 2, 3),
    "an argument that cannot be encoded": _refused(EncodeError, "no type that JSON can carry", object()),
    "arguments that are too large": _refused(PayloadTooLarge, "over PAYLOAD_MAX_BYTES", "x" * 250),
}
REFUSED_IDS = {
    "an id that is empty": _refused(TypeError, "task_id must be a text or a UUID, not empty", task_id=""),
    "an id that is a number": _refused(TypeError, "task_id must be a text or a UUID, not int", task_id=5),
    "an id that is 0": _refused(TypeError, "task_id must be a text or a UUID, not int", task_id=0),
    "an id that is false": _refused(TypeError, "task_id must be a text or a UUID, not bool", task_id=False),
    "an id that is a list": _refused(TypeError, "task_id must be a text or a UUID, not list", task_id=[]),
    "an id with half a pair": _refused(ValueError, "task_id must be a text that UTF-8 can carry", task_id="a\ud800"),
}
REFUSED_OPTIONS = {
    "a serializer that there is not": _refused(ImproperlyConfigured, "did you mean 'json'", serializer="jsn"),
    "a compression that there is not": _refused(ImproperlyConfigured, "did you mean 'gzip'", compression="gzp"),
    "a queue that is not allowed": _refused(QueueNotFound, "did you mean 'fast'", queue="fats"),
    "a priority out of range": _refused(ValueError, "priority must be from -32768 to 32767", priority=32768),
    "a number of retries that is none": _refused(TypeError, "retries must be a whole number, not 'x'", retries="x"),
    "a number of retries out of range": _refused(ValueError, "retries must be from 0 to", retries=2**40),
    "a time limit out of range": _refused(ValueError, "time_limit must be a number of seconds", time_limit=10**400),
}
REFUSED = {**REFUSED_ARGUMENTS, **REFUSED_IDS, **REFUSED_OPTIONS}
#: What receivers of before_task_publish see, and could hide.
HEARD = {**REFUSED_IDS, **REFUSED_OPTIONS}
#: The modes, each inside and outside of a transaction.
PLACES = [(mode, inside) for mode in ("on_commit", "in_transaction", "immediately") for inside in (True, False)]


@pytest.fixture
def strict(configure: Configure) -> None:
    """Settings that allow little."""
    configure(
        TASK_QUEUES=["celery", "fast"],
        TASK_CREATE_MISSING_QUEUES=False,
        PAYLOAD_WARN_BYTES=100,
        PAYLOAD_MAX_BYTES=200,
    )


@contextmanager
def block(inside: bool) -> Iterator[None]:
    """A transaction, or none."""
    with transaction.atomic() if inside else nullcontext():
        yield


def stored() -> list[str]:
    """The ids of all messages that are committed."""
    with open_private("test onlooker") as conn:
        return [row[0] for row in conn.execute("SELECT id::text FROM djtasks_message ORDER BY position")]


def forget() -> None:
    """Take all messages away."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM djtasks_message")


def assert_refused(bad: Refused) -> None:
    """In every place it is refused, and the good call that follows it is written."""
    for mode, inside in PLACES:
        with block(inside):
            with pytest.raises(bad.error, match=re.escape(bad.says)):
                add.apply_async(bad.args, enqueue=mode, **bad.options)
            kept = add.apply_async((1,), enqueue=mode)
        assert stored() == [kept.id], (mode, inside)
        forget()


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("bad", REFUSED.values(), ids=list(REFUSED))
def test_a_call_that_is_refused_leaves_nothing_and_the_good_one_after_it_is_written(bad: Refused) -> None:
    assert_refused(bad)


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("bad", HEARD.values(), ids=list(HEARD))
def test_a_receiver_that_hears_of_calls_changes_nothing_of_that(bad: Refused) -> None:
    with connected(signals.before_task_publish, lambda **kwargs: None):
        assert_refused(bad)


def test_a_queue_that_no_column_can_hold_is_refused() -> None:
    assert_refused(_refused(ValueError, "queue must be the name of a queue: a text of 1 to", queue="\ud800"))


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize(("mode", "inside"), PLACES)
def test_a_call_by_name_is_refused_for_all_but_its_signature(mode: str, inside: bool) -> None:
    with block(inside):
        for each in (bad for name, bad in REFUSED.items() if name != "arguments that do not fit"):
            with pytest.raises(each.error, match=re.escape(each.says)):
                app.send_task("elsewhere.pay", each.args, enqueue=mode, **each.options)
        for name in ("\ud800", "a\0b", 5, ""):
            with pytest.raises(TypeError, match="a task's name must be a text"):
                app.send_task(name, enqueue=mode)  # type: ignore[arg-type]
        kept = app.send_task("elsewhere.pay", [1, 2, 3], enqueue=mode)
    assert stored() == [kept.id]


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize(("mode", "inside"), PLACES)
def test_of_many_calls_none_is_written_when_one_of_the_first_thousand_is_refused(mode: str, inside: bool) -> None:
    good: tuple[tuple[Any, ...], dict[str, Any]] = ((1,), {})
    with block(inside):
        for bad in REFUSED_ARGUMENTS.values():
            with pytest.raises(bad.error, match=re.escape(bad.says)):
                add.bulk_apply_async([good, (bad.args, {}), good], enqueue=mode)
        for bad in REFUSED_OPTIONS.values():
            with pytest.raises(bad.error, match=re.escape(bad.says)):
                add.bulk_apply_async([good, good], enqueue=mode, **bad.options)
        [kept] = add.bulk_apply_async([good], enqueue=mode)
    assert stored() == [kept.id]


@pytest.mark.parametrize("mode", ["on_commit", "in_transaction"])
def test_in_a_transaction_many_calls_are_written_all_or_none(mode: str) -> None:
    with transaction.atomic():
        before = add.apply_async((1,), enqueue=mode)
        with pytest.raises(TypeError, match="missing a required argument"):
            add.bulk_apply_async([((1,), {})] * 1500 + [((), {})], enqueue=mode)
        after = add.apply_async((1,), enqueue=mode)
    assert stored() == [before.id, after.id]


def test_outside_of_one_what_was_written_by_then_stays() -> None:
    pairs = ((number,) for number in range(1500))
    with pytest.raises(TypeError, match="missing a required argument"):
        add.bulk_apply_async([*((args, {}) for args in pairs), ((), {})])
    assert [outcome.state for outcome in work()] == ["SUCCESS"] * 1000
    assert stored() == []


@pytest.mark.parametrize("own", ["", 0, 5, False, [], "\ud800"])
def test_a_malformed_id_is_refused_in_eager_mode_and_before_the_commit_too(configure: Configure, own: Any) -> None:
    configure(TASK_ALWAYS_EAGER=True)
    ran: list[int] = []

    @shared_task(name="shop.note")
    def note() -> None:
        ran.append(1)

    for call in (note.apply, note.apply_async, note.apply_async_on_commit):
        with transaction.atomic(), pytest.raises((TypeError, ValueError), match="task_id must be"):
            call(task_id=own)
    assert ran == []


@pytest.mark.parametrize("own", ["", 5, "\ud800"])
def test_a_result_of_a_malformed_id_cannot_be_asked_for(own: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="task_id must be"):
        AsyncResult(own).state  # noqa: B018
