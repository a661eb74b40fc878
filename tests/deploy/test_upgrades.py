"""Upgrading while workers run: migrations only add, and workers of the release before go on while they do."""

import json
import pkgutil
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.db.migrations import AddConstraint, AddField, AddIndex, AlterField, AlterModelOptions, CreateModel, RunSQL
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from psycopg import sql
from pytest_django import DjangoDbBlocker

from djtasks import AsyncResult, ResultSet, migrations
from djtasks.canvas import chord
from tests.deploy.databases import at, database_beside
from tests.worker.running import Workers, migrate, query, value
from tests.worker_app import limited, tasks, workflows

NAMES = sorted(module.name for module in pkgutil.iter_modules(migrations.__path__) if module.name[0].isdigit())
#: What a migration may do while workers of the release before still run. RunSQL is read by whoever reviews it.
ADDING = (AddConstraint, AddField, AddIndex, AlterField, AlterModelOptions, CreateModel, RunSQL)
IMPORTS = ["tests.worker_app.workflows", "tests.worker_app.limited"]


@pytest.fixture(autouse=True)
def _unblocked(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


def breaking(operation: Operation, made: set[str]) -> bool:
    """Whether the statements of a release that does not know this operation may fail; `made` are its new tables."""
    if isinstance(operation, AddField):
        if operation.model_name_lower in made:
            return False
        return not (operation.field.null or operation.field.has_db_default())
    return not isinstance(operation, ADDING)


@pytest.mark.parametrize("name", NAMES)
def test_a_migration_takes_nothing_away_and_asks_nothing_of_those_who_do_not_know_it(name: str) -> None:
    made = MigrationLoader(None).get_migration("djtasks", name)
    new = {operation.name_lower for operation in made.operations if isinstance(operation, CreateModel)}
    assert [operation.describe() for operation in made.operations if breaking(operation, new)] == []


@pytest.mark.parametrize("name", NAMES[1:])
def test_the_type_of_a_column_stays_and_none_becomes_mandatory(name: str) -> None:
    loader = MigrationLoader(None)
    before = loader.project_state(("djtasks", NAMES[NAMES.index(name) - 1])).apps
    after = loader.project_state(("djtasks", name)).apps
    for model in before.get_app_config("djtasks").get_models():
        new = {field.column: field for field in after.get_model("djtasks", model.__name__)._meta.local_fields}
        for field in model._meta.local_fields:
            same = new[field.column]
            assert same.db_type(connection) == field.db_type(connection), (model, field)
            assert same.null or not field.null, (model, field)


def test_what_waited_before_a_migration_runs_after_it_and_no_worker_starts_between_release_and_migration(
    server_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with database_beside(server_url) as url:
        migrate(url, "djtasks", NAMES[-2])
        waiting = str(uuid.uuid4())
        with psycopg.connect(url) as conn:
            conn.execute(
                "INSERT INTO djtasks_message (id, lane, queue, name, body) VALUES (%s, 'celery', 'celery', %s, %s)",
                [waiting, "tests.worker_app.tasks.echo", json.dumps([[7], {}]).encode()],
            )
        workers = Workers(tmp_path_factory.mktemp("workers"), url)
        try:
            early = workers.launch()
            assert early.wait() == 1
            assert f"older than this version ({NAMES[-1]}); run `manage.py migrate` first" in early.log
            migrate(url, "djtasks")
            workers.start("-c", "1")
            with at(url):
                assert value(AsyncResult(waiting)) == 7
        finally:
            workers.close()


def add_to_everything() -> None:
    """What a later release may do to every one of the tables."""
    for (table,) in query("SELECT tablename FROM pg_tables WHERE tablename LIKE 'djtasks\\_%%'"):
        with connection.cursor() as cursor:
            cursor.execute(
                sql.SQL("ALTER TABLE {} ADD later text, ADD later_too boolean NOT NULL DEFAULT false").format(
                    sql.Identifier(table)
                )
            )
    query("CREATE TABLE djtasks_later (id bigint PRIMARY KEY)")
    query("INSERT INTO django_migrations (app, name, applied) VALUES ('djtasks', '9999_later', now())")


def test_workers_go_on_while_a_later_release_migrates_and_start_after_it(
    server_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    add, gather = workflows.add, workflows.gather
    with database_beside(server_url) as url, at(url):
        migrate(url, "djtasks")
        workers = Workers(tmp_path_factory.mktemp("workers"), url)

        def everything() -> None:
            """Let every statement of a busy worker be prepared, and run."""
            many = tasks.echo.bulk_apply_async(([number], {}) for number in range(500))
            failed: AsyncResult[Any] = tasks.fail.delay("x")
            retried, later = tasks.retried.delay(), tasks.noop.apply_async(countdown=0.3)
            parts = chord((add.s(number) for number in range(20)), gather.s()).apply_async((1,))
            kept = [limited.two_of_a_key.delay("key") for _ in range(4)]
            assert ResultSet([*many, *kept]).get(timeout=30)[:500] == list(range(500))
            assert [value(retried), value(later), parts.get(timeout=20)] == [2, None, list(range(1, 21))]
            failed.get(timeout=20, propagate=False)

        try:
            first = workers.start("-c", "2", "-B", IMPORTS=IMPORTS)
            everything()
            add_to_everything()
            everything()
            assert first.process.poll() is None
            for text in ("cached plan", "Lost the database"):
                assert text not in first.log, first.log
            assert first.stop() == 0
            workers.start("-c", "1", IMPORTS=IMPORTS)
            assert tasks.echo.delay("after").get(timeout=20) == "after"
        finally:
            workers.close()
