"""Options of tasks, and of their calls, that no other file is about."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from djtasks import Task, shared_task
from tests.calling.conftest import waiting


def test_options_of_a_broker_are_accepted() -> None:
    @shared_task(name="shop.pay", backend="rpc", exchange_type="topic", delivery_mode=1, Strategy="x")  # type: ignore[call-overload]
    def pay() -> None: ...

    assert (pay.backend, pay.exchange_type, pay.delivery_mode, pay.Strategy) == ("rpc", "topic", 1, "x")
    assert Task.backend is None


class Shadowed(Task[..., Any]):
    """Names each call in the log by its argument."""

    abstract = True

    def shadow_name(self, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> str | None:
        return f"pay {args[0]}" if args[0] else None


@pytest.mark.django_db(transaction=True)
def test_each_of_many_calls_is_asked_for_the_name_in_the_log() -> None:
    @shared_task(name="shop.pay", base=Shadowed)
    def pay(number: int) -> None: ...

    pay.bulk_apply_async([((1,), {}), ((0,), {}), ((2,), {})])
    pay.bulk_apply_async([((3,), {})], shadow="mine")
    said = [json.loads(row["headers"] or "{}").get("shadow") for row in waiting("shop.pay")]
    assert said == ["pay 1", None, "pay 2", "mine"]


def test_an_eager_run_takes_celerys_options_for_its_log() -> None:
    @shared_task(name="shop.pay")
    def pay() -> int:
        return 1

    assert pay.apply((), {}, logfile="x", loglevel="INFO").get() == 1


def test_a_negative_countdown_of_a_retry_means_at_once() -> None:
    @shared_task(name="shop.pay", bind=True)
    def pay(self: Task[..., Any]) -> int:
        if self.request.retries:
            return int(self.request.retries)
        raise self.retry(countdown=-5)

    assert pay.apply().get() == 1
