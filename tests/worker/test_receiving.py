"""What is said of a message that has come to a worker."""

import logging
from typing import Any

import pytest
from django.test import override_settings

from djtasks import shared_task, signals
from djtasks.messages import Claimed
from djtasks.worker.pools.base import Job
from djtasks.worker.receiving import Request, tell_received
from tests.calling.conftest import claimed, connected, message_of, registry

__all__ = ["registry"]


@pytest.fixture
def message() -> Claimed:
    @shared_task(name="shop.pay", sensitive=("card",))
    def pay(user: str, card: str) -> None: ...

    return claimed(message_of(pay, "ann", "4111-1111", shadow="payment", headers={"tenant": 5}), eta=0.0)


def received(message: Claimed, caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    with caplog.at_level(logging.INFO):
        tell_received([Job(message)], None, "w@here")
    return caplog.records[-1]


def test_the_line_names_the_shadow_and_carries_data(message: Claimed, caplog: pytest.LogCaptureFixture) -> None:
    record = received(message, caplog)
    assert record.getMessage() == f"Task payment[{message.id}] received"
    assert vars(record)["data"] == {"id": message.id, "name": "payment", "eta": 0.0}


def test_where_arguments_may_be_logged_the_data_has_them_without_the_sensitive_ones(
    message: Claimed, caplog: pytest.LogCaptureFixture
) -> None:
    with override_settings(DJTASKS={"LOG_ARGUMENTS": True}):
        data = vars(received(message, caplog))["data"]
    assert (data["args"], data["kwargs"]) == ("['ann', ********]", "{}")


def test_the_request_of_a_receiver_says_all_that_is_known(message: Claimed) -> None:
    seen: list[Any] = []
    with connected(signals.task_received, lambda request, **_: seen.append(request)):
        tell_received([Job(message, 1.0, 2.0)], "consumer", "w@here")
    request = seen[0]
    assert (request.id, request.task_id, request.name, request.task_name) == (
        message.id,
        message.id,
        "payment",
        "shop.pay",
    )
    assert (request.args, request.kwargs, request.hostname) == (["ann", "4111-1111"], {}, "w@here")
    assert request.task.name == "shop.pay"
    assert request.headers == {"tenant": 5}
    assert request.eta.isoformat() == "1970-01-01T00:00:00+00:00"
    assert request.expires is None
    assert request.time_limits == (2.0, 1.0)
    assert request.delivery_info["routing_key"] == "celery"
    assert "4111" not in str(request.info())
    assert request.request_dict["correlation_id"] == message.id
    with pytest.raises(AttributeError):
        request.unheard_of  # noqa: B018 -- it is asked for, and that is all


def test_the_request_of_a_message_that_cannot_be_read_says_what_can_be(message: Claimed) -> None:
    request = Request(Job(message._replace(body=b"no json", headers="{broken")), "w@here")
    assert (request.args, request.kwargs, request.headers, request.id) == (None, None, None, message.id)
