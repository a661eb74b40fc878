"""What callers tell: task-sent, once that is committed, while TASK_SEND_SENT_EVENT is on; what they have revoked.

What goes wrong with it is logged, and never the caller's problem.
"""

import logging
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from djtasks import masking
from djtasks.db import events as table
from djtasks.db.connections import Connection
from djtasks.events.fields import make, node_of_process, row_of, utcoffset
from djtasks.exceptions import safe_repr
from djtasks.messages import Claimed, Message
from djtasks.payload import headers_of, unpack_call

logger = logging.getLogger("djtasks.events")

#: So many are written in one statement.
BATCH = 1000


def tell(conn: Connection, messages: Sequence[Message]) -> None:
    """Tell of these, which are committed."""
    try:
        for start in range(0, len(messages), BATCH):
            table.write(conn, [_row(message) for message in messages[start : start + BATCH]])
    except (DatabaseError, psycopg.Error) as error:
        logger.warning("task-sent could not be told: %s", str(error).strip())
    except Exception as error:
        logger.error("task-sent could not be told: %s", safe_repr(error), exc_info=True)


def tell_later(conn: BaseDatabaseWrapper, messages: Sequence[Message]) -> None:
    """Tell of these when the transaction commits; what a rolled-back savepoint wrote was not sent."""
    if conn.in_atomic_block:
        conn.on_commit(lambda: tell(conn, messages), robust=True)


def tell_revoked(conn: Connection, messages: Sequence[Claimed]) -> None:
    """Tell that these, which waited, are revoked, if any worker sends events: no worker is to meet them any more."""
    try:
        if not messages or not table.wanted(conn):
            return
        told = {"terminated": False, "signum": None, "expired": False, "pid": os.getpid(), "utcoffset": utcoffset()}
        for start in range(0, len(messages), BATCH):
            part = messages[start : start + BATCH]
            table.write(conn, [row_of("task-revoked", "", one.id, _of(one, told)) for one in part])
    except (DatabaseError, psycopg.Error) as error:
        logger.warning("task-revoked could not be told: %s", str(error).strip())


def _of(message: Claimed, told: dict[str, Any]) -> dict[str, Any]:
    return make("task-revoked", {**told, "uuid": headers_of(message.headers).get("task_id", message.id)})


def _row(message: Message) -> table.Event:
    fields = make("task-sent", fields_of(message), pid=os.getpid(), utcoffset=utcoffset())
    return row_of("task-sent", node_of_process(), message.id, fields)


def fields_of(message: Message) -> dict[str, Any]:
    """What is told of it."""
    now = datetime.now(UTC)
    said = headers_of(message.headers)
    args: Any
    kwargs: Any
    shown = said.get("task_id", message.id)
    try:
        args, kwargs = unpack_call(
            message.body, message.content_type, message.content_encoding, message.name, message.id, message.headers
        )
    except Exception:
        # A serializer that this process may write, and not read.
        args = kwargs = None
    args, kwargs = masking.shown(said.get("sensitive"), args, kwargs)
    return {
        "uuid": shown,
        "name": said.get("shadow") or message.name,
        "args": said.get("argsrepr") or args,
        "kwargs": said.get("kwargsrepr") or kwargs,
        "retries": message.retries,
        "eta": _moment(message.eta, message.countdown, now),
        "expires": _moment(message.expires, message.expires_in, now),
        "queue": message.queue,
        "exchange": "",
        "routing_key": message.queue,
        "root_id": message.root_id or shown,
        "parent_id": message.parent_id,
    }


def _moment(at: float | None, seconds: float | None, now: datetime) -> str | None:
    try:
        if seconds is not None:
            return (now + timedelta(seconds=seconds)).isoformat()
        return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return None
