"""Packets: how messages, outcomes and states travel between a worker and its children.

One SOCK_SEQPACKET packet carries one of them, so that a reader takes exactly one, and the worker can take back what
a child has not read. Both ends are forks of one interpreter, which is why `marshal` will do. What is too large for a
packet goes through an anonymous file whose descriptor travels with the packet.
"""

import array
import marshal
import os
import socket
import sys
import tempfile
from typing import Any

#: Well below the smallest usual socket buffer.
INLINE_MOST = 60_000
_ANCILLARY = socket.CMSG_SPACE(array.array("i").itemsize)
_INLINE, _FILE = b"i", b"f"


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends that keep the bounds of packets."""
    if not sys.platform.startswith("linux"):
        raise OSError("the prefork pool needs Linux's SOCK_SEQPACKET; use --pool threads here")
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (left, right):
        # As much as the system grants: room for a full hand-over of small packets.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    return left, right


def send(end: socket.socket, fields: tuple[Any, ...]) -> None:
    """Send one packet. Raises BlockingIOError when a non-blocking end is full."""
    data = marshal.dumps(fields)
    if len(data) <= INLINE_MOST:
        end.send(_INLINE + data)
        return
    descriptor = _anonymous_file()
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(data)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        end.sendmsg([_FILE], rights)
    finally:
        os.close(descriptor)


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("djtasks")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Reader:
    """Reads packets from one end, into one buffer."""

    def __init__(self, end: socket.socket, flags: int = 0) -> None:
        self.end = end
        #: MSG_DONTWAIT for an end whose other copy blocks: O_NONBLOCK would be shared with it.
        self.flags = flags
        self._buffer = bytearray(INLINE_MOST + 1)
        self._view = memoryview(self._buffer)
        self._into = [self._view]

    def read(self) -> tuple[Any, ...] | None:
        """The next packet's fields, or None when the other ends are closed. Raises BlockingIOError when empty."""
        size, ancillary, _, _ = self.end.recvmsg_into(self._into, _ANCILLARY, self.flags)
        if not size:
            return None
        if not ancillary:
            fields: tuple[Any, ...] = marshal.loads(self._view[1:size])
            return fields
        descriptors = array.array("i")
        descriptors.frombytes(ancillary[0][2][: descriptors.itemsize])
        with os.fdopen(descriptors[0], "rb") as file:
            file.seek(0)
            fields = marshal.loads(file.read())
        return fields
