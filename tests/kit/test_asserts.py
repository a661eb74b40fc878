"""Assertions about what was enqueued, and what they say when they fail."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test import TestCase, TransactionTestCase

from djtasks.testing import assert_enqueued, assert_no_tasks, captured, drain, enqueued
from tests.kit import shop


class Asserting:
    """What holds in every kind of test."""

    def test_a_call_is_found_by_all_that_is_known_of_it(self) -> None:
        result = shop.greet.apply_async(("ada",), {"loud": True}, queue="quick", priority=3, countdown=60)
        call = assert_enqueued(
            shop.greet, ["ada"], {"loud": True}, queue="quick", priority=3, countdown=timedelta(minutes=1), times=1
        )
        assert (call.id, call.name, call.task) == (result.id, "shop.greet", shop.greet)
        assert (list(call.args), call.kwargs, call.retries) == (["ada"], {"loud": True}, 0)
        assert call.countdown == pytest.approx(60)
        assert call.result.id == result.id
        assert str(call) == "shop.greet('ada', loud=True) [queue='quick', priority=3, countdown=60]"

    def test_a_task_is_found_by_its_name_and_by_its_eta(self) -> None:
        eta = datetime(2099, 1, 1, tzinfo=UTC)
        shop.greet.apply_async(("ada",), eta=eta, expires=datetime(2099, 1, 2, tzinfo=UTC))
        call = assert_enqueued("shop.greet", eta=eta)
        assert call.expires == datetime(2099, 1, 2, tzinfo=UTC)

    def test_arguments_are_compared_as_the_task_gets_them(self) -> None:
        shop.greet.delay(("a", ("b",)))  # type: ignore[arg-type]
        assert_enqueued(shop.greet, (("a", ("b",)),))
        assert_enqueued(shop.greet, [["a", ["b"]]])

    def test_what_does_not_fit_fails(self) -> None:
        shop.greet.delay("ada")
        wanted: list[dict[str, Any]] = [
            {"args": ["bob"]},
            {"kwargs": {"loud": True}},
            {"queue": "slow"},
            {"priority": 1},
            {"countdown": 60},
            {"eta": datetime(2099, 1, 1, tzinfo=UTC)},
            {"times": 2},
            {"times": 0},
        ]
        for each in wanted:
            with pytest.raises(AssertionError, match=r"(?s)shop\.greet was not enqueued.*What waits of it:.*'ada'"):
                assert_enqueued(shop.greet, **each)

    def test_the_message_says_what_waits_instead(self) -> None:
        with pytest.raises(AssertionError, match=r"shop\.greet was not enqueued\.\nNothing waits\."):
            assert_enqueued(shop.greet)
        shop.count.delay()
        with pytest.raises(AssertionError, match=r"What waits instead:\n  shop\.count\(\)"):
            assert_enqueued(shop.greet)

    def test_so_many_times(self) -> None:
        for _ in range(3):
            shop.greet.delay("ada")
        assert_enqueued(shop.greet, times=3)
        assert_enqueued(shop.count, times=0)

    def test_nothing_waits(self) -> None:
        assert_no_tasks()
        shop.greet.delay("ada")
        with pytest.raises(AssertionError, match=r"1 tasks wait:\n  shop\.greet\('ada'\)"):
            assert_no_tasks()
        assert_no_tasks(shop.count)
        drain()
        assert_no_tasks()

    def test_calls_inside_of_a_block_are_captured(self) -> None:
        shop.greet.delay("before")
        with captured() as calls, captured(shop.count) as counts:
            with transaction.atomic():
                shop.greet.delay("inside")
                shop.count.delay()
            assert calls == []
        shop.greet.delay("after")
        assert [list(call.args) for call in calls] == [["inside"], []]
        assert [call.name for call in counts] == ["shop.count"]

    def test_what_a_rolled_back_savepoint_has_called_was_never_called(self) -> None:
        class Undo(Exception):
            pass

        def undone() -> None:
            with transaction.atomic():
                shop.greet.delay("never")
                raise Undo

        with pytest.raises(Undo):
            undone()
        assert_no_tasks()

    def test_they_may_be_asked_in_any_transaction(self) -> None:
        with transaction.atomic():
            shop.greet.delay("ada")
            assert_enqueued(shop.greet, times=1)
        assert len(enqueued(shop.greet)) == 1


class TestInATestCase(Asserting, TestCase):
    pass


class TestInATransactionTestCase(Asserting, TransactionTestCase):
    pass


@pytest.mark.django_db
class TestInPytest(Asserting):
    pass
