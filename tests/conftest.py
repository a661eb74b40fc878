"""What all tests share: a PostgreSQL of their own, and Django's settings pointed at it.

The server starts with the first test that needs a database. DATABASE_URL in the environment names one that runs
already; DJTASKS_TEST_SERVER chooses which of the machine's servers to start (see tests/servers.py).
"""

import os
import platform
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import django
import environ
import psycopg
import pytest
from django.conf import settings
from django.db import connections

from testproject.postgres.cluster import version_of
from tests.servers import Server, binaries_of, chosen

# Whoever runs the tests in the background has them ignore Ctrl-C, and all processes that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: A server that somebody else runs; read before the tests put their own in its place.
OUTSIDE = os.environ.get("DATABASE_URL", "")


def pytest_report_header() -> str:
    """Say what the suite runs on."""
    if OUTSIDE:
        with psycopg.connect(OUTSIDE) as conn:
            server = f"PostgreSQL {conn.info.parameter_status('server_version')} of DATABASE_URL"
    else:
        server = f"{version_of(binaries_of(chosen()))} ({chosen()})"
    return f"running on: {server}, Django {django.__version__}, Python {platform.python_version()}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test has logged may hold half a pair of surrogates, which does not travel to another process."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session")
def pg_server() -> Iterator[Server]:
    """The server of this run, for looking at; who wants to stop one makes one (`make_server`)."""
    if OUTSIDE:
        pytest.skip("the server of DATABASE_URL is not the tests' own")
    server = Server(chosen())
    yield server
    server.remove()


@pytest.fixture
def make_server() -> Iterator[Callable[..., Server]]:
    """Make private servers, to be stopped and crashed at will: `make_server(max_connections="10")`."""
    made: list[Server] = []

    def make(**tuning: str) -> Server:
        made.append(Server(chosen(), tuning))
        return made[-1]

    yield make
    for server in made:
        server.remove()


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """An empty folder for a server's data. `tmp_path` will not do under root: pytest closes it to the server's user."""
    with tempfile.TemporaryDirectory(prefix="djtasks-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def server_url(request: pytest.FixtureRequest) -> str:
    """The address of the server of this run, whoever started it."""
    return OUTSIDE or str(request.getfixturevalue("pg_server").url)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(server_url: str) -> None:
    """Point Django at the server: the database "default", and a second one "other" on the same server."""
    default: dict[str, Any] = environ.Env.db_url_config(server_url)
    databases = {"default": default, "other": {**default, "NAME": "other"}}
    for connection in connections.all(initialized_only=True):
        connection.close()
        del connections[connection.alias]
    settings.DATABASES = databases
    connections.settings = connections.configure_settings(databases)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, server_url: str) -> Iterator[None]:
    """Make the test databases, and let the processes that tests start find the default one."""
    with pytest.MonkeyPatch.context() as patch:
        base, _, _ = server_url.partition("?")
        patch.setenv("DATABASE_URL", f"{base.rpartition('/')[0]}/{connections['default'].settings_dict['NAME']}")
        yield


@pytest.fixture
def database_url(db: None) -> str:
    """The address of the test database, for processes and connections of the test's own."""
    return os.environ["DATABASE_URL"]
