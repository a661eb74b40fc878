"""Slots: a little memory that a worker, its fork server and its children share.

Each child has one slot and says there which claim it has in hand and since when. The worker reads it to keep time
limits, and to know what a dead child was at.
"""

import mmap
import os
import struct
from typing import NamedTuple

_SIZE = 64
_NOW = struct.Struct("qd")
_SOFT = struct.Struct("qd")
_HEARD = struct.Struct("q")
_END = struct.Struct("q")
_SOFT_AT, _HEARD_AT, _END_AT = 16, 32, 40


class InHand(NamedTuple):
    """What a child has in hand: the claim's number (0 for nothing yet), and since when (monotonic seconds)."""

    claim: int
    since: float


class Slots:
    """`count` slots in one shared file without a name. Its descriptor can be handed to a new fork server."""

    def __init__(self, count: int, descriptor: int | None = None) -> None:
        self.count = count
        if descriptor is None:
            descriptor = os.memfd_create("djtasks-slots")
            os.ftruncate(descriptor, count * _SIZE)
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, count * _SIZE)

    def take(self, slot: int, claim: int, now: float) -> None:
        """The child of this slot has this claim in hand from now on."""
        _NOW.pack_into(self._memory, slot * _SIZE, claim, now)

    def in_hand(self, slot: int) -> InHand:
        """What the child of this slot has, or last had, in hand."""
        return InHand._make(_NOW.unpack_from(self._memory, slot * _SIZE))

    def ask_soft(self, slot: int, claim: int, limit: float) -> None:
        """The claim is over its soft limit of so many seconds."""
        _SOFT.pack_into(self._memory, slot * _SIZE + _SOFT_AT, claim, limit)

    def asked_soft(self, slot: int) -> tuple[int, float]:
        """The claim that was last over its soft limit, and that limit."""
        claim, limit = _SOFT.unpack_from(self._memory, slot * _SIZE + _SOFT_AT)
        return claim, limit

    def hear_soft(self, slot: int, claim: int) -> None:
        """The child raised SoftTimeLimitExceeded in this claim's run: no need to ask again."""
        _HEARD.pack_into(self._memory, slot * _SIZE + _HEARD_AT, claim)

    def heard_soft(self, slot: int) -> int:
        """The claim in whose run the soft limit was last raised."""
        claim: int = _HEARD.unpack_from(self._memory, slot * _SIZE + _HEARD_AT)[0]
        return claim

    def ask_end(self, slot: int, claim: int) -> None:
        """The run of this claim is to end: the signal that comes next means it."""
        _END.pack_into(self._memory, slot * _SIZE + _END_AT, claim)

    def asked_end(self, slot: int) -> int:
        """The claim whose run was last to end; 0 for none."""
        claim: int = _END.unpack_from(self._memory, slot * _SIZE + _END_AT)[0]
        return claim

    def clear(self, slot: int) -> None:
        """A new child comes into this slot."""
        self._memory[slot * _SIZE : (slot + 1) * _SIZE] = bytes(_SIZE)
