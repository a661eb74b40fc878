"""Whether the task database can be used, before anything is started on it."""

import psycopg

from djtasks.conf import settings
from djtasks.db import workers
from djtasks.db.connections import LOST, borrow, open_private, reason
from djtasks.exceptions import ImproperlyConfigured

#: What PgBouncer answers to settings that a session cannot have there.
PROXY = "unsupported startup parameter"


def open_ready(purpose: str) -> psycopg.Connection:
    """A new connection to the task database, which has been looked at; the caller closes it.

    Raises ImproperlyConfigured, with a sentence, if the database cannot be used.
    """
    alias = settings.DATABASE
    if borrow().vendor != "postgresql":
        raise ImproperlyConfigured(
            f"djtasks needs PostgreSQL, but DATABASES[{alias!r}] is {borrow().vendor}; set the DATABASE key of"
            " DJTASKS to an alias that is PostgreSQL"
        )
    try:
        conn = open_private(purpose)
    except LOST as error:
        if PROXY in str(error):
            raise ImproperlyConfigured(
                f"a proxy stands before the server of the database {alias!r} and refuses our settings"
                f" ({reason(error)}); set DISABLE_SERVER_SIDE_CURSORS of DATABASES[{alias!r}] to True, if it pools"
                " transactions"
            ) from error
        raise ImproperlyConfigured(
            f"the database {alias!r} cannot be reached ({reason(error)}); start its server, or correct HOST, PORT,"
            f" USER and PASSWORD of DATABASES[{alias!r}]"
        ) from error
    try:
        missing = workers.unapplied(conn)
    except psycopg.errors.InsufficientPrivilege as error:
        conn.close()
        raise ImproperlyConfigured(
            f"the role that reaches the database {alias!r} has too few rights ({reason(error)}); grant them, as"
            " docs/deploy/roles.sql does"
        ) from error
    if missing:
        conn.close()
        raise ImproperlyConfigured(
            f"the tables of djtasks in the database {alias!r} are missing or older than this version"
            f" ({', '.join(missing)}); run `manage.py migrate` first"
        )
    return conn
