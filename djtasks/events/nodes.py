"""Workers and tasks as events describe them.

Events may come in another order than they happened in: a task's state never goes back to one that it must have left.
"""

import time
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final, TypeVar
from weakref import WeakSet

from djtasks.states import PENDING, READY_STATES, RETRY, precedence

V = TypeVar("V")
Event = Mapping[str, Any]

#: A worker is taken for gone when no heartbeat came for this share of the time between two, in percent.
HEARTBEAT_EXPIRE_WINDOW: Final = 200
#: Clocks that differ more than this are worth a warning, in seconds.
HEARTBEAT_DRIFT_MAX: Final = 16
#: What of task-received is believed although it comes after what followed it.
_OF_RECEIVED: Final = frozenset({"name", "args", "kwargs", "parent_id", "root_id", "retries", "eta", "expires"})
#: What every event has.
_OF_EVENTS: Final = frozenset({"type", "timestamp", "clock", "local_received"})
_STATES: Final[Mapping[str, str]] = {
    "sent": "PENDING",
    "received": "RECEIVED",
    "started": "STARTED",
    "failed": "FAILURE",
    "retried": "RETRY",
    "succeeded": "SUCCESS",
    "revoked": "REVOKED",
    "rejected": "REJECTED",
}


class LRU(OrderedDict[str, V]):
    """A dict of `limit` members at the most: what was asked for or set least lately goes. Its views are copies."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def __getitem__(self, key: str) -> V:
        value = super().__getitem__(key)
        self.move_to_end(key)
        return value

    def __setitem__(self, key: str, value: V) -> None:
        super().__setitem__(key, value)
        while len(self) > self.limit:
            del self[next(iter(self))]

    def peek(self, key: Any) -> V | None:
        """The value, left where it is; None when there is none."""
        return super().__getitem__(key) if key in self else None

    def keys(self) -> Any:
        return list(super().keys())

    def values(self) -> Any:
        return list(super().values())

    def items(self) -> Any:
        return list(super().items())


class Worker:
    """A worker, as its events describe it."""

    heartbeat_max: ClassVar[int] = 4
    expire_window: ClassVar[int] = HEARTBEAT_EXPIRE_WINDOW

    def __init__(
        self,
        hostname: str | None = None,
        pid: int | None = None,
        freq: float = 60,
        heartbeats: list[float] | None = None,
        clock: int = 0,
        active: int | None = None,
        processed: int | None = None,
        loadavg: list[float] | None = None,
        sw_ident: str | None = None,
        sw_ver: str | None = None,
        sw_sys: str | None = None,
    ) -> None:
        self.hostname = hostname
        self.pid = pid
        #: Seconds from one heartbeat to the next.
        self.freq = freq
        #: When the last ones came.
        self.heartbeats = [] if heartbeats is None else heartbeats
        self.clock = clock or 0
        self.active = active
        self.processed = processed
        self.loadavg = loadavg
        self.sw_ident = sw_ident
        self.sw_ver = sw_ver
        self.sw_sys = sw_sys
        self._warned = False

    def event(
        self,
        type_: str | None,
        timestamp: float | None = None,
        local_received: float | None = None,
        fields: Event | None = None,
    ) -> None:
        """Take in one of its events, without the `worker-` of its type; None for one of a task."""
        self.update(fields or {})
        if type_ == "offline":
            self.heartbeats.clear()
        elif timestamp and local_received:
            drift = abs(int(local_received) - int(timestamp))
            if drift > HEARTBEAT_DRIFT_MAX and not self._warned:
                self._warned = True
                warnings.warn(f"The clocks of {self.hostname} and of this host differ by {drift} seconds", stacklevel=3)
            self.heartbeats.append(local_received)
            self.heartbeats.sort()
            del self.heartbeats[: -self.heartbeat_max]

    def update(self, f: Event, **kw: Any) -> None:
        """These fields are new."""
        for name, value in {**f, **kw}.items():
            if name not in _OWN:
                setattr(self, name, value)

    @property
    def heartbeat_expires(self) -> float:
        """When it is taken for gone unless another one comes, in seconds since the epoch."""
        return self.heartbeats[-1] + float(self.freq) * self.expire_window / 100

    @property
    def alive(self) -> bool:
        """Whether it has been heard of lately."""
        return bool(self.heartbeats) and time.time() < self.heartbeat_expires

    @property
    def status_string(self) -> str:
        """ONLINE or OFFLINE."""
        return "ONLINE" if self.alive else "OFFLINE"

    @property
    def id(self) -> str:
        """Its name and its process."""
        return f"{self.hostname}.{self.pid}"

    def __eq__(self, other: object) -> bool:
        return self.hostname == other.hostname if isinstance(other, Worker) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.hostname)

    def __repr__(self) -> str:
        return f"<Worker: {self.hostname} ({self.status_string} clock:{self.clock})>"


class Task:
    """A task, as its events describe it."""

    uuid: str
    name: str | None = None
    state: str = PENDING.value
    #: When each of these happened, in seconds since the epoch.
    sent: float | None = None
    received: float | None = None
    started: float | None = None
    succeeded: float | None = None
    failed: float | None = None
    retried: float | None = None
    revoked: float | None = None
    rejected: float | None = None
    args: str | None = None
    kwargs: str | None = None
    eta: str | None = None
    expires: str | None = None
    retries: int | None = None
    worker: Worker | None = None
    result: str | None = None
    exception: str | None = None
    traceback: str | None = None
    #: Seconds.
    runtime: float | None = None
    #: When its state was last another one.
    timestamp: float | None = None
    exchange: str | None = None
    routing_key: str | None = None
    queue: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    #: Who has sent it.
    client: str | None = None
    clock: int = 0

    _fields: ClassVar[tuple[str, ...]] = (
        *("uuid", "name", "state", "received", "sent", "started", "rejected", "succeeded", "failed", "retried"),
        *("revoked", "args", "kwargs", "eta", "expires", "retries", "worker", "result", "exception", "timestamp"),
        *("runtime", "traceback", "exchange", "routing_key", "clock", "client", "root", "root_id", "parent"),
        *("parent_id", "children"),
    )
    _info_fields: ClassVar[tuple[str, ...]] = (
        *("args", "kwargs", "retries", "result", "eta", "runtime", "expires", "exception", "exchange"),
        *("routing_key", "root_id", "parent_id"),
    )

    def __init__(self, uuid: str, cluster_state: Any = None, **fields: Any) -> None:
        self.uuid = uuid
        self.cluster_state = cluster_state
        #: The tasks that came of it, as far as they are known.
        self.children: WeakSet[Task] = WeakSet()
        self.__dict__.update(fields)

    def event(
        self,
        type_: str,
        timestamp: float | None = None,
        local_received: float | None = None,
        fields: Event | None = None,
    ) -> None:
        """Take in one of its events, without the `task-` of its type; another type than Celery's is a state."""
        said = {name: value for name, value in (fields or {}).items() if name not in _OWN}
        state = _STATES.get(type_)
        if state is not None:
            setattr(self, type_, timestamp)
        else:
            state = type_.upper()
        if RETRY not in (state, self.state) and precedence(state) > precedence(self.state):
            # It happened before what is known already.
            late = _OF_RECEIVED if type_ == "received" else said.keys() - _OF_EVENTS
            said = {name: value for name, value in said.items() if name in late}
        else:
            said.update(state=state, timestamp=timestamp)
        self.__dict__.update(said)

    def info(self, fields: Iterable[str] | None = None, extra: Iterable[str] | None = None) -> dict[str, Any]:
        """What is worth showing of it: of these attributes the ones that are known."""
        names = [*(self._info_fields if fields is None else fields), *(extra or ())]
        return {name: value for name in names if (value := getattr(self, name, None)) is not None}

    def as_dict(self) -> dict[str, Any]:
        """All of it; its relatives by their ids."""
        found = {name: getattr(self, name) for name in self._fields if name not in ("children", "root", "parent")}
        return {**found, "root": self.root_id, "parent": self.parent_id, "children": [one.id for one in self.children]}

    @property
    def id(self) -> str:
        """Its id."""
        return self.uuid

    @property
    def origin(self) -> str | None:
        """Who told of it last: the worker, else who has sent it."""
        return self.client if self.worker is None else self.worker.id

    @property
    def ready(self) -> bool:
        """Whether it has ended."""
        return self.state in READY_STATES

    @property
    def parent(self) -> "Task | None":
        """The task that it came of, if that is known."""
        return self._known(self.parent_id)

    @property
    def root(self) -> "Task | None":
        """The task that everything began with, if that is known."""
        return self._known(self.root_id)

    def _known(self, uuid: str | None) -> "Task | None":
        found: Task | None = None
        if self.cluster_state is not None and uuid is not None:
            found = self.cluster_state.tasks.peek(uuid)
        return found

    def __eq__(self, other: object) -> bool:
        return self.uuid == other.uuid if isinstance(other, Task) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.uuid)

    def __repr__(self) -> str:
        return f"<Task: {self.name}({self.uuid}) {self.state} clock:{self.clock}>"


#: Names that no field of an event may cover up.
_OWN: Final = frozenset(name for cls in (Worker, Task) for name, what in vars(cls).items() if callable(what)) | {
    *("alive", "children", "cluster_state", "heartbeat_expires", "heartbeats", "id", "origin", "parent", "ready"),
    *("root", "state", "status_string", "worker"),
}
