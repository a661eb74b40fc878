"""Writing a batch of which the database, or the driver, may not take every row: no bad one sinks the others."""

import logging
import struct
from collections.abc import Callable
from typing import Any

import psycopg

from djtasks.messages import Outcome

logger = logging.getLogger("djtasks.worker")

#: The database, or the driver, does not take the data.
REFUSED = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.ProgrammingError,
    ArithmeticError,
    TypeError,
    ValueError,
    struct.error,
)


def write_each(
    conn: psycopg.Connection,
    batch: list[Any],
    write: Callable[[psycopg.Connection, list[Any]], object],
    mend: Callable[[psycopg.Connection, Any, Exception], Outcome | None],
) -> dict[str, Outcome]:
    """Write a batch; if the database refuses its data, write row by row, and mend the row that is bad.

    Returns what was written in the place of bad rows, by id. Raises psycopg.OperationalError when the database is lost.
    """
    try:
        write(conn, batch)
        return {}
    except REFUSED as error:
        if conn.broken or conn.closed:
            raise
        logger.warning("A batch of %d was refused (%s); writing it one by one", len(batch), error)
    mended = {}
    for each in batch:
        try:
            write(conn, [each])
        except REFUSED as error:
            if conn.broken or conn.closed:
                raise
            logger.error("The state %s of task %s could not be stored: %s", each.state, each.id, error)
            if (outcome := mend(conn, each, error)) is not None:
                mended[outcome.id] = outcome
    return mended
