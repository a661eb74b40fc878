"""Headers that djtasks did not write must not stop a worker."""

import math
from typing import Any

import pytest

from djtasks import Task
from djtasks.exceptions import WorkerLostError
from djtasks.messages import Claimed
from djtasks.states import FAILURE
from djtasks.tracer import failure
from djtasks.worker.limits import Limits
from tests.hostile import HEADERS, ODD_LIMITS
from tests.worker_app.tasks import echo

HOSTILE = [
    *("{", "[]", "7", "null", '"timelimit"', '{"timelimit": 5}', '{"timelimit": [1]}', '{"timelimit": ["a", "b"]}'),
    *(bad.said["headers"] for bad in HEADERS.values()),
    *(f'{{"timelimit": [{limit}, {limit}]}}' for limit in ODD_LIMITS),
]


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


@pytest.mark.parametrize("limit", ODD_LIMITS)
def test_a_limit_that_can_be_none_leaves_the_other_one_as_it_is(limit: str) -> None:
    assert Limits(5, 9).of(message(f'{{"timelimit": [{limit}, 3]}}'), echo) == Limits(3, 9)
    assert Limits(5, 9).of(message(f'{{"timelimit": [7, {limit}]}}'), echo) == Limits(5, 7)


@pytest.mark.parametrize("limit", [0, -1, math.nan, math.inf, pytest.param(10**400, id="large"), True, "5"])
def test_a_task_whose_limits_can_be_none_has_those_of_the_worker(limit: Any) -> None:
    careless = type("Careless", (Task,), {"name": "careless", "time_limit": limit, "soft_time_limit": limit})()
    assert Limits(5, 9).of(message("{}"), careless) == Limits(5, 9)


def test_the_limits_of_a_call_come_before_those_of_the_worker() -> None:
    assert Limits(5, 9).of(message('{"timelimit": [4, null]}'), echo) == Limits(5, 4)
