"""A Redis server of one's own: a free port on loopback, an empty folder, nothing kept on disk."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import Process, Processes
from benchmarks.timing import BenchmarkError, Deadline
from tests.servers import free_port

MISSING = "redis-server is not installed; on Debian and Ubuntu `apt-get install redis-server` brings it"
#: The numbers of the databases for the broker and for the results: apart, so that results can be counted by size.
BROKER, BACKEND = 0, 1


def find_redis(path: str | None = None) -> Path:
    """The program, on `path` (default: PATH). Raises BenchmarkError with what to install."""
    if found := shutil.which("redis-server", path=path):
        return Path(found)
    raise BenchmarkError(MISSING)


def redis_version(program: Path) -> str:
    """What the server calls its version."""
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    return next((word.removeprefix("v=") for word in said.split() if word.startswith("v=")), said.strip())


class Redis:
    """A running server, and the little of its protocol that counting needs."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.port = port

    def url(self, database: int) -> str:
        """The address of one of its databases."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def answers(self) -> bool:
        """Whether it is ready."""
        try:
            return self._tell("PING") == "+PONG"
        except OSError:
            return False

    def empty(self) -> None:
        """Remove everything."""
        self._tell("FLUSHALL")

    def results(self) -> int:
        """How many results are stored."""
        return int(self._tell(f"SELECT {BACKEND}", "DBSIZE").removeprefix(":"))

    def messages(self) -> int:
        """How many tasks wait in the queue, beside those that workers have fetched."""
        return int(self._tell(f"SELECT {BROKER}", "LLEN celery").removeprefix(":"))

    def hide_queue(self) -> None:
        """Put the queue where no worker looks."""
        self._tell(f"SELECT {BROKER}", "RENAME celery hidden")

    def show_queue(self) -> None:
        """Put it back; workers that wait for messages wake up."""
        self._tell(f"SELECT {BROKER}", "RENAME hidden celery")

    def _tell(self, *commands: str) -> str:
        """Send commands, one after the other; the last answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as conn, conn.makefile("rb") as lines:
            answer = ""
            for command in commands:
                conn.sendall(f"{command}\r\n".encode())
                answer = lines.readline().decode().strip()
                if answer.startswith("-"):
                    raise BenchmarkError(f"Redis refuses {command}: {answer}")
            return answer


@contextmanager
def running_redis(processes: Processes, deadline: Deadline) -> Iterator[Redis]:
    """A server that runs for as long as the block."""
    folder = processes.folder / "redis"
    folder.mkdir(exist_ok=True)
    port = free_port()
    place = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--daemonize", "no"]
    command: list[str | Path] = [find_redis(), *place, "--save", "", "--appendonly", "no"]
    with processes.running("redis-server", command) as process:
        redis = Redis(process, port)
        deadline.wait_for(redis.answers, process)
        yield redis
