"""Queues that are paused and resumed by a program."""

from contextlib import suppress
from typing import Any

import pytest
from django.db import transaction

from djtasks import queues
from djtasks.models import Queue

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _no_queues() -> None:
    Queue.objects.all().delete()


def test_it_says_what_has_changed() -> None:
    assert queues.pause("a", "b", by="me") == ["a", "b"]
    assert queues.pause("b", "c") == ["c"]
    assert queues.paused() == {"a", "b", "c"}
    assert queues.resume("a", "d") == ["a"]
    assert queues.paused() == {"b", "c"}


def test_a_pause_is_a_part_of_its_transaction() -> None:
    with suppress(KeyError), transaction.atomic():
        queues.pause("a")
        raise KeyError
    assert queues.paused() == set()
    with transaction.atomic():
        queues.pause("a")
    with transaction.atomic():
        queues.resume("a")
    assert queues.paused() == set()


@pytest.mark.parametrize("names", [(), (5,), ("",), ("x" * 201,), ("a\0",)])
def test_what_is_no_name_of_a_queue_is_an_error(names: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="queue"):
        queues.pause(*names)
