"""Other places for the tables: schemas, a database of their own, a restored one; and Django's own connection pool."""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import environ
import psycopg
import pytest
from django.contrib.auth.models import User
from django.core import checks
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.test import Client, override_settings
from django.urls import reverse
from psycopg import sql
from pytest_django import DjangoDbBlocker

from djtasks import ResultSet, chain, control, delivery, waiting
from tests.deploy.databases import at, database_beside, with_options
from tests.deploy.pooled import POOL
from tests.worker.conftest import clean
from tests.worker.running import Workers, migrate, query, wait_until
from tests.worker_app import tasks

SCHEMA = "shop"


@pytest.fixture(autouse=True)
def _unblocked(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


@pytest.fixture
def workers(migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Starts workers for one test."""
    found = Workers(tmp_path_factory.mktemp("workers"), migrated)
    with at(migrated):
        clean()
    yield found
    found.close()


@contextmanager
def schema_of(url: str) -> Iterator[str]:
    """A second project's tables in the same database; the address that leads to them."""
    name = sql.Identifier(SCHEMA)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE SCHEMA {}").format(name))
        try:
            yield with_options(url, options=f"-c search_path={SCHEMA}")
        finally:
            conn.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(name))


def test_two_projects_in_two_schemas_of_one_database_know_nothing_of_each_other(
    migrated: str, workers: Workers
) -> None:
    with schema_of(migrated) as url:
        migrate(url, "djtasks")
        worker = workers.launch("-l", "INFO", "-c", "1", environment={"DATABASE_URL": url}).ready()
        with at(migrated):
            other = tasks.echo.delay("of the other project")
        with at(url):
            assert [tasks.echo.delay(number).get(timeout=20) for number in range(3)] == [0, 1, 2]
            assert query("SELECT name FROM djtasks_worker") == [(f"{worker.name}@here",)]
            assert query("SELECT count(*) FROM djtasks_message") == [(0,)]
        with at(migrated):
            assert other.state == "PENDING"
            assert query("SELECT count(*) FROM djtasks_worker") == [(0,)]
        assert worker.stop() == 0
        workers.start("-c", "1")
        with at(migrated):
            assert other.get(timeout=20) == "of the other project"


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_django_s_connection_pool_serves_calls_and_tasks_across_forks(
    migrated: str, workers: Workers, pool: str
) -> None:
    settings = {"DJANGO_SETTINGS_MODULE": "tests.deploy.pooled"}
    workers.launch("-l", "INFO", "-c", "2", "-P", pool, environment=settings).ready()
    with at(migrated):
        wrapper: Any = connections["default"]
        wrapper.settings_dict.setdefault("OPTIONS", {})["pool"] = POOL
        try:
            assert wrapper.pool is not None
            for mode in ("on_commit", "in_transaction", "immediately"):
                with transaction.atomic():
                    made = tasks.echo.apply_async([mode], enqueue=mode)
                assert made.get(timeout=20) == mode
            sessions = ResultSet([tasks.session.delay() for _ in range(20)]).get(timeout=20)
            if pool == "prefork":
                # No session serves two processes: each child has a pool of its own.
                owners = {(each["backend"], each["pid"]) for each in sessions}
                assert len(owners) == len({backend for backend, _ in owners})
                assert os.getpid() not in {pid for _, pid in owners}
            broken = tasks.break_session.delay()
            broken.get(timeout=20, propagate=False)
            # The pool gives out no session that is broken.
            ResultSet([tasks.session.delay() for _ in range(4)]).get(timeout=20)
        finally:
            wrapper.close_pool()


@contextmanager
def tasks_apart(url: str) -> Iterator[None]:
    """Tasks are in this database, and everything else is where it was."""
    connections.settings["tasks"] = connections.configure_settings(
        {"default": environ.Env.db_url_config(url), "tasks": environ.Env.db_url_config(url)}
    )["tasks"]
    said = {"DATABASE": "tasks"}
    with override_settings(DATABASE_ROUTERS=["djtasks.router.TaskRouter"], DJTASKS=said):
        waiting.close()
        delivery.close()
        try:
            yield
        finally:
            waiting.close()
            delivery.close()
            connections["tasks"].close()
            del connections["tasks"], connections.settings["tasks"]


def test_tasks_in_a_database_of_their_own(migrated: str, workers: Workers) -> None:
    with database_beside(migrated) as url, at(migrated):
        migrate(url, "djtasks")
        environment = {"DJANGO_SETTINGS_MODULE": "tests.deploy.apart", "TASKS_DATABASE_URL": url}
        worker = workers.launch("-l", "INFO", "-c", "1", environment=environment).ready()
        with tasks_apart(url):
            a_call_is_no_part_of_the_caller_s_transaction()
            pages_show_them()
            # Other tests have defined tasks that are atomic in the database they know.
            assert [problem for problem in check_settings() if "is atomic in" not in problem] == []
            with override_settings(DJTASKS={"DATABASE": "tasks", "ENQUEUE": "in_transaction"}):
                [found] = [each for each in check_settings() if "is atomic in" not in each]
                assert "'in_transaction', but the tasks are in 'tasks', not 'default'" in found
        assert worker.stop() == 0
        for table in ("message", "result", "worker", "queue"):
            assert query(f"SELECT count(*) FROM djtasks_{table}") == [(0,)]


def check_settings() -> list[str]:
    """What the system check says."""
    return [str(found.msg) for found in checks.run_checks(tags=["djtasks"]) if found.level >= checks.WARNING]


def a_call_is_no_part_of_the_caller_s_transaction() -> None:
    """It is made after the commit, or at once; a rollback takes back the first only."""
    assert tasks.echo.delay("plain").get(timeout=20) == "plain"
    with transaction.atomic():
        later = tasks.echo.delay("after the commit")
        at_once = tasks.echo.apply_async(["at once"], enqueue="immediately")
        assert at_once.get(timeout=20) == "at once"
        assert later.state == "PENDING"
    assert later.get(timeout=20) == "after the commit"
    with transaction.atomic():
        dropped = tasks.echo.delay("rolled back")
        kept = tasks.echo.apply_async(["kept"], enqueue="immediately")
        transaction.set_rollback(True)
    assert kept.get(timeout=20) == "kept"
    # In a transaction of the tasks' own database: that one's commit counts.
    with transaction.atomic(using="tasks"):
        inside = tasks.echo.apply_async(["inside"], enqueue="in_transaction")
    assert inside.get(timeout=20) == "inside"
    assert [each.get(timeout=20) for each in tasks.echo.bulk_apply_async(((n,), None) for n in range(3))] == [0, 1, 2]
    assert chain(tasks.echo.s("first"), tasks.echo.s()).apply_async().get(timeout=20) == "first"
    assert dropped.state == "PENDING"


def pages_show_them() -> None:
    """The admin reads the tasks' database, and its own users in the other one."""
    user = User.objects.create_superuser(f"user {uuid.uuid4()}")
    try:
        client = Client()
        client.force_login(user)
        tasks.echo.apply_async(["waits"], queue="nobody's")
        for page, text in (
            ("result", "tests.worker_app.tasks.echo"),
            ("message", "nobody&#x27;s"),
            ("worker", "@here"),
            ("queue", "celery"),
        ):
            response = client.get(reverse(f"admin:djtasks_{page}_changelist"))
            assert response.status_code == 200
            assert text in response.content.decode(), page
        assert control.purge(["nobody's"]) == 1
    finally:
        user.delete()


def test_a_restored_database_runs_none_of_its_tasks_until_it_is_told_to(migrated: str, workers: Workers) -> None:
    with at(migrated):
        queues_used = ("celery", "mail", "never declared")
        old = [tasks.noted.apply_async([number], queue=queue) for number, queue in enumerate(queues_used)]
        old.append(tasks.noted.apply_async([3], queue="for later", countdown=0.5))
        said = StringIO()
        call_command("djtasks", "pause", "--all", "--note", "restored", stdout=said)
        assert said.getvalue() == "Paused 4 queues: celery, for later, mail, never declared\n"
        workers.start("-c", "1", "-Q", "celery,mail,never declared,for later,new")
        assert tasks.noted.apply_async([100], queue="new").get(timeout=20) == 100
        wait_until(
            lambda: query("SELECT lane FROM djtasks_message WHERE queue = 'for later'") == [("for later",)], "due"
        )
        assert tasks.noted.apply_async([101], queue="new").get(timeout=20) == 101
        assert workers.audit.numbers() == [100, 101]
        with pytest.raises(CommandError, match="name queues, or say --all"):
            call_command("djtasks", "resume")
        call_command("djtasks", "resume", "mail", stdout=said)
        assert old[1].get(timeout=20) == 1
        assert [each.state for each in old] == ["PENDING", "SUCCESS", "PENDING", "PENDING"]
        call_command("djtasks", "resume", "--all", "--json", stdout=said)
        assert json.loads(said.getvalue().splitlines()[-1]) == {"resumed": ["celery", "for later", "never declared"]}
        assert [each.get(timeout=20) for each in old] == [0, 1, 2, 3]
