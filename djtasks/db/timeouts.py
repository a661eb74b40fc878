"""A statement that may take only so long: for what people ask for, and nobody can tell how much work it is."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, LiteralString

from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.errors import QueryCanceled


class TooSlow(Exception):
    """The statement was given up: it took too long."""


def within(
    conn: BaseDatabaseWrapper, query: LiteralString, params: Mapping[str, Any], seconds: float
) -> list[tuple[Any, ...]]:
    """Run one statement, for so many seconds at the most. Raises TooSlow."""
    limit = f"SET LOCAL statement_timeout = {max(1, round(seconds * 1000))}"
    # One round trip, in a transaction of its own, where statements can be sent together.
    together = not conn.settings_dict["OPTIONS"].get("server_side_binding")
    alone = together and not conn.in_atomic_block
    try:
        with nullcontext() if alone else transaction.atomic(using=conn.alias), conn.cursor() as cursor:
            if together:
                cursor.execute(f"{limit}; {query}", params)
                cursor.nextset()
            else:
                cursor.execute(limit)
                cursor.execute(query, params)
            found: list[tuple[Any, ...]] = cursor.fetchall()
    except DatabaseError as error:
        if isinstance(error.__cause__, QueryCanceled):
            raise TooSlow from None
        raise
    return found
