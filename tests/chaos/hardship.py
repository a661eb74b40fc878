"""The scenarios of bad days: a full disk, an end while the database is away, an upgrade while tasks run."""

import contextlib
import functools
import os
import pkgutil
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from psycopg import sql

from djtasks import migrations
from djtasks.worker.shutdown import DATABASE_END
from testproject.postgres.shared import CHECKOUT
from tests.chaos.pools import PREFORK
from tests.chaos.scenario import Scenario
from tests.chaos.site import Ground
from tests.chaos.tables import WAITING
from tests.waits import wait_until
from tests.worker.running import RunningWorker, migrate

MOUNT, UNMOUNT, GIT = (shutil.which(name) or f"/usr/bin/{name}" for name in ("mount", "umount", "git"))
#: The size of the file system, in bytes.
DISK = 96 << 20
#: What PostgreSQL says then, in the log of a worker or of the producer.
FULL = "No space left on device"
#: How many tasks wait when it is filled.
PLENTY = 500
#: How much longer than it gives a lost database a worker may take to end, in seconds.
MARGIN = 15.0
NAMES = sorted(module.name for module in pkgutil.iter_modules(migrations.__path__) if module.name[0].isdigit())
#: What a later release may do to every one of the tables.
LATER = "ALTER TABLE {} ADD later text, ADD later_too boolean NOT NULL DEFAULT false"
TABLES = "SELECT tablename FROM pg_tables WHERE tablename LIKE 'djtasks\\_%'"


@functools.cache
def may_mount() -> bool:
    """Whether this process may mount a file system."""
    if not Path(MOUNT).exists():
        return False
    with tempfile.TemporaryDirectory(prefix="djtasks-disk-") as folder:
        done = subprocess.run([MOUNT, "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
        if done.returncode == 0:
            subprocess.run([UNMOUNT, folder], check=True)
        return done.returncode == 0


@contextmanager
def small_disk(owner: int) -> Iterator[Path]:
    """A file system in memory that is soon full, and belongs to this user."""
    folder = Path(tempfile.mkdtemp(prefix="djtasks-disk-"))
    try:
        subprocess.run([MOUNT, "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder], check=True)
        try:
            place = folder / "tables"
            place.mkdir(mode=0o700)
            os.chown(place, owner, -1)
            yield place
        finally:
            subprocess.run([UNMOUNT, "--lazy", folder], check=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fill(path: Path) -> None:
    """Take all the room that the file system has left."""
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)


def disk_full(ground: Ground) -> None:
    """The disk of the tables is full for a while, so that no table or index can grow; then it has room again."""
    with small_disk(ground.server.cluster.data.stat().st_uid) as place:
        _move_tables(ground, place)
        try:
            _fill_and_free(ground, place.parent / "ballast")
        finally:
            ground.witness.stop()
            _move_back(ground)


def _fill_and_free(ground: Ground, ballast: Path) -> None:
    workers = ground.begin()
    # There is something to end, and to store, when there is no room.
    ground.order("rush")
    wait_until(lambda: ground.tables.number(WAITING) > PLENTY, "there is much to do")
    began = time.monotonic()
    try:
        fill(ballast)
        wait_until(lambda: any(FULL in worker.log for worker in workers), "a worker met the full disk", 30.0)
        for _ in ground.every(0.5, max(1.0, ground.timing.full - (time.monotonic() - began))):
            # What a vacuum gives back is taken at once.
            fill(ballast)
    finally:
        lasted = time.monotonic() - began
        ballast.unlink()
        ground.fault("room again")
        ground.settle()
    said = sum(text.count(FULL) for name, text in ground.logs() if name != "producer")
    ground.notes.append(f"the disk was full for {lasted:.0f} s; the workers met that {said} times")


def _move_tables(ground: Ground, place: Path) -> None:
    with ground.tables.connect() as conn:
        conn.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(sql.Literal(str(place))))
        for what in ("TABLE", "INDEX"):
            conn.execute(f"ALTER {what} ALL IN TABLESPACE pg_default SET TABLESPACE small")


def _move_back(ground: Ground) -> None:
    """Everything is over: the tables are read where they do not vanish."""
    with ground.tables.connect() as conn:
        for what in ("TABLE", "INDEX"):
            conn.execute(f"ALTER {what} ALL IN TABLESPACE small SET TABLESPACE pg_default")
        conn.execute("DROP TABLESPACE small")


def ended_while_away(ground: Ground) -> None:
    """The server is away, and the workers are told to end: they do, in time, and what they held goes on later."""
    workers = ground.begin()
    ground.catch(workers[0])
    ground.server.stop("immediate")
    began = time.monotonic()
    for worker in workers:
        worker.signal(signal.SIGTERM)
    gives_up = ground.timing.away > DATABASE_END
    if gives_up:
        for worker in workers:
            code = worker.wait(max(0.0, began + DATABASE_END + MARGIN - time.monotonic()))
            assert code == 1, f"{worker.name} ended with the exit code {code}"
            ground.codes[worker.name] = 1
        ended = time.monotonic() - began
    else:
        time.sleep(ground.timing.away)
    ground.server.start()
    if gives_up:
        for worker in workers:
            ground.fault("worker ended without a database", ground.held(worker), ground.kind.slots)
    else:
        ground.fault("server back")
        for worker in workers:
            code = worker.wait(MARGIN)
            assert code == 0, f"{worker.name} ended with the exit code {code}"
        ended = time.monotonic() - began
    how = "and given up the database" if gives_up else "with all they had to say"
    ground.notes.append(f"the workers had ended {ended:.1f} s after TERM, {how}")
    for worker in [ground.launch() for _ in workers]:
        ground.registered(worker)


def release_before(folder: Path) -> Path | None:
    """The sources as they were before the last migration came, if the history is there."""
    path = f"djtasks/migrations/{NAMES[-1]}.py"
    added = _git("log", "--diff-filter=A", "--format=%H", "--", path).split()
    found = _git("archive", f"{added[-1].decode()}~") if added else b""
    if not found:
        return None
    with tarfile.open(fileobj=BytesIO(found)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def _git(*arguments: str) -> bytes:
    try:
        return subprocess.run([GIT, *arguments], cwd=CHECKOUT, capture_output=True).stdout
    except OSError:
        return b""


def upgraded(ground: Ground) -> None:
    """Workers and the site are of the release before; the tables are migrated; workers are replaced one by one."""
    tree = release_before(ground.folder / "before")
    if tree is None:
        workers = ground.begin()
        ground.notes.append("no history: a later release's migration was played, with this release's workers")
    else:
        migrate(ground.url, "djtasks", NAMES[-2])
        kind = ground.kind if f'"{ground.kind.name}"' in _registry(tree) else PREFORK
        workers = ground.begin(tree=tree, kind=kind)
        time.sleep(1.0)
        migrate(ground.url, "djtasks")
        ground.fault("migrated")
        ground.notes.append(f"{NAMES[-2]} to {NAMES[-1]}, under workers of the release before (pool {kind.name})")
        time.sleep(1.0)
    _replace(ground, workers)
    _migrate_later(ground)
    for _ in ground.every(0.5, ground.timing.seconds / 2):
        ground.order("rush")
    for worker in workers:
        assert worker.process.poll() is None, worker.log


def _registry(tree: Path) -> str:
    path = tree / "djtasks" / "worker" / "pools" / "registry.py"
    return path.read_text() if path.exists() else ""


def _replace(ground: Ground, workers: list[RunningWorker]) -> None:
    """Old ones by new ones, one by one."""
    for old in list(workers):
        workers.append(ground.launch())
        ground.registered(workers[-1])
        workers.remove(old)
        code = old.stop()
        assert code == 0, f"a worker ended with the exit code {code}"
        ground.fault("worker replaced")


def _migrate_later(ground: Ground) -> None:
    with ground.tables.connect() as conn:
        for (table,) in ground.tables.ask(TABLES):
            conn.execute(sql.SQL(LATER).format(sql.Identifier(table)))
        conn.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('djtasks', '9999_later', now())")
    ground.fault("migrated by a later release")


HARDSHIP = (
    Scenario("disk", "the disk of the tables full", disk_full),
    Scenario("term", "TERM while the server is away", ended_while_away),
    Scenario("upgrade", "a rolling upgrade from the release before", upgraded, essential=False),
)
