"""Who a worker is, and how another one on the same machine can prove that it is dead.

A pid alone proves nothing: it may belong to another boot, another container, or by now another process. So a worker
also says which boot and which pid namespace its pid is of, and when the kernel says that process started.
"""

import os
import pathlib
import random
import re
import socket

from djtasks.db.workers import Peer

_PROC = pathlib.Path("/proc")
_SIGN = re.compile("%(.)")


def new_incarnation() -> int:
    """A random 63-bit number, never 0: no two starts of any worker share one."""
    return random.SystemRandom().getrandbits(63) | 1


def node_name(hostname: str | None) -> str:
    """The node's name from `--hostname`: `%h` is the host's name, `%n` its first part, `%d` the rest.

    A name without `@` is the part after it: the node is then `celery@name`, as Celery has it.
    """
    host = socket.gethostname()
    name, _, domain = host.partition(".")
    text = hostname or "celery@%h"
    for sign, value in (("%h", host), ("%n", name), ("%d", domain), ("%%", "%")):
        text = text.replace(sign, value)
    return text if "@" in text else f"celery@{text}"


def file_name(pattern: str, node: str) -> str:
    """The name of a node's file: `%n` is the node's name before the `@`, `%h` its host, `%d` the host's domain, `%p`
    the whole. What tells its processes apart is left to `indexed`.
    """
    name, _, host = node.partition("@")
    values = {"n": name, "h": host, "d": host.partition(".")[2], "p": node}
    return _SIGN.sub(lambda found: values.get(found[1], found[0]), pattern)


def indexed(pattern: str, index: int) -> str:
    """The name of a process's file: `%i` is the index of a child, 0 for the worker itself, `%I` is `-1` or nothing."""
    values = {"i": str(index), "I": f"-{index}" if index else "", "%": "%"}
    return _SIGN.sub(lambda found: values.get(found[1], found[0]), pattern)


def boot_id() -> str:
    """Which boot of which machine this is; empty where the kernel does not say."""
    return _read(_PROC / "sys/kernel/random/boot_id").strip()


def pid_namespace() -> str:
    """Which pid namespace (container) this is; empty where the kernel does not say."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def process_start(pid: int) -> str:
    """When the process started, in the kernel's own clock; empty when there is none, or it is a zombie."""
    state, start = _stat(pid)
    return "" if state in "ZX" else start


def _stat(pid: int) -> tuple[str, str]:
    """State and start time. The command's name before them may hold spaces and parentheses."""
    fields = _read(_PROC / str(pid) / "stat").rpartition(")")[2].split()
    return (fields[0], fields[19]) if len(fields) > 19 else ("X", "")


def _read(path: pathlib.Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def group_is_empty(process_group: int | None) -> bool:
    """Whether no living process is left in the group; zombies do not count."""
    if not process_group:
        return True
    try:
        os.killpg(process_group, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            fields = _read(entry / "stat").rpartition(")")[2].split()
            if len(fields) > 2 and fields[2] == str(process_group) and fields[0] not in "ZX":
                return False
    return True


class Host:
    """This machine, boot and pid namespace: what a proof of death needs."""

    def __init__(self) -> None:
        self.boot_id = boot_id()
        self.pid_namespace = pid_namespace()

    def proves_dead(self, peer: Peer) -> bool:
        """Whether the peer ran here and is certainly gone, and its children too."""
        if not self.boot_id or peer.boot_id != self.boot_id or peer.pid_namespace != self.pid_namespace:
            return False
        if not peer.pid_started or process_start(peer.pid) == peer.pid_started:
            return False
        return group_is_empty(peer.process_group)
