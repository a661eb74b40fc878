"""What the tests of commands share: a Redis server of their own, and Celery as it puts messages there."""

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from io import StringIO

import pytest
import redis
from celery import Celery
from django.core.management import call_command

from tests.servers import free_port
from tests.waits import wait_until


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The address of a Redis on loopback that keeps nothing."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("!!! redis-server IS NOT INSTALLED: nothing of import_celery_queue is tested !!!")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="djtasks-redis-") as folder:
        options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder)
        process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: _answers(port), "Redis answers")
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait(timeout=10)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def client(redis_url: str) -> Iterator["redis.Redis"]:
    """A client of an empty Redis."""
    found = redis.Redis.from_url(redis_url)
    found.flushall()
    yield found
    found.close()


@pytest.fixture
def celery(redis_url: str, client: "redis.Redis") -> Iterator[Celery]:
    """A real Celery app that sends to it."""
    app = Celery("theirs", broker=redis_url, set_as_current=False)
    app.conf.broker_connection_retry_on_startup = True
    yield app
    app.close()


@pytest.fixture
def djtasks_command() -> Callable[..., tuple[int, str]]:
    """`djtasks_command("import_celery_queue", "--url", url)`: the exit code, and what it said."""

    def run(*args: str) -> tuple[int, str]:
        said = StringIO()
        try:
            call_command("djtasks", *args, stdout=said)
        except SystemExit as error:
            return int(error.code or 0), said.getvalue()
        return 0, said.getvalue()

    return run
