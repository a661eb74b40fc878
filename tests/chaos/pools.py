"""The pools that the chaos runs are played with, and what has no meaning for one of them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

#: How many tasks a crowd runs at a time; more than this would leave nothing to wait for.
SEATS = 8


class Kind(NamedTuple):
    """A pool as the scenarios start it."""

    name: str
    #: How many processes run its tasks, beside the worker's own; 0 when they run in that.
    children: int
    #: How many tasks each of those runs at a time.
    seats: int

    @property
    def slots(self) -> int:
        """How many tasks a worker runs at a time."""
        return max(1, self.children) * self.seats

    @property
    def options(self) -> tuple[str, ...]:
        """The worker's options."""
        return "--pool", self.name, "--concurrency", str(self.slots)


PREFORK: Final = Kind("prefork", 2, 1)
POOLS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            PREFORK,
            Kind("threads", 0, 2),
            Kind("solo", 0, 1),
            Kind("gevent", 1, SEATS),
            Kind("eventlet", 1, SEATS),
            Kind("asyncio", 1, SEATS),
        )
    }
)
_OWN: Final = "tasks run in the worker's own process: see the worker killed"
_NO_SERVER: Final = "there is no fork server"
_REFUSED: Final = "`--max-memory-per-child` is refused at the start"
#: By scenario and pool: why it is not played.
UNFIT: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "child": {"threads": _OWN, "solo": _OWN},
        "forkserver": {"threads": _NO_SERVER, "solo": _NO_SERVER},
        "memory": dict.fromkeys(("threads", "solo", "gevent", "eventlet", "asyncio"), _REFUSED),
    }
)
