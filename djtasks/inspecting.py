"""`app.control.inspect()`: asking workers, without changing anything.

What is held, what waits for its time and what is revoked stands in tables. So the answers to that come also for workers
that do not answer themselves: those that hang, and those that have just died.
"""

from collections.abc import Collection, Mapping
from typing import Any

import psycopg

from djtasks import tabled
from djtasks.broadcasting import Callback, Matcher, ask, fitting, flatten_reply, matches
from djtasks.db import inspection
from djtasks.db.connections import open_private
from djtasks.described import plain

Answers = dict[str, Any] | None


class Inspect:
    """Asks all workers, or those of `destination`: a list, or one name, for which answers are not by node.

    Each question waits `timeout` seconds at the most, until all that live have answered, or `limit` of them. An answer
    is `{node: answer}`, and None when nobody answered. `from_tables` are the nodes for which, the last time, the tables
    have answered.
    """

    def __init__(
        self,
        destination: str | Collection[str] | None = None,
        timeout: float = 1.0,
        callback: Callback | None = None,
        connection: Any = None,
        app: Any = None,
        limit: int | None = None,
        pattern: str | None = None,
        matcher: Matcher = None,
        *,
        by: str = "",
    ) -> None:
        self.destination = destination
        self.timeout = timeout
        self.callback = callback
        self.app = app
        self.limit = limit
        self.pattern = pattern
        self.matcher = matcher
        self.by = by
        self.from_tables: set[str] = set()

    def _request(self, command: str, **arguments: Any) -> Any:
        """Ask; the arguments that are None are left out. Raises TypeError, ValueError for what cannot be asked."""
        given = {name: value for name, value in arguments.items() if value is not None}
        names = [self.destination] if isinstance(self.destination, str) else self.destination
        with open_private("inspect") as conn:
            meant = fitting(conn, names, self.pattern, self.matcher)
            asked = ask(
                conn,
                command,
                given,
                meant,
                timeout=self.timeout,
                limit=self.limit,
                callback=self.callback,
                by=self.by,
            )
            found = flatten_reply({worker: body} for worker, body in asked.replies)
            self._ask_tables(conn, command, given, found)
        if isinstance(self.destination, str):
            return found.get(self.destination)
        return found or None

    call = _request

    def _ask_tables(
        self, conn: psycopg.Connection, command: str, given: Mapping[str, Any], found: dict[str, Any]
    ) -> None:
        """Add what the tables say of those that have not answered."""
        self.from_tables = set()
        answer = tabled.ANSWERS.get(command)
        if answer is None:
            return
        answered = set(found)
        for node in inspection.nodes(conn):
            if self.limit is not None and len(found) >= self.limit:
                return
            if node.name not in answered and self._means(node.name):
                found[node.name] = plain(answer(conn, node, given), most=tabled.MOST_REVOKED)
                self.from_tables.add(node.name)
                if self.callback is not None:
                    self.callback({node.name: found[node.name]})

    def _means(self, name: str) -> bool:
        if self.pattern is not None and not matches(name, self.pattern, self.matcher):
            return False
        if isinstance(self.destination, str):
            return name == self.destination
        return self.destination is None or name in self.destination

    # -- the questions ----------------------------------------------------------------------------------------------

    def active(self, safe: bool | None = None) -> Any:
        """What runs: a list of requests for each node; those whose arguments are sensitive without these."""
        return self._request("active", safe=safe)

    def reserved(self, safe: bool | None = None) -> Any:
        """What workers have taken and not begun."""
        return self._request("reserved", safe=safe)

    def scheduled(self, safe: bool | None = None) -> Any:
        """What waits for its time in the nodes' queues: `[{"eta": …, "priority": …, "request": …}]`."""
        return self._request("scheduled", safe=safe)

    def revoked(self) -> Any:
        """The ids of what is revoked."""
        return self._request("revoked")

    def registered(self, *taskinfoitems: str) -> Any:
        """The names of the tasks that nodes know, each with these attributes, or with its rate limit."""
        return self._request("registered", taskinfoitems=list(taskinfoitems))

    registered_tasks = registered

    def stats(self) -> Any:
        """What nodes count and use."""
        return self._request("stats")

    def active_queues(self) -> Any:
        """The queues that nodes take from."""
        return self._request("active_queues")

    def query_task(self, *ids: Any) -> Any:
        """Where tasks are: `{id: [state, request]}`, the state being active, reserved or scheduled."""
        wanted = ids[0] if len(ids) == 1 and isinstance(ids[0], list | tuple) else ids
        return self._request("query_task", ids=[str(getattr(each, "id", each)) for each in wanted])

    def conf(self, with_defaults: bool = False) -> Any:
        """The nodes' settings, those that are not at their defaults, without secrets."""
        return self._request("conf", with_defaults=bool(with_defaults))

    def report(self) -> Any:
        """What is worth to be told beside the description of a fault."""
        return self._request("report")

    def clock(self) -> Any:
        """A number that grows with every command."""
        return self._request("clock")

    def ping(self, destination: Any = None) -> Any:
        """Whether nodes are there: `{"ok": "pong"}`."""
        if destination:
            self.destination = destination
        return self._request("ping")

    def hello(self, from_node: str, revoked: Any = None) -> Any:
        """What a worker tells another one."""
        return self._request("hello", from_node=from_node, revoked=revoked)

    def memsample(self) -> Any:
        """Measure the memory that workers use."""
        return self._request("memsample")

    def memdump(self, samples: int = 10) -> Any:
        """The last measurements."""
        return self._request("memdump", samples=samples)

    def objgraph(self, type: str = "Request", n: int = 200, max_depth: int = 10) -> Any:
        """Celery's picture of objects; djtasks draws none, and says so."""
        return self._request("objgraph", num=n, max_depth=max_depth, type=type)
