"""Whether a node of `multi` runs, and as which process: what its pid file says, if it may be believed."""

import os
import stat
from pathlib import Path
from typing import NamedTuple

from djtasks.cli import daemon
from djtasks.cli.nodes import Node
from djtasks.worker.identity import process_start

_PROC = Path("/proc")


class Found(NamedTuple):
    """What is known of a node's process."""

    #: Its number; 0 where none runs.
    pid: int = 0
    #: When it began, as the kernel says it: a number may be given to another one.
    began: str = ""
    #: Why nothing is to be done with it.
    problem: str = ""

    def lives(self) -> bool:
        """Whether it still does."""
        if self.began:
            return process_start(self.pid) == self.began
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True


def look(node: Node) -> Found:
    """The process of a node. A file that nobody locks is left over, and a link could lead anywhere."""
    path = os.path.abspath(node.pidfile)
    try:
        about = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Found()
    except OSError as error:
        return Found(problem=f"its pid file {path} cannot be read ({error.strerror})")
    if not stat.S_ISREG(about.st_mode):
        return Found(problem=f"its pid file {path} is a link, or no file at all; remove it, and stop the node by hand")
    try:
        held, pid = daemon.is_held(path), daemon.number_in(path)
    except OSError as error:
        return Found(problem=f"its pid file {path} cannot be read ({error.strerror})")
    if not pid:
        return Found(problem=f"its pid file {path} is held, and has no number") if held else Found()
    owner = _owner(pid)
    if owner is None or (not held and not _begins_anew(pid, owner, about.st_uid, node)):
        return Found()
    if owner != about.st_uid and about.st_uid != 0:
        return Found(
            problem=f"its pid file {path} names the process {pid} of another user than the file's own; it is not"
            " signalled"
        )
    return Found(pid, process_start(pid))


def _owner(pid: int) -> int | None:
    """Whose process that is; None where there is none."""
    try:
        return os.stat(_PROC / str(pid)).st_uid
    except OSError:
        return None


def _begins_anew(pid: int, owner: int, wanted: int, node: Node) -> bool:
    """Whether it is that worker, while it replaces its own program: then it has no lock for a moment."""
    try:
        said = (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return False
    return owner == wanted and "runworker" in said and node.name in said.split()
