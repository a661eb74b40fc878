"""What code says of periodic tasks gets into the table: by each beat, when it starts.

A row knows what the code said of it last. Where it says something else itself, somebody has edited it, and the edit is
kept; where the code no longer has it, it is switched off, until the code has it again.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import psycopg

from djtasks import codeschedules
from djtasks.db import synced
from djtasks.db.connections import LOST
from djtasks.db.synced import Row
from djtasks.periodic import Entry

logger = logging.getLogger("djtasks.beat")

ADMIN = "admin"
#: Kept with what the code said of a row that has vanished: whether it was switched on until then.
WAS = "was_enabled"


def sync(conn: psycopg.Connection) -> bool:
    """Let the rows follow the code; False when some of them are being written, so that it is to be done again.

    An entry that cannot be, or that the table refuses, is told in the log, and left as it is.
    """
    for fault in codeschedules.faults():
        place = codeschedules.PLACES.get(fault.source, fault.source)
        logger.error("Scheduler: the periodic task %r (%s) cannot be: %s", fault.name, place, fault.text)
    said = codeschedules.said()
    faulty = {fault.name for fault in codeschedules.faults()}
    with conn.transaction():
        synced.lock(conn)
        found, complete = synced.read(conn, said.keys())
        rows = {row.name: row for row in found}
        for name, entry in said.items():
            complete &= _each(conn, name, entry, rows.get(name))
        for row in found:
            if row.source != ADMIN and row.name not in said and row.name not in faulty and not row.vanished:
                _vanish(conn, row)
    return complete


def _each(conn: psycopg.Connection, name: str, entry: Entry, row: Row | None) -> bool:
    """Write one entry; False if somebody else is doing it."""
    try:
        with conn.transaction():
            said = synced.normal(conn, columns(entry))
            if row is None:
                return synced.insert(conn, name, entry.source, said)
            _follow(conn, entry, row, said)
    except LOST:
        raise
    except (psycopg.Error, TypeError, ValueError) as error:
        logger.error("Scheduler: the periodic task %r of the code cannot be written: %s", name, error)
    return True


def _follow(conn: psycopg.Connection, entry: Entry, row: Row, said: dict[str, Any]) -> None:
    """Let a row follow what the code says of it now."""
    if row.source == ADMIN:
        logger.warning(
            "Scheduler: a periodic task %r was made in the database, and the one of the code is left out; rename one",
            row.name,
        )
        return
    before = dict(row.said or {})
    enabled = before.pop(WAS, True) if row.vanished else row.columns["enabled"]
    own = {**row.columns, "enabled": enabled}
    if is_edited(own, before):
        if (row.said, row.overridden, row.vanished, row.source) != (said, True, False, entry.source):
            synced.mark(conn, row.id, entry.source, said, overridden=True, vanished=False, enabled=enabled)
    elif before == said and not enabled:
        # It has run once, or expired: the code does not say that it is to run again.
        if (row.overridden, row.vanished, row.source) != (False, False, entry.source):
            synced.mark(conn, row.id, entry.source, said, overridden=False, vanished=False, enabled=False)
    elif own != said or before != said or row.overridden or row.vanished or row.source != entry.source:
        synced.replace(conn, row.id, entry.source, said)


def is_edited(own: Mapping[str, Any], said: Mapping[str, Any]) -> bool:
    """Whether a row says something else than the code did when it was synced.

    Beat's own doing is no edit: it switches off what has run once, or has expired.
    """
    different = {column for column in own.keys() & said.keys() if own[column] != said[column]}
    if different == {"enabled"} and not own["enabled"]:
        expires = own.get("expires")
        return not (own.get("one_off") or (expires and datetime.fromisoformat(expires) <= datetime.now(UTC)))
    return bool(different)


def _vanish(conn: psycopg.Connection, row: Row) -> None:
    """Switch off a row that the code no longer has."""
    logger.warning("Scheduler: the code no longer has the periodic task %r, which is switched off", row.name)
    said = {**(row.said or {}), WAS: row.columns["enabled"]}
    synced.mark(conn, row.id, row.source, said, overridden=row.overridden, vanished=True, enabled=False)


def columns(entry: Entry) -> dict[str, Any]:
    """What an entry says, by column, as JSON."""
    said = entry._asdict()
    for own in ("id", "name", "source"):
        del said[own]
    return {name: value.isoformat() if isinstance(value, datetime) else _plain(value) for name, value in said.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value
