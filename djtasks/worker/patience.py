"""Patience: an outage is waited out for ever; what no waiting cures ends the worker, with a sentence.

A server that is away, starts, stops, or has no connection left comes back by itself. Tables that are gone, rights that
were taken, a password that is no longer right, a server that only reads, do not: a worker that went on trying would
look alive, and do nothing.
"""

import time
from typing import Final, NamedTuple

import psycopg

from djtasks.conf import settings
from djtasks.db.connections import reason

#: How long tables and rights may be missing, in seconds: while somebody grants them anew, say.
GRACE: Final = 5.0
#: What was longer ago than that has nothing to do with what is now.
EPISODE: Final = 60.0
#: Not lost connections, but statements that cannot work.
HOPELESS: Final = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.InsufficientPrivilege,
)
#: What servers and proxies say to whom they do not let in: libpq tells no code of it. In the server's own language,
#: so where `lc_messages` is another one, it is taken for an outage.
_REFUSALS: Final = (
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "is not permitted to log in",
    "permission denied for database",
    " does not exist",
    "no such database",
    "no such user",
)


class Unworkable(Exception):
    """The worker cannot work, and ends: its text says why, and what to do."""


class _Cause(NamedTuple):
    what: str
    cure: str
    #: Whether it is waited for as long as WORKER_GIVE_UP_AFTER says.
    bounded: bool = True


_TABLES = _Cause("the tables of djtasks are gone, or not those of this version", "run `manage.py migrate`", False)
_RIGHTS = _Cause("the worker's role has lost its rights", "grant them, as docs/deploy/roles.sql does", False)
_REFUSED = _Cause(
    "the database's server lets this worker in no more", "correct NAME, USER and PASSWORD in DATABASES, or its roles"
)
_READS = _Cause("the database's server only reads, as a standby does", "let DATABASES lead to the primary")


def _cause(error: BaseException) -> _Cause | None:
    """What no waiting cures; None for an outage."""
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return _RIGHTS
    if isinstance(error, HOPELESS):
        return _TABLES
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return _READS
    if isinstance(error, psycopg.OperationalError):
        text = str(error)
        if isinstance(error, psycopg.errors.InvalidAuthorizationSpecification | psycopg.errors.InvalidCatalogName) or (
            "connection" in text and "FATAL" in text and any(each in text for each in _REFUSALS)
        ):
            return _REFUSED
    return None


class Patience:
    """One connection's. Belongs to the thread that has it."""

    def __init__(self) -> None:
        self._now: _Cause | None = None
        #: When it was met first, and last, in monotonic seconds.
        self._since = self._last = 0.0

    def failed(self, error: BaseException) -> None:
        """Something could not be done. Raises Unworkable when that has been so for too long."""
        cause, now = _cause(error), time.monotonic()
        if cause is None:
            self._now = None
            return
        if cause is not self._now or now - self._last > EPISODE:
            self._now, self._since = cause, now
        self._last = now
        most = settings.WORKER_GIVE_UP_AFTER
        if not cause.bounded:
            most = GRACE if most is None else min(GRACE, most)
        if most is not None and now - self._since >= most:
            lasted = f" for {now - self._since:.0f} s" if cause.bounded else ""
            raise Unworkable(f"{cause.what}{lasted} ({reason(error)}); {cause.cure}, and start the worker again")

    def worked(self, with_rights: bool = False) -> None:
        """Something could be done: whoever was let in is not refused. That some statements work says nothing of the
        rights for others, unless it does (`with_rights`).
        """
        if self._now is not None and (with_rights or self._now.bounded):
            self._now = None
