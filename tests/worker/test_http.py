"""The worker's HTTP page: what it says, and that nothing that is asked there does the worker any harm."""

import json
import re
import signal
import socket
import urllib.error
import urllib.request
from contextlib import closing, suppress
from pathlib import Path

import pytest
from django.db import connection, transaction
from prometheus_client.parser import text_string_to_metric_families

from djtasks.cli.worker import worker_options
from djtasks.db import samples
from djtasks.exceptions import ImproperlyConfigured
from djtasks.worker.claimer import Claimer
from djtasks.worker.clock import since_boot
from djtasks.worker.consumer import Consumer
from djtasks.worker.lanes import Lanes
from djtasks.worker.limits import Limits
from djtasks.worker.pools.solo import SoloPool
from djtasks.worker.state import State
from djtasks.worker.vitals import Vitals
from tests.worker.running import RunningWorker, Workers, ended, query, value, wait_until
from tests.worker_app import tasks

TIMEOUT = 10.0


class Page:
    """A worker that listens, and its address."""

    def __init__(self, worker: RunningWorker) -> None:
        self.worker = worker
        found = re.search(r"Answering at (http://127\.0\.0\.1:(\d+))", worker.says("Answering at"))
        assert found is not None
        self.url, self.port = found[1], int(found[2])

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        """The status and the text of an answer."""
        request = urllib.request.Request(f"{self.url}{path}", method=method)  # noqa: S310 -- our own worker
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def numbers(self) -> dict[tuple[str, ...], float]:
        """All samples: by their name and the values of their labels, the worker's left out."""
        status, text = self.get("/metrics")
        assert status == 200, text
        return {
            (sample.name, *(value for name, value in sorted(sample.labels.items()) if name != "worker")): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def raw(self, request: bytes) -> bytes:
        """What is answered to these bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT) as conn:
            found = b""
            # It may hang up before all is said.
            with suppress(OSError):
                conn.sendall(request)
                conn.shutdown(socket.SHUT_WR)
                while part := conn.recv(65536):
                    found += part
            return found


@pytest.fixture(scope="module")
def page(shared: Workers) -> Page:
    """A worker of two children that listens."""
    found = Page(shared.start("-c", "2", "--http", "0", "-Q", "celery,second", WORKER_HEARTBEAT_INTERVAL=0.5))
    # Its children are born after it is ready.
    wait_until(lambda: found.get("/healthz")[0] == 200, "it is well")
    return found


def test_a_worker_says_that_it_is_well(page: Page) -> None:
    page.worker.children(2)
    status, text = page.get("/healthz")
    found = json.loads(text)
    assert (status, found["ok"], found["problems"]) == (200, True, [])
    assert found["worker"] == f"{page.worker.name}@here"
    assert found["processes"] == 2
    assert found["heartbeat_age"] < 10
    assert page.get("/healthz/?probe=1")[0] == 200
    assert page.get("/healthz", "HEAD") == (200, "")


def test_what_a_worker_did_stands_in_its_metrics(page: Page) -> None:
    for _ in range(3):
        value(tasks.noop.delay())
    ended(tasks.fail.delay("no"))
    tasks.noop.apply_async(queue="nobody")
    tasks.noop.apply_async(queue="second", countdown=3600)

    def look() -> dict[tuple[str, ...], float] | None:
        found = page.numbers()
        return found if ("djtasks_finishes_total", "FAILURE") in found else None

    found = wait_until(look, "the failure is counted")
    assert found is not None
    noop = tasks.noop.name
    assert found["djtasks_finishes_total", "SUCCESS"] >= 3
    assert found["djtasks_finishes_total", "FAILURE"] == 1
    assert found["djtasks_claims_total",] >= 4
    for prefix in ("djtasks", "flower"):
        assert found[f"{prefix}_task_runtime_seconds_count", noop] == 3
        assert found[f"{prefix}_task_runtime_seconds_bucket", "+Inf", noop] == 3
        assert 0 < found[f"{prefix}_task_runtime_seconds_sum", noop] < 10
    assert found["djtasks_pool_slots",] == found["djtasks_pool_processes",] == 2
    assert found["djtasks_queue_messages", "celery"] == found["djtasks_queue_messages", "second"] == 0
    assert ("djtasks_queue_messages", "nobody") not in found
    assert found["djtasks_queue_oldest_seconds", "celery"] == 0
    assert found["djtasks_queue_paused", "celery"] == 0
    for name in ("refused", "released", "lost", "rescued"):
        assert found[f"djtasks_{name}_total",] == 0
    assert found["djtasks_healthy",] == found["djtasks_database_up",] == found["flower_worker_online",] == 1
    assert found["djtasks_heartbeat_age_seconds",] < 10
    assert found["djtasks_waited_seconds_total",] > 0
    assert found["djtasks_prefetched",] == found["djtasks_pool_busy",] == 0
    assert found["flower_worker_number_of_currently_executing_tasks",] == 0
    assert found["flower_worker_prefetched_tasks", noop] == 0
    assert 0 <= found["flower_task_prefetch_time_seconds", noop] < 10
    assert found["djtasks_oldest_transaction_seconds",] >= 0
    assert found["djtasks_oldest_xmin_transactions",] >= 0


def test_a_transaction_that_is_left_open_is_seen(page: Page) -> None:
    with transaction.atomic():
        query("SELECT txid_current()")
        began = query("SELECT extract(epoch FROM clock_timestamp() - now())")[0][0]
        found = wait_until(
            lambda: (seen := page.numbers()["djtasks_oldest_transaction_seconds",]) > float(began) and seen,
            "it is seen",
        )
        assert found


@pytest.mark.parametrize(
    "request_bytes",
    [b"", b"\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET /healthz\r\n", b"GET / HTTP/9.9\r\n\r\n", b"x" * 200_000],
    ids=["nothing", "empty", "tls", "http0.9", "version", "endless"],
)
def test_a_bad_request_does_the_worker_no_harm(page: Page, request_bytes: bytes) -> None:
    page.raw(request_bytes)
    assert page.get("/healthz")[0] == 200


def test_what_there_is_not_is_said_to_be_missing(page: Page) -> None:
    status, text = page.get("/../../etc/passwd")
    assert (status, "no such page" in text) == (404, True)
    assert page.get("/")[0] == 404
    assert page.get("/metrics", "POST")[0] == 501


def test_many_slow_askers_keep_nobody_from_working_or_asking(page: Page) -> None:
    slow = [socket.create_connection(("127.0.0.1", page.port), timeout=TIMEOUT) for _ in range(30)]
    try:
        for conn in slow:
            conn.sendall(b"GET /hea")
        value(tasks.noop.delay())

        def look() -> bool:
            try:
                return page.get("/healthz")[0] == 200
            except OSError:
                return False

        assert wait_until(look, "the slow ones have been hung up on")
    finally:
        for conn in slow:
            conn.close()


def test_the_worker_says_in_its_row_how_it_stands(page: Page) -> None:
    found = wait_until(
        lambda: query("SELECT state, length(state::text) FROM djtasks_worker WHERE pid = %s", page.worker.pid)[0],
        "it has beaten",
    )
    state = found[0] if isinstance(found[0], dict) else json.loads(found[0])
    assert {"running", "prefetched", "processes", "load", "rusage", "versions"} <= state.keys()
    assert state["processes"] == 2
    assert found[1] < 1000


def test_a_port_that_is_taken_is_said_before_anything_starts(page: Page, shared: Workers) -> None:
    second = shared.launch("--http", str(page.port))
    assert second.wait() == 1
    assert f"127.0.0.1:{page.port} cannot be listened at (Address already in use)" in second.log
    assert second.rows() == []
    assert second.left() == []


@pytest.mark.parametrize("pool", ["solo", "threads", "gevent"])
def test_other_pools_are_looked_at_too_and_a_worker_that_ends_says_so(
    shared: Workers, pool: str, tmp_path: Path
) -> None:
    gate = shared.gate()
    queue = f"of_{pool}"
    page = Page(shared.start("-P", pool, "-c", "1", "--http", "127.0.0.1:0", "-Q", queue))
    held = tasks.hold.apply_async([str(gate)], queue=queue)
    shared.audit.began(held)
    found = page.numbers()
    assert found["djtasks_pool_busy",] == found["flower_worker_number_of_currently_executing_tasks",] == 1
    assert found["djtasks_queue_messages", queue] == 1
    page.worker.signal(signal.SIGTERM)
    if pool != "solo":
        _, text = wait_until(lambda: (said := page.get("/healthz"))[0] == 503 and said, "it ends")
        assert "the worker takes no more tasks" in text
    gate.open()
    assert page.worker.wait() == 0
    with closing(socket.socket()) as conn:
        assert conn.connect_ex(("127.0.0.1", page.port)) != 0
    # A minute may have passed meanwhile.
    [point] = samples.series(connection, 0, 1e9, kind="worker", name=f"{page.worker.name}@here")
    sample = point.numbers
    assert (sample["SUCCESS"], sample["runs"], sample["pool"]) == (1, 1, 1)
    assert sample["runtime"] > 0


@pytest.mark.parametrize(
    "address", ["", ":8808", "localhost", "65536", "-1", "1:2:3", "::1:80", "0.0.0.0:http", "http://127.0.0.1:1"]
)
def test_an_address_that_is_none_is_refused(shared: Workers, address: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"--http must be a port of the loopback interface, or ADDRESS:PORT"):
        worker_options({"http": address})


def test_what_is_wrong_is_said_in_sentences() -> None:
    state = State(1)
    pool = SoloPool("w@here")
    consumer = Consumer(state, pool, Claimer(state, Lanes(("celery",)), lambda: None), Limits(None, None), "w@here")  # type: ignore[arg-type,return-value]
    vitals = Vitals("w@here", consumer)
    consumer.beat_at = since_boot() - 1000
    consumer.accepting = False
    heartbeat, database, shutdown = vitals.problems()
    assert heartbeat.startswith("heartbeat: the last one was written 1000 s ago")
    assert database.startswith("database: the connection is lost")
    assert shutdown.startswith("shutdown: ")
