"""State: what events say of workers and tasks, kept in memory, and forgotten when it becomes too much."""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from weakref import WeakSet

from djtasks.events import nodes
from djtasks.events.nodes import LRU

V = TypeVar("V")
Event = Mapping[str, Any]
Pair = tuple[str, nodes.Task]


class _Index:
    """The tasks of a kind: `index[key]` is a set of them, `index(key)` pairs (uuid, task) in the order of time."""

    def __init__(self, state: "State", key_of: Callable[[nodes.Task], str | None]) -> None:
        self._state = state
        self._key_of = key_of

    def __call__(self, key: str, limit: int | None = None, reverse: bool = True) -> Iterator[Pair]:
        found = (pair for pair in self._state.tasks_by_time(reverse=reverse) if self._key_of(pair[1]) == key)
        for number, pair in enumerate(found):
            if limit is not None and number >= limit:
                return
            yield pair

    def __getitem__(self, key: str) -> set[nodes.Task]:
        return {task for task in self._state.tasks.values() if self._key_of(task) == key}

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> list[str]:
        """The keys there are."""
        return sorted({key for task in self._state.tasks.values() if (key := self._key_of(task)) is not None})


class State:
    """All that has been heard: `workers` by name, `tasks` by id. Its methods may be called from any thread."""

    Worker: type[nodes.Worker] = nodes.Worker
    Task: type[nodes.Task] = nodes.Task

    def __init__(
        self,
        callback: Callable[["State", Event], object] | None = None,
        max_workers_in_memory: int = 5000,
        max_tasks_in_memory: int = 10000,
        on_node_join: Callable[[nodes.Worker], object] | None = None,
        on_node_leave: Callable[[nodes.Worker], object] | None = None,
    ) -> None:
        """`callback` is called with this and each event before that is taken in."""
        self.event_callback = callback
        self.max_workers_in_memory = max_workers_in_memory
        self.max_tasks_in_memory = max_tasks_in_memory
        self.on_node_join = on_node_join
        self.on_node_leave = on_node_leave
        self.workers: LRU[nodes.Worker] = LRU(max_workers_in_memory)
        self.tasks: LRU[nodes.Task] = LRU(max_tasks_in_memory)
        #: How many events were taken in, and of how many tasks that came to a worker.
        self.event_count = self.task_count = 0
        #: Called for the events of other groups: {"custom": handler(subject, event)}.
        self.handlers: dict[str, Callable[[str, Event], Any]] = {}
        self.tasks_by_type = _Index(self, lambda task: task.name)
        self.tasks_by_worker = _Index(self, lambda task: task.worker.hostname if task.worker else None)
        self._seen_types: set[str] = set()
        #: By the id of a task of which nothing has been heard: what came of it.
        self._orphans: LRU[WeakSet[nodes.Task]] = LRU(max_tasks_in_memory)
        self._mutex = threading.RLock()

    def event(self, event: Event) -> Any:
        """Take in an event; returns ((worker or task, whether it is new), subject), or None for other groups."""
        with self._mutex:
            self.event_count += 1
            if self.event_callback is not None:
                self.event_callback(self, event)
            group, _, subject = event["type"].partition("-")
            if (handler := self.handlers.get(group)) is not None:
                return handler(subject, event), subject
            if group == "worker" and "hostname" in event:
                return self._worker_event(subject, event), subject
            if group == "task" and event.get("uuid") is not None:
                return self._task_event(subject, event), subject
            return None

    def worker_event(self, type_: str, fields: Event) -> Any:
        """As `event`, for `worker-<type_>`."""
        return (self.event({**fields, "type": f"worker-{type_}"}) or (None,))[0]

    def task_event(self, type_: str, fields: Event) -> Any:
        """As `event`, for `task-<type_>`."""
        return (self.event({**fields, "type": f"task-{type_}"}) or (None,))[0]

    def _worker_event(self, subject: str, event: Event) -> tuple[nodes.Worker, bool]:
        hostname, offline = event["hostname"], subject == "offline"
        worker = self.workers.peek(hostname)
        created = worker is None
        if worker is None:
            worker = self.Worker(hostname)
            if not offline:
                self.workers[hostname] = worker
        worker.event(subject, event.get("timestamp"), event.get("local_received"), event)
        if self.on_node_join is not None and not offline and (created or subject == "online"):
            self.on_node_join(worker)
        if self.on_node_leave is not None and offline:
            self.on_node_leave(worker)
            self.workers.pop(hostname, None)
        return worker, created

    def _task_event(self, subject: str, event: Event) -> tuple[nodes.Task, bool]:
        uuid, hostname = event["uuid"], event.get("hostname")
        task, created = self.get_or_create_task(uuid)
        timestamp, received = event.get("timestamp"), event.get("local_received")
        if subject == "sent":
            task.client = hostname
        elif hostname:
            task.worker = worker = self.get_or_create_worker(hostname)[0]
            worker.event(None, timestamp, received)
        if subject == "received":
            self.task_count += 1
        task.event(subject, timestamp, received, event)
        if task.name is not None:
            self._seen_types.add(task.name)
        if task.parent_id is not None:
            self._children_of(task.parent_id).add(task)
        return task, created

    def _children_of(self, uuid: str) -> "WeakSet[nodes.Task]":
        if (parent := self.tasks.peek(uuid)) is not None:
            return parent.children
        if (waiting := self._orphans.peek(uuid)) is None:
            waiting = self._orphans[uuid] = WeakSet()
        return waiting

    def get_or_create_worker(self, hostname: str, **kwargs: Any) -> tuple[nodes.Worker, bool]:
        """The worker of this name, and whether it is new."""
        worker = self.workers.peek(hostname)
        if worker is None:
            worker = self.workers[hostname] = self.Worker(hostname, **kwargs)
            return worker, True
        worker.update(kwargs)
        return worker, False

    def get_or_create_task(self, uuid: str) -> tuple[nodes.Task, bool]:
        """The task of this id, and whether it is new."""
        task = self.tasks.peek(uuid)
        if task is not None:
            return task, False
        task = self.tasks[uuid] = self.Task(uuid, cluster_state=self)
        if (children := self._orphans.pop(uuid, None)) is not None:
            task.children |= children
        return task, True

    # -- to be asked ----------------------------------------------------------------------------------------------

    def freeze_while(self, fun: Callable[..., V], *args: Any, clear_after: bool = False, **kwargs: Any) -> V:
        """Call `fun` while no event is taken in, and return what it returns; `clear_after` forgets what was heard."""
        with self._mutex:
            try:
                return fun(*args, **kwargs)
            finally:
                if clear_after:
                    self.clear()

    def clear(self, ready: bool = True) -> None:
        """Forget all workers, and the tasks that have ended; or, without `ready`, all tasks."""
        with self._mutex:
            self.workers.clear()
            self.clear_tasks(ready)
            self.event_count = self.task_count = 0

    def clear_tasks(self, ready: bool = True) -> None:
        """Forget the tasks that have ended; without `ready` all."""
        with self._mutex:
            for uuid, task in self.tasks.items():
                if not ready or task.ready:
                    del self.tasks[uuid]

    def itertasks(self, limit: int | None = None) -> Iterator[Pair]:
        """Pairs (uuid, task)."""
        yield from self.tasks.items()[:limit]

    def tasks_by_time(self, limit: int | None = None, reverse: bool = True) -> Iterator[Pair]:
        """Pairs (uuid, task), by default the one that was last heard of first."""
        found = sorted(self.tasks.values(), key=lambda task: (task.clock or 0, task.timestamp or 0), reverse=reverse)
        yield from [(task.uuid, task) for task in found[:limit]]

    tasks_by_timestamp = tasks_by_time

    def task_types(self) -> list[str]:
        """The names of all tasks that were heard of."""
        return sorted(self._seen_types)

    def alive_workers(self) -> list[nodes.Worker]:
        """The workers that have been heard of lately."""
        return [worker for worker in self.workers.values() if worker.alive]

    def __repr__(self) -> str:
        return f"<State: events={self.event_count} tasks={self.task_count}>"
