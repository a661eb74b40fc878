"""The roles of docs/deploy/roles.sql can do what they are for, and nothing beyond it."""

import re
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from django.db import ProgrammingError, connection, transaction
from psycopg import sql
from pytest_django import DjangoDbBlocker

from djtasks import ResultSet, app
from djtasks.canvas import chain, chord, group
from djtasks.db.connections import open_private, rows
from djtasks.models import PeriodicTask
from testproject.postgres.shared import CHECKOUT
from tests.beat.running import Beats
from tests.deploy.databases import at, database_beside, with_options
from tests.worker.running import Workers, migrate, query, value, wait_until
from tests.worker_app import limited, tasks, workflows

NAMES = ("migrator", "worker", "producer", "viewer")


class Roles:
    """A database in which each has the role of the file, under names that no other database of the server knows."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.suffix = uuid.uuid4().hex[:8]
        text = (CHECKOUT / "docs" / "deploy" / "roles.sql").read_text()
        self.script = re.sub(rf"\btasks_({'|'.join(NAMES)})\b", lambda found: self.name(found[1]), text)

    def name(self, role: str) -> str:
        return f"t{self.suffix}_{role}"

    def url_of(self, role: str) -> str:
        """The address at which one is this role, in Django's sessions and in our own."""
        return with_options(self.url, assume_role=self.name(role))

    def grant(self) -> None:
        """Run the file."""
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(self.script.encode())

    def drop(self) -> None:
        """Remove the roles and all they have."""
        with psycopg.connect(self.url, autocommit=True) as conn:
            for name in map(self.name, NAMES):
                for statement in ("DROP OWNED BY {} CASCADE", "DROP ROLE {}"):
                    conn.execute(sql.SQL(statement).format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def roles(server_url: str) -> Iterator[Roles]:
    with database_beside(server_url) as url:
        found = Roles(url)
        found.grant()
        try:
            # That the migrator can migrate is the first thing that is tested here.
            migrate(found.url_of("migrator"), "djtasks")
            found.grant()
            found.grant()
            yield found
        finally:
            found.drop()


@contextmanager
def as_role(roles: Roles, role: str) -> Iterator[None]:
    with at(roles.url_of(role)):
        assert query("SELECT current_user") == [(roles.name(role),)]
        yield


@pytest.fixture(autouse=True)
def _unblocked(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


@pytest.fixture(scope="module")
def worker(roles: Roles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """A worker that is no more than `tasks_worker`."""
    found = Workers(tmp_path_factory.mktemp("workers"), roles.url_of("worker"))
    found.start("-c", "2", IMPORTS=["tests.worker_app.workflows", "tests.worker_app.limited"])
    yield found
    found.close()


def refused(statement: str) -> bool:
    """Whether the role may not do that."""
    try:
        with transaction.atomic():
            query(statement)
    except ProgrammingError as error:
        return "permission denied" in str(error)
    return False


def test_the_migrator_owns_the_tables_and_our_private_sessions_have_the_role_that_django_s_assume(roles: Roles) -> None:
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE tablename LIKE 'djtasks%'"
    with psycopg.connect(roles.url) as conn:
        assert rows(conn, owners) == [(roles.name("migrator"),)]
    with as_role(roles, "viewer"), closing(open_private("test")) as private:
        assert rows(private, "SELECT current_user::text") == [(roles.name("viewer"),)]


@pytest.mark.usefixtures("worker")
def test_a_producer_enqueues_in_every_way_and_waits_for_what_a_worker_does(roles: Roles) -> None:
    with as_role(roles, "producer"):
        for mode in ("on_commit", "in_transaction", "immediately"):
            with transaction.atomic():
                made = tasks.echo.apply_async([mode], enqueue=mode)
            assert made.get(timeout=20) == mode
        many = tasks.echo.bulk_apply_async(([number], {}) for number in range(1500))
        assert ResultSet(list(many)).get(timeout=20) == list(range(1500))
        first = tasks.nap.apply_async([0], unique_key="only one", countdown=60)
        assert tasks.nap.apply_async([0], unique_key="only one").id != ""
        assert first.state == "PENDING"
        add, gather = workflows.add, workflows.gather
        steps = chain(add.s(1), add.s(1), group(add.s(1), add.s(2)), gather.s()).apply_async((1,))
        parts = chord((add.s(number) for number in range(5)), gather.s()).apply_async((1,))
        empty = chord([], gather.s()).apply_async()
        saved = group(add.s(1), add.s(2)).apply_async((1,))
        saved.save()
        assert steps.get(timeout=20) == [4, 5]
        assert parts.get(timeout=20) == [1, 2, 3, 4, 5]
        assert empty.get(timeout=20) == []
        assert saved.get(timeout=20) == [2, 3]
        ResultSet([limited.two_of_a_key.delay("key") for _ in range(3)]).get(timeout=20)


def test_a_producer_can_neither_change_nor_delete_what_is_enqueued_nor_schedule(roles: Roles) -> None:
    with as_role(roles, "producer"):
        made = tasks.echo.apply_async([1], queue="nobody")
        assert refused("UPDATE djtasks_message SET priority = 9")
        assert refused("DELETE FROM djtasks_message")
        assert refused("DELETE FROM djtasks_result")
        assert refused("INSERT INTO djtasks_command (name, arguments, expires) VALUES ('shutdown', '{}', now())")
        assert refused("INSERT INTO djtasks_queue (name) VALUES ('celery')")
        assert refused("UPDATE djtasks_worker SET idle = true")
        tasks.echo.send_event("task-custom", note="hello")
        assert query("SELECT body ->> 'note' FROM djtasks_event WHERE type = 'task-custom'") == [("hello",)]
        assert refused("DELETE FROM djtasks_event")
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
            PeriodicTask.objects.create(name="x", task="y", kind="interval", every=1, period="seconds")
        with pytest.raises((ProgrammingError, psycopg.errors.InsufficientPrivilege), match="permission denied"):
            made.revoke()
        assert made.state == "PENDING"


def test_a_viewer_reads_and_does_nothing_else(roles: Roles) -> None:
    with as_role(roles, "viewer"):
        tables = [name for name in connection.introspection.table_names() if name.startswith("djtasks_")]
        assert len(tables) > 10
        for name in tables:
            query(f"SELECT * FROM {name} LIMIT 1")
            assert refused(f"DELETE FROM {name}")
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
            tasks.echo.apply_async([1], enqueue="in_transaction")


def test_a_worker_s_role_revokes_schedules_and_commands_and_cannot_change_the_tables(
    roles: Roles, worker: Workers, tmp_path: Path
) -> None:
    beats = Beats(tmp_path, roles.url_of("worker"))
    with as_role(roles, "worker"):
        try:
            beats.start()
            made = PeriodicTask.objects.create(
                name="often", task="tests.worker_app.tasks.noop", kind="interval", every=1, period="seconds"
            )
            wait_until(
                lambda: query("SELECT 1 FROM djtasks_result WHERE periodic = %s", made.pk), "a run of it has ended"
            )
        finally:
            beats.close()
        assert len(app.control.ping(timeout=10)) == 1
        waiting = tasks.echo.apply_async([1], queue="nobody")
        waiting.revoke()
        assert waiting.state == "REVOKED"
        assert value(tasks.retried.delay()) == 2
        for statement in ("ALTER TABLE djtasks_message ADD x int", "DROP TABLE djtasks_message"):
            with pytest.raises(ProgrammingError, match="must be owner"), transaction.atomic():
                query(statement)
        assert refused("CREATE TABLE mine (id int)")
    assert "permission denied" not in "".join(each.log for each in worker.started)
