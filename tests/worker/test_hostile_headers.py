"""Headers that djtasks did not write must not stop a worker."""

import pytest

from djtasks.exceptions import WorkerLostError
from djtasks.messages import Claimed
from djtasks.states import FAILURE
from djtasks.tracer import failure
from djtasks.worker.limits import Limits
from tests.worker_app.tasks import echo

HOSTILE = ["{", "[]", "7", "null", '"timelimit"', '{"timelimit": 5}', '{"timelimit": [1]}', '{"timelimit": ["a", "b"]}']


def message(headers: str) -> Claimed:
    return Claimed(
        1, "0190a1b2-0000-7000-8000-000000000000", echo.name, "celery", 0, 0, 0, False, b"[[1, 2], {}]",
        "application/json", "", headers, None, None, 0.0, False,
    )  # fmt: skip


@pytest.mark.parametrize("headers", HOSTILE)
def test_a_message_with_bad_headers_has_the_limits_of_its_task(headers: str) -> None:
    assert Limits(5, 9).of(message(headers), echo) == Limits(5, 9)


@pytest.mark.parametrize("headers", HOSTILE)
def test_a_message_with_bad_headers_can_still_be_ended(headers: str) -> None:
    assert failure(message(headers), WorkerLostError("gone")).state == FAILURE


def test_the_limits_of_a_call_come_before_those_of_the_worker() -> None:
    assert Limits(5, 9).of(message('{"timelimit": [4, null]}'), echo) == Limits(5, 4)
