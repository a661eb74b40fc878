"""The PostgreSQL servers that the tests run on: which there are, and instances of them in temporary folders.

`python -m tests.servers` prints those that the installed Django takes, one a line, as DJTASKS_TEST_SERVER wants them.
"""

import os
import random
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import django

from testproject.postgres.cluster import TUNING, Cluster, Mode, embedded, postmaster, version_of
from testproject.postgres.shared import DATA, SharedServer
from tests.waits import wait_until

#: Debian's folders, and those of PostgreSQL's own packages on other systems.
PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")


def found() -> list[str]:
    """All servers of this machine: "embedded", and folders of programs from the newest version down."""
    folders = [path.parent for place in PLACES for path in Path("/").glob(place.lstrip("/") + "/initdb")]
    return ["embedded", *(str(folder) for folder in sorted(folders, key=major_of, reverse=True))]


def binaries_of(choice: str) -> Path:
    """The folder of a server's programs: "embedded" or the folder itself."""
    return embedded() if choice == "embedded" else Path(choice)


def major_of(binaries: Path) -> int:
    """The major version of a server."""
    return int(version_of(binaries).split()[1].split(".")[0].rstrip("abcdefghijklmnopqrstuvwxyz"))


def oldest_taken() -> int:
    """The oldest PostgreSQL that the installed Django works with."""
    return 15 if django.VERSION >= (6, 1) else 14


def chosen() -> str:
    """The server that the tests are to run on."""
    return os.environ.get("DJTASKS_TEST_SERVER") or "embedded"


class Server:
    """A running PostgreSQL of one's own: a Unix socket and a port on loopback, a password, a temporary folder.

    It is stopped when its process ends, even if that is killed.
    """

    user = "postgres"
    host = "127.0.0.1"

    def __init__(self, choice: str, tuning: Mapping[str, str] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="djtasks-"))
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self.cluster = Cluster(
            binaries_of(choice),
            self.folder.resolve() / DATA,
            port=self.port,
            password=self.password,
            tuning={**TUNING, **(tuning or {})},
        )
        self._hold = SharedServer(self.folder, self.cluster)
        self._hold.ensure()

    @property
    def url(self) -> str:
        """The address of the server's own database, over TCP."""
        return self.url_of("postgres")

    @property
    def socket_folder(self) -> str:
        """The host's name for a connection over the Unix socket, at the same port."""
        return str(self.cluster.socket_folder)

    def url_of(self, database: str) -> str:
        """The address of a database, over TCP."""
        return f"postgres://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def running(self) -> bool:
        """Whether the server's process is there."""
        return self.cluster.running()

    def stop(self, mode: Mode = "fast") -> None:
        """Stop the server; "immediate" is a crash: nothing is written any more, and the next start recovers."""
        self.cluster.stop(mode)

    def kill(self) -> None:
        """End the server's main process with no chance to clean up; the next start waits for its children's end."""
        if process := postmaster(self.cluster.data):
            process.kill()
        wait_until(lambda: not self.running(), "the killed server is gone")

    def start(self) -> None:
        """Start the server again, on the same data and port."""
        self.cluster.start()

    def restart(self, mode: Mode = "fast") -> None:
        """Stop and start."""
        self.stop(mode)
        self.start()

    def remove(self) -> None:
        """Stop the server and remove all of it."""
        self.stop("immediate")
        self._hold.release()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.socket_folder, ignore_errors=True)


def free_port() -> int:
    """A port that nobody listens on, below those that outgoing connections take, so that it is still free later."""
    while True:
        port = random.randint(20_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind((Server.host, port))
            except OSError:
                continue
            return port


def main() -> None:
    """Print the servers that the installed Django takes."""
    for choice in found():
        if major_of(binaries_of(choice)) >= oldest_taken():
            print(choice)
        else:
            print(f"{choice}: too old for Django {django.__version__}", file=sys.stderr)


if __name__ == "__main__":
    main()
