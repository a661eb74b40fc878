"""A worker that cannot work ends, and says why; a plain outage it waits out."""

import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.test import override_settings

from djtasks.worker import patience
from djtasks.worker.patience import Patience, Unworkable
from tests.worker.running import Workers, query, value, wait_until
from tests.worker_app import tasks

FATAL = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: FATAL:  '


class Role:
    """A role that a worker has, and its address."""

    def __init__(self, url: str) -> None:
        self.name = f"w{uuid.uuid4().hex[:12]}"
        parts = urlsplit(url)
        self.url = urlunsplit(parts._replace(netloc=f"{self.name}:secret@{parts.netloc.rpartition('@')[2]}"))
        query(f"CREATE ROLE {self.name} LOGIN PASSWORD 'secret'")
        query(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {self.name}")
        query(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {self.name}")

    def hang_up(self) -> None:
        """End its sessions."""
        query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", self.name)

    def drop(self) -> None:
        """Remove it."""
        self.hang_up()
        query(f"DROP OWNED BY {self.name}")
        query(f"DROP ROLE {self.name}")


@pytest.fixture
def role(database: str) -> Iterator[Role]:
    found = Role(database)
    yield found
    found.drop()


@pytest.mark.parametrize(
    ("breaks", "mends", "says"),
    [
        ("REVOKE ALL ON djtasks_worker FROM {role}", "", "the worker's role has lost its rights"),
        ("REVOKE UPDATE ON djtasks_message FROM {role}", "", "the worker's role has lost its rights"),
        (
            "ALTER TABLE djtasks_message RENAME TO elsewhere",
            "ALTER TABLE elsewhere RENAME TO djtasks_message",
            "the tables of djtasks are gone",
        ),
        ("ALTER ROLE {role} PASSWORD 'another'", "", "the database's server lets this worker in no more"),
        ("ALTER ROLE {role} SET default_transaction_read_only = on", "", "the database's server only reads"),
    ],
    ids=["no heartbeat", "no claim", "no table", "no password", "no write"],
)
def test_what_no_waiting_cures_ends_the_worker(
    workers: Workers, role: Role, breaks: str, mends: str, says: str
) -> None:
    worker = workers.start(
        "-P",
        "solo",
        environment={"DATABASE_URL": role.url},
        WORKER_GIVE_UP_AFTER=1,
        WORKER_POLL_INTERVAL=0.2,
        WORKER_HEARTBEAT_INTERVAL=0.5,
    )
    query(breaks.format(role=role.name))
    try:
        if "ALTER ROLE" in breaks:
            role.hang_up()
        assert worker.wait() == 69
    finally:
        if mends:
            query(mends)
    assert f"{worker.name}@here cannot work, and ends: {says}" in worker.log
    assert worker.left() == []


def test_an_outage_is_waited_out_however_long(workers: Workers, role: Role) -> None:
    worker = workers.start("-P", "solo", environment={"DATABASE_URL": role.url}, WORKER_GIVE_UP_AFTER=0.1)
    query(f"ALTER ROLE {role.name} CONNECTION LIMIT 0")
    role.hang_up()
    wait_until(lambda: worker.log.count("too many connections") >= 5, "it has tried again and again")
    assert worker.process.poll() is None
    query(f"ALTER ROLE {role.name} CONNECTION LIMIT -1")
    assert value(tasks.echo.delay(1)) == 1
    assert worker.stop() == 0


# -- the rules ----------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What time it is, in seconds."""
    now = [100.0]
    monkeypatch.setattr(patience.time, "monotonic", lambda: now[0])
    return now


def lasts(clock: list[float], error: Exception, *steps: float) -> bool:
    """Whether a worker still waits when this error has come after each of so many seconds."""
    own = Patience()
    try:
        own.failed(error)
        for step in steps:
            clock[0] += step
            own.failed(error)
    except Unworkable:
        return False
    return True


@pytest.mark.parametrize(
    "text",
    [
        'password authentication failed for user "x"',
        'role "x" does not exist',
        'database "x" does not exist',
        'no pg_hba.conf entry for host "x"',
        'role "x" is not permitted to log in',
    ],
)
def test_a_refusal_is_waited_for_five_minutes(clock: list[float], text: str) -> None:
    error = psycopg.OperationalError(FATAL + text)
    assert lasts(clock, error, *[5.0] * 59)
    assert not lasts(clock, error, *[5.0] * 60)
    with override_settings(DJTASKS={"WORKER_GIVE_UP_AFTER": None}):
        assert lasts(clock, error, *[5.0] * 1000)


@pytest.mark.parametrize(
    "text",
    [
        f"{FATAL}the database system is starting up",
        f"{FATAL}sorry, too many clients already",
        "connection to server failed: Connection refused",
        "could not translate host name: Name or service not known",
        "server closed the connection unexpectedly",
    ],
)
def test_an_outage_never_ends_a_worker(clock: list[float], text: str) -> None:
    assert lasts(clock, psycopg.OperationalError(text), *[5.0] * 1000)


def test_tables_and_rights_may_be_away_for_a_moment(clock: list[float]) -> None:
    for error in (psycopg.errors.UndefinedTable("x"), psycopg.errors.InsufficientPrivilege("x")):
        assert lasts(clock, error, 1.0, 1.0, 1.0)
        assert not lasts(clock, error, 1.0, 2.0, 3.0)
        # What was long ago has nothing to do with it.
        assert lasts(clock, error, 1.0, 61.0, 4.0)


def test_what_works_again_is_forgotten(clock: list[float]) -> None:
    refused = psycopg.OperationalError(f'{FATAL}role "x" does not exist')
    own = Patience()
    for _ in range(100):
        own.failed(refused)
        clock[0] += 50.0
        own.worked()
    own.failed(refused)
    clock[0] += 250.0
    # The server has been away meanwhile: that is another story.
    own.failed(psycopg.OperationalError("Connection refused"))
    clock[0] += 100.0
    own.failed(refused)
