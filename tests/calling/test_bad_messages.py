"""A message that cannot be run ends once, as a failure that says what is wrong with it."""

from typing import Any

import pytest
from django.db import connection

from djtasks import AsyncResult, shared_task
from djtasks.db.messages import enqueue
from djtasks.exceptions import EncodeError
from djtasks.messages import Message
from tests.calling.conftest import work
from tests.hostile import BAD, GOOD, ODD, Bad

pytestmark = pytest.mark.django_db(transaction=True)


@shared_task(name="shop.answer")
def answer(value: Any) -> Any:
    return value


@shared_task(name="shop.dig")
def dig(depth: int) -> list[Any]:
    """A list in a list in a list."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.fixture(autouse=True)
def defined(registry: dict[str, Any]) -> None:
    registry.update({task.name: task for task in (answer, dig)})


def write(message: Message) -> AsyncResult[Any]:
    """Put a message into its table, past all that looks at it in the caller."""
    enqueue(connection, [message])
    return AsyncResult(message.id)


def rows(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        return int(cursor.fetchone()[0])


@pytest.mark.parametrize("bad", BAD.values(), ids=list(BAD))
def test_a_message_that_cannot_be_run_is_a_failure_once(bad: Bad) -> None:
    result = write(bad.message(answer.name))
    assert [(outcome.id, outcome.state, outcome.again) for outcome in work()] == [(result.id, "FAILURE", None)]
    assert result.state == "FAILURE"
    assert type(result.result) is bad.error
    assert bad.says in str(result.result)
    assert result.traceback
    assert (rows("djtasks_message"), rows("djtasks_result")) == (0, 1)
    assert work() == []
    with pytest.raises(bad.error):
        result.get(timeout=20)


def test_bad_messages_fail_each_for_itself_and_the_good_ones_among_them_succeed() -> None:
    results = []
    for bad in BAD.values():
        results += [write(bad.message(answer.name)), write(GOOD.message(answer.name))]
    assert len(work()) == 2 * len(BAD)
    assert [result.state for result in results] == ["FAILURE", "SUCCESS"] * len(BAD)
    assert rows("djtasks_message") == 0


@pytest.mark.parametrize(("body", "shown"), ODD)
def test_what_no_column_of_text_can_hold_goes_to_the_task_and_comes_back(body: bytes, shown: str) -> None:
    result = write(GOOD.message(answer.name)._replace(body=body))
    assert [outcome.state for outcome in work()] == ["SUCCESS"]
    assert repr(result.get(timeout=20)) == shown


def test_a_result_that_is_nested_too_deeply_is_a_failure() -> None:
    result = dig.delay(100_000)
    assert [(outcome.state, outcome.again) for outcome in work()] == [("FAILURE", None)]
    assert type(result.result) is EncodeError
    assert str(result.result) == "json cannot encode the value: it is nested too deeply"
    assert rows("djtasks_message") == 0
