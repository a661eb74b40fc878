"""A PgBouncer of one's own in transaction mode, on a port of loopback, before the server of the tests."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from testproject.postgres.cluster import SERVANTS
from tests.servers import Server, free_port
from tests.waits import wait_until

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") or ""
#: What a project's DATABASES need behind it, as a part of an address.
SETTING = "DISABLE_SERVER_SIDE_CURSORS=True"
#: Few sessions, each taken in turn: what is left in one is soon somebody else's.
CONFIGURATION = """\
[databases]
* = host={host} port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {folder}/users
pool_mode = transaction
server_round_robin = 1
default_pool_size = 6
max_client_conn = 200
logfile = {folder}/log
log_connections = 0
log_disconnections = 0
"""


class Bouncer:
    """PgBouncer before the server of an address; `url` is the same database behind it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.folder = Path(tempfile.mkdtemp(prefix="djtasks-bouncer-"))
        self.port = free_port()
        self.url = f"postgres://{parts.username}:{parts.password}@127.0.0.1:{self.port}{parts.path}?{SETTING}"
        users = self.folder / "users"
        users.write_text(f'"{parts.username}" "{parts.password}"\n')
        configuration = self.folder / "ini"
        configuration.write_text(
            CONFIGURATION.format(host=parts.hostname, server=parts.port, port=self.port, folder=self.folder)
        )
        self._command = [PROGRAM, "--quiet", str(configuration)]
        if os.geteuid() == 0:
            # It refuses to run as root.
            servant = next(name for name in SERVANTS if name in Path("/etc/passwd").read_text())
            for path in (self.folder, users, configuration):
                shutil.chown(path, servant)
            self._command += ["--user", servant]
        self.start()

    def start(self) -> None:
        """Start it; returns when it answers."""
        # Its standard error would come between the tests' own lines; its log is in its folder.
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._answers, f"PgBouncer answers; its log: {self.log}")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log
        with socket.socket() as probe:
            return probe.connect_ex((Server.host, self.port)) == 0

    @property
    def log(self) -> str:
        """All it has said."""
        log = self.folder / "log"
        return log.read_text() if log.exists() else ""

    def kill(self) -> None:
        """End it with all its sessions, with no chance to clean up."""
        self.process.kill()
        self.process.wait()

    def remove(self) -> None:
        """End it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
