"""What a program does to run on its own: a pid file, another user, another folder, no terminal."""

import argparse
import errno
import fcntl
import os
import stat
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db import connections

from djtasks.exceptions import ImproperlyConfigured

try:
    import grp
    import pwd
except ImportError:  # pragma: no cover -- not POSIX
    grp = pwd = None  # type: ignore[assignment]

_ATTEMPTS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Celery's options of a program that runs in the background."""
    add = parser.add_argument
    add("--pidfile", metavar="FILE", help="write the process's number there, and refuse to run twice with it")
    add("-D", "--detach", action="store_true", help="go on in the background, without a terminal")
    add("--uid", metavar="USER", help="become this user, by name or number")
    add("--gid", metavar="GROUP", help="become this group, by name or number")
    add("--umask", metavar="OCTAL", help="the permissions that new files do not have, as 022")
    add("--workdir", metavar="FOLDER", help="run there; relative paths of other options are read from there")


def settle(given: Mapping[str, Any]) -> None:
    """Go to the folder, take on the umask, and become the user that the options name. Raises ImproperlyConfigured."""
    if folder := given.get("workdir"):
        try:
            os.chdir(folder)
        except OSError as error:
            raise ImproperlyConfigured(f"--workdir {folder}: {error.strerror}") from error
    if (umask := given.get("umask")) is not None:
        try:
            mask = umask if isinstance(umask, int) else int(umask, 8)
        except ValueError:
            raise ImproperlyConfigured(f"--umask must be octal digits, as 022, not {umask!r}") from None
        if not 0 <= mask <= 0o777:
            raise ImproperlyConfigured(f"--umask must be from 000 to 777, not {umask}")
        os.umask(mask)
    _become(given.get("uid"), given.get("gid"))


def _become(uid: str | None, gid: str | None) -> None:
    if uid is None and gid is None:
        return
    if pwd is None or grp is None:  # pragma: no cover -- not POSIX
        raise ImproperlyConfigured("--uid and --gid need a system with users and groups of POSIX")
    try:
        user = None if uid is None else (pwd.getpwuid(int(uid)) if str(uid).isdigit() else pwd.getpwnam(uid))
        if gid is not None:
            group = grp.getgrgid(int(gid)).gr_gid if str(gid).isdigit() else grp.getgrnam(gid).gr_gid
        else:
            group = user.pw_gid if user is not None else os.getgid()
    except KeyError as error:
        raise ImproperlyConfigured(f"--uid, --gid: {error.args[0]}; name a user and a group that there are") from None
    try:
        if user is not None and os.geteuid() == 0:
            os.initgroups(user.pw_name, group)
        os.setgid(group)
        if user is not None:
            os.setuid(user.pw_uid)
    except PermissionError:
        raise ImproperlyConfigured(
            "--uid and --gid: only root can become another user; start it as root, or as that user"
        ) from None


# -- the pid file -------------------------------------------------------------------------------------------------


class Pidfile:
    """A file with the number of the process that runs, which holds a lock on it as long as it lives.

    The lock tells whether it runs: a number that is left over says nothing, since another process may have it by now.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._file: int | None = None

    def acquire(self) -> None:
        """Take it. Raises ImproperlyConfigured when its process lives, or when it cannot be written."""
        for _ in range(_ATTEMPTS):
            try:
                if self._try():
                    return
            except OSError as error:
                raise ImproperlyConfigured(f"--pidfile {self.path}: {error.strerror}") from error
        raise ImproperlyConfigured(f"--pidfile {self.path}: others make and remove it all the time")

    def _try(self) -> bool:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            file = os.open(self.path, flags, 0o644)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            # Somebody's link: what it leads to is never written, for it may lead anywhere.
            self._refuse_if_held()
            self.path.unlink()
            return False
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise ImproperlyConfigured(f"--pidfile {self.path} is no file; name another one")
            if not _lock(file):
                self._refuse(_number_in(file))
            if not self._is(file):
                # Its process has ended, and removed it, between the two.
                os.close(file)
                return False
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            with suppress(OSError):
                os.close(file)
            raise
        self._file = file
        return True

    def _refuse_if_held(self) -> None:
        with suppress(FileNotFoundError):
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                if not _lock(file):
                    self._refuse(_number_in(file))
            finally:
                os.close(file)

    def _refuse(self, number: str) -> None:
        raise ImproperlyConfigured(
            f"the pid file {self.path} is held by a process that runs already (pid {number}); end that one first, or"
            " name another file"
        )

    def _is(self, file: int) -> bool:
        """Whether that open file is still the one of our path."""
        try:
            there, own = os.lstat(self.path), os.fstat(file)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)

    def release(self) -> None:
        """Remove it, if it is ours."""
        if self._file is None:
            return
        with suppress(OSError):
            if self._is(self._file):
                self.path.unlink()
        os.close(self._file)
        self._file = None


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _number_in(file: int) -> str:
    return os.pread(file, 32, 0).decode("ascii", "replace").strip() or "?"


def is_held(path: str | os.PathLike[str]) -> bool:
    """Whether a process lives that holds this pid file. Raises OSError where it cannot be read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return not _lock(file)
    finally:
        os.close(file)


def number_in(path: str | os.PathLike[str]) -> int:
    """The number that stands in a pid file; 0 for none. Raises OSError where it cannot be read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        return 0
    try:
        text = _number_in(file)
    finally:
        os.close(file)
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 2**31 else 0


# -- in the background --------------------------------------------------------------------------------------------


class Birth:
    """The end of a pipe on which a process in the background tells the one that made it how its start went."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def done(self) -> None:
        """It runs."""
        self._tell(b"")

    def failed(self, text: str) -> None:
        """It does not, for this reason."""
        self._tell(text.encode() or b"?")

    def _tell(self, text: bytes) -> None:
        if self._pipe >= 0:
            with suppress(OSError):
                os.write(self._pipe, b"." if not text else b"!" + text[:4000])
            os.close(self._pipe)
            self._pipe = -1


def detach(leave: Callable[[int], Any] = os._exit) -> Birth:
    """Go on in a new process, in a session of its own; returns there.

    The process that was started waits until that one says how its start went, and ends. Raises ImproperlyConfigured
    when there are threads, which would be lost.
    """
    if others := [each.name for each in threading.enumerate() if each is not threading.main_thread()]:
        raise ImproperlyConfigured(f"--detach: threads run already: {', '.join(others)}; start them later")
    connections.close_all()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    heard, told = os.pipe()
    if child := os.fork():
        os.close(told)
        os.waitpid(child, 0)
        leave(_wait(heard))
    os.close(heard)
    os.setsid()
    if os.fork():
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    if nothing > 2:
        os.close(nothing)
    return Birth(told)


def _wait(heard: int) -> int:
    """How the start went, as an exit code; a failure is said."""
    # In one piece; and the other end may stay open, in what that process has forked meanwhile.
    said = os.read(heard, 4096)
    if said == b".":
        return 0
    text = said[1:].decode("utf-8", "replace") or "it ended while it started; its log says why"
    sys.stderr.write(f"CommandError: {text}\n")
    sys.stderr.flush()
    return 1
