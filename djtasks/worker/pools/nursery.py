"""The nursery: children that are to be started, a few at a time, and those that have not said yet that they live."""

import logging
import math
import resource
from collections.abc import Callable

from djtasks.conf import settings
from djtasks.worker.pools.handle import ChildHandle

logger = logging.getLogger("djtasks.worker")

#: So many are started at a time, and the next ones so many seconds later: more commands than that may not fit into the
#: server's socket.
FORKS, BETWEEN_FORKS = 64, 0.02
#: The open files of a worker itself, and those that it has for each child.
FILES, FILES_A_CHILD = 64, 3


def allow_files(children: int) -> None:
    """Let this process open the files that so many children need. Raises ValueError where the system refuses."""
    files = FILES + FILES_A_CHILD * children
    may, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if may == resource.RLIM_INFINITY or may >= files:
        return
    if most != resource.RLIM_INFINITY and most < files:
        raise ValueError(
            f"{children} children need {files} open files, and the worker may have {most}; raise `ulimit -n`"
            " (LimitNOFILE in systemd)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))


class Nursery:
    """Starts children when it is time for them, and does not wait forever for one."""

    def __init__(self, spawn: Callable[[], ChildHandle], read: Callable[[ChildHandle], None]) -> None:
        self.spawn = spawn
        self.read = read
        #: When those that lack are to be started, in monotonic seconds.
        self.due: list[float] = []
        #: Those that have not said that they are there.
        self.unborn: set[ChildHandle] = set()

    def tend(self, now: float) -> float:
        """Start those that it is time for; kill those that do not come. When to look again."""
        for due in [due for due in self.due if due <= now][:FORKS]:
            self.due.remove(due)
            self.unborn.add(self.spawn())
        wanted = max(now + BETWEEN_FORKS, min(self.due, default=math.inf))
        if self.unborn:
            late = settings.WORKER_PROC_ALIVE_TIMEOUT
            wanted = min(wanted, now + late, *[self._wait_for(child, now, late) for child in list(self.unborn)])
        return wanted

    def _wait_for(self, child: ChildHandle, now: float, late: float) -> float:
        if child.spawned is None:
            # The server has not come to it yet.
            return math.inf
        if now < child.spawned + late:
            return child.spawned + late
        # It may have said so while we were stopped.
        self.read(child)
        if child in self.unborn:
            self.unborn.remove(child)
            logger.error(
                "Child process pid:%d was not ready within %g seconds (WORKER_PROC_ALIVE_TIMEOUT): it is replaced",
                child.pid,
                late,
            )
            # Unless it takes its first job in this very moment.
            child.server.tell("strike", child.slot, child.pid, 0)
        return math.inf
