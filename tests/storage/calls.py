"""Calls as a view makes them, and transactions that come to nothing."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.db import connection, transaction

from djtasks import outbox
from tests.storage.rows import message

#: Only the tables of these apps are emptied after a test: that is quicker by far.
APPS = ["djtasks", "testproject.census"]
committed = pytest.mark.django_db(transaction=True, available_apps=APPS)
two_databases = pytest.mark.django_db(transaction=True, databases=["default", "other"], available_apps=APPS)

MODES = outbox.MODES


class Undone(Exception):
    """Raised to roll a transaction back."""


@contextmanager
def undone(using: str | None = None) -> Iterator[None]:
    """A transaction, or a savepoint within one, that is rolled back at its end."""
    with suppress(Undone), transaction.atomic(using=using):
        yield
        raise Undone


def call(mode: str | None = None, **options: Any) -> str:
    """Enqueue a message; return its id."""
    fields = options.pop("fields", {})
    made = message(**fields)
    outbox.enqueue(made, mode=mode, **options)
    return made.id


def seen_by_caller() -> int:
    """How many messages the caller's own connection sees."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM djtasks_message")
        return int(cursor.fetchone()[0])
