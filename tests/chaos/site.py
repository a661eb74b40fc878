"""The site of the chaos runs: one PostgreSQL, a database for each scenario, a producer and workers at their posts."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import psycopg
from psycopg import sql

from testproject.postgres.shared import CHECKOUT
from tests.chaos.audit import Fault, Ledger, Verdict, read_runs
from tests.chaos.pools import PREFORK, Kind
from tests.chaos.proxy import Proxy
from tests.chaos.tables import ACTIVE, HELD, HELD_SLOW, REGISTERED, SESSIONS, TRACES, Tables, Witness
from tests.servers import Server
from tests.waits import wait_until
from tests.worker.running import RunningWorker, Workers, migrate

CHILDREN = 2
#: How long the producer may take over its last call, in seconds.
PATIENCE = 120.0
APP = "tests.chaos"


class Timing(NamedTuple):
    """How long things take, in seconds."""

    #: How long something is broken over and over.
    seconds: float
    heartbeat: float
    #: After so long a worker that says nothing counts as dead.
    dead_after: float
    #: Between one killed child, one killed worker, one crash of the server, and the next.
    child_every: float
    worker_every: float
    crash_every: float
    rolling_restarts: int
    #: How often a worker is cut off.
    cuts: int
    #: Calls a second.
    rate: float
    #: How long the rest may take once nothing is broken any more.
    drain: float = 60.0
    #: How long a disk is full, and the server away while workers are told to end.
    full: float = 30.0
    away: float = 33.0
    #: How many workers are started at once.
    many: int = 30

    @property
    def settings(self) -> dict[str, Any]:
        """The DJTASKS settings of all processes."""
        return {"WORKER_HEARTBEAT_INTERVAL": self.heartbeat, "WORKER_DEAD_AFTER": self.dead_after}


class Site:
    """A server, and a database with the tables, to copy or to use."""

    TEMPLATE = "chaos"

    def __init__(self, server: Server, folder: Path, *, traces: bool = True) -> None:
        self.server = server
        self.folder = folder
        self.tables = Tables(server.url)
        self._create(self.TEMPLATE)
        self.url = server.url_of(self.TEMPLATE)
        migrate(self.url)
        if traces:
            with psycopg.connect(self.url, autocommit=True) as conn:
                conn.execute(TRACES)

    def _create(self, name: str, template: str = "template0") -> None:
        with psycopg.connect(self.server.url, autocommit=True) as conn:
            conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            conn.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            )

    @property
    def version(self) -> str:
        """The server's version."""
        return str(self.tables.ask("SELECT current_setting('server_version')")[0][0]).split()[0]

    @contextmanager
    def ground(self, name: str, timing: Timing, kind: Kind = PREFORK) -> Iterator["Ground"]:
        """A database of its own, with a producer and workers that end with the block."""
        if not self.server.running():
            self.server.start()
        self._create(name, self.TEMPLATE)
        folder = self.folder / name
        folder.mkdir()
        ground = Ground(self.server, name, folder, timing, kind)
        try:
            yield ground
        finally:
            ground.close()


@contextmanager
def site(choice: str, *, traces: bool = True, **tuning: str) -> Iterator[Site]:
    """A server of one's own; all of it is removed in the end. With `traces`, its tables note what happens to them."""
    server = Server(choice, tuning)
    try:
        with tempfile.TemporaryDirectory(prefix="djtasks-chaos-") as folder:
            found = Site(server, Path(folder), traces=traces)
            yield found
            found.tables.close()
    finally:
        server.remove()


class Ground:
    """Where one scenario takes place."""

    def __init__(self, server: Server, database: str, folder: Path, timing: Timing, kind: Kind) -> None:
        self.server = server
        self.database = database
        self.url = server.url_of(database)
        self.folder = folder
        self.timing = timing
        self.kind = kind
        #: What a scenario has to say besides the table's figures.
        self.notes: list[str] = []
        #: Exit codes of workers that cannot end well, by name.
        self.codes: dict[str, int] = {}
        self.tables = Tables(self.url)
        self.workers = Workers(folder, self.url)
        self.faults: list[Fault] = []
        self.witness = Witness(self.tables)
        self.witness.start()
        self.proxies: list[Proxy] = []
        self._producer: subprocess.Popen[bytes] | None = None

    # -- processes ------------------------------------------------------------------------------------------------

    def proxy(self) -> Proxy:
        """A proxy before the server."""
        self.proxies.append(Proxy(self.server.port))
        return self.proxies[-1]

    def url_through(self, proxy: Proxy | None) -> str:
        """The database's address behind a proxy."""
        return self.url if proxy is None else self.url.replace(f":{self.server.port}/", f":{proxy.port}/")

    def begin(
        self,
        through: Sequence[Proxy | None] = (None, None),
        *options: str,
        producer: Proxy | None = None,
        hold: bool = False,
        rate: float | None = None,
        tree: Path = CHECKOUT,
        kind: Kind | None = None,
    ) -> list[RunningWorker]:
        """Start workers, each behind its proxy if it has one, and a producer; wait until all of them are at work.

        With these `options` more, at another `rate`, of another source `tree`, with another pool, if any is given.
        """
        self._producer = self._produce(producer, hold, rate or self.timing.rate, tree)
        workers = [self.launch(proxy, *options, tree=tree, kind=kind) for proxy in through]
        for worker in workers:
            self.registered(worker, kind=kind)
        wait_until(lambda: self._accepted() > 5, "calls are accepted", PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while not self._at_work(workers):
            assert time.monotonic() < deadline, "a worker has run nothing"
            # One of them may have time enough for all.
            self.order("rush")
            with contextlib.suppress(AssertionError):
                wait_until(lambda: self._at_work(workers), "all workers run tasks", 2.0)
        return workers

    def _at_work(self, workers: Sequence[RunningWorker]) -> bool:
        """Whether each of them has run a task."""
        for worker in workers:
            assert worker.process.poll() is None, worker.log
        path = self.workers.audit.path
        told = path.read_text() if path.exists() else ""
        return all(f" {worker.name}@here " in told for worker in workers)

    def launch(
        self, proxy: Proxy | None = None, *options: str, tree: Path = CHECKOUT, kind: Kind | None = None
    ) -> RunningWorker:
        """Start a worker."""
        kind = kind or self.kind
        coroutines = {"CHAOS_COROUTINES": "1"} if kind.name == "asyncio" else {}
        return self.workers.launch(
            *kind.options,
            "-q",
            *options,
            apps=APP,
            environment={"DATABASE_URL": self.url_through(proxy), **coroutines},
            cwd=tree,
            **self.timing.settings,
        )

    def registered(self, worker: RunningWorker, seconds: float = PATIENCE, kind: Kind | None = None) -> None:
        """Wait until the worker has its row, and its children."""
        kind = kind or self.kind
        wait_until(
            lambda: worker.process.poll() is not None or self.tables.number(REGISTERED, worker.pid),
            f"{worker.name} has its row",
            seconds,
        )
        assert worker.process.poll() is None, worker.log
        if kind.children:
            worker.children(kind.children)

    def _produce(self, proxy: Proxy | None, hold: bool, rate: float, tree: Path) -> subprocess.Popen[bytes]:
        options = ["--rate", str(rate), *(["--hold"] if hold else [])]
        environment = {
            "DATABASE_URL": self.url_through(proxy),
            "DJANGO_SETTINGS_MODULE": "testproject.settings",
            "EXTRA_APPS": APP,
            "DJTASKS": json.dumps(self.timing.settings),
        }
        with (self.folder / "producer.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.producer", self.ledger, *options],
                cwd=tree,
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _accepted(self) -> int:
        """How many calls have been accepted so far."""
        return self.ledger.read_text().count("accepted") if self.ledger.exists() else 0

    @property
    def ledger(self) -> Path:
        """The producer's file."""
        return self.folder / "ledger"

    # -- faults ---------------------------------------------------------------------------------------------------

    def fault(self, what: str, doubt: int = 0, children: int = 0, at: float | None = None) -> None:
        """Note what has been broken."""
        self.faults.append(Fault(what, time.time() if at is None else at, doubt, children))

    def every(self, seconds: float, total: float | None = None) -> Iterator[int]:
        """Count up, one every so many seconds, for the scenario's time."""
        began = time.monotonic()
        total = self.timing.seconds if total is None else total
        number = 0
        while (number + 1) * seconds <= total + 0.001:
            number += 1
            time.sleep(max(0.0, began + number * seconds - time.monotonic()))
            yield number

    def order(self, what: str) -> None:
        """Let the producer make other calls than usual: see its `obey`."""
        assert self._producer is not None
        assert self._producer.stdin is not None
        self._producer.stdin.write(f"{what}\n".encode())
        self._producer.stdin.flush()

    def catch(self, worker: RunningWorker, wanted: int = 20, seconds: float = 3.0) -> None:
        """Let many calls come at once, and wait for a moment in which the worker has its hands full of them."""
        self.order("rush")
        with contextlib.suppress(AssertionError):
            wait_until(lambda: self.tables.number(HELD, worker.pid) >= wanted, f"{worker.name} is busy", seconds)

    def occupy(self, worker: RunningWorker, seconds: float) -> None:
        """The same, at a moment in which it also runs a task that takes so long."""

        def slow() -> bool:
            return bool(self.tables.number(HELD_SLOW, worker.pid))

        def occupied() -> bool:
            self.order(f"slow {seconds}")
            with contextlib.suppress(AssertionError):
                wait_until(slow, "a slow task", 1.0)
                self.catch(worker, seconds=seconds / 3)
            return slow()

        wait_until(occupied, f"{worker.name} runs a slow task")

    def freeze(self, worker: RunningWorker, processes: list[psutil.Process] | None = None) -> int:
        """Stop the worker's processes where they stand; returns how many messages it holds then."""
        send(signal.SIGSTOP, worker.tree() if processes is None else processes)
        if processes is None:
            # One that was being forked.
            send(signal.SIGSTOP, worker.tree())
        return self.held(worker)

    def held(self, worker: RunningWorker) -> int:
        """How many messages are in a worker's hands, once the server has carried out what it was asked before."""
        sessions = f"djtasks % {worker.name}@%"
        try:
            wait_until(lambda: not self.tables.number(ACTIVE, sessions), f"the sessions of {worker.name} are quiet")
        except AssertionError as error:
            found = "\n".join(map(str, self.tables.ask(SESSIONS)))
            raise AssertionError(f"{error}\n{found}") from error
        return self.tables.number(HELD, worker.pid)

    def kill(self, worker: RunningWorker) -> None:
        """Kill a worker with all of its processes, at once, when it has its hands full."""
        self.catch(worker)
        processes = worker.tree()
        doubt = self.freeze(worker)
        processes = list({*processes, *worker.tree()})
        self.fault("worker killed", doubt, CHILDREN)
        send(signal.SIGKILL, processes)
        worker.process.wait()

    # -- the end --------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Stop the producer and wait until all has ended, or does not any more."""
        if self._producer is not None:
            self._producer.terminate()
            code = self._producer.wait(PATIENCE)
            assert code == 0, (self.folder / "producer.log").read_text()
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self.tables.left(), "all has ended", self.timing.drain)

    def verdict(self) -> Verdict:
        """How it all fits together."""
        self.witness.stop()
        runs = read_runs(self.workers.audit.path)
        return Verdict(Ledger(self.ledger), runs, self.tables.stored(self.witness.seen), self.faults)

    def logs(self) -> Iterator[tuple[str, str]]:
        """Name and text of every log."""
        for path in sorted(self.folder.glob("*.log")):
            yield path.stem, path.read_text(errors="replace")

    def refused(self) -> int:
        """How many outcomes the fences have kept out."""
        return sum(text.count("was refused: its message") for _, text in self.logs()) + sum(
            int(line.rpartition("own, ")[2].split()[0])
            for _, text in self.logs()
            for line in text.splitlines()
            if "had been declared dead:" in line
        )

    def close(self) -> None:
        """End all processes."""
        if self._producer is not None and self._producer.poll() is None:
            self._producer.kill()
            self._producer.wait()
        self.workers.close()
        for proxy in self.proxies:
            proxy.close()
        if self.witness.is_alive():
            self.witness.stop()
        self.tables.close()


def send(number: int, processes: list[psutil.Process]) -> None:
    """Signal all of them; who is gone is gone."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
