"""What processes cost: CPU seconds and memory, of whole process trees."""

import contextlib
import time
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import psutil


def tree(pid: int) -> list[psutil.Process]:
    """A process and all its descendants; nothing if it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(*pids: int) -> float:
    """CPU seconds, in user code and the kernel, that these processes and their descendants have used so far.

    A descendant that has ended counts through its parent, which has waited for it.
    """
    total = 0.0
    for process in (each for pid in pids for each in tree(pid)):
        with contextlib.suppress(psutil.NoSuchProcess, OSError):
            # What clock_getcpuclockid(3) returns: nanoseconds, where /proc has hundredths of a second.
            own = time.clock_gettime((~process.pid << 3) | 2)
            times = process.cpu_times()
            total += own + times.children_user + times.children_system
    return total


class Weight(NamedTuple):
    """The proportional set size of one process, in bytes: a page shared by n processes counts a n-th for each."""

    pid: int
    total: int
    #: Its own and what it shares with the process it was forked from.
    anonymous: int
    #: Pages of files: programs and libraries, which processes outside of the tree may share too.
    file: int


def weigh(pids: Iterable[int]) -> list[Weight]:
    """The proportional set sizes of these processes, as the kernel reckons them. Raises OSError when one is gone."""
    found = []
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
            fields = dict(line.split(":", 1) for line in rollup if "kB" in line)
        total, anonymous, file, shared = (
            1024 * int(fields.get(name, "0 kB").split()[0]) for name in ("Pss", "Pss_Anon", "Pss_File", "Pss_Shmem")
        )
        found.append(Weight(pid, total, anonymous, file + shared))
    return found


def files_alone(pids: Iterable[int]) -> int:
    """The bytes of files that these processes have in memory, each page counted once, whoever else has it, too.

    The proportional set size falls with every process of another tree that runs the same interpreter. This is what
    the tree would have to itself: of each mapping, as much as the process has that has most of it.
    """
    most: Counter[tuple[str, str]] = Counter()
    for pid in pids:
        found: Counter[tuple[str, str]] = Counter()
        place = None
        with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as mappings:
            for line in mappings:
                name, *fields = line.split()
                if not name.endswith(":"):
                    # range, permissions, offset, device, inode, path
                    place = (" ".join(fields[4:]), fields[1]) if fields[3] != "0" else None
                elif place and name in ("Rss:", "Anonymous:"):
                    found[place] += (1024 if name == "Rss:" else -1024) * int(fields[0])
        most |= found
    return most.total()
