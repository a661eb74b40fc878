"""What `inspect` is told by the tables alone: for workers that do not answer, and where the tables know best."""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from djtasks.db import inspection
from djtasks.db.connections import Connection
from djtasks.db.inspection import Node
from djtasks.described import info
from djtasks.ids import as_task_id
from djtasks.messages import Claimed

#: So many tasks of one worker are told, and so many revocations.
MOST: Final = 1000
MOST_REVOKED: Final = 10_000
#: What Celery's queues have, and queues here have not.
_NOTHING: Final = (
    "queue_arguments",
    "binding_arguments",
    "consumer_arguments",
    "alias",
    "no_declare",
    "expires",
    "message_ttl",
    "max_length",
    "max_length_bytes",
    "max_priority",
)
Answer = Callable[[Connection, Node, Mapping[str, Any]], Any]


def scheduled(conn: Connection, queues: Collection[str]) -> list[dict[str, Any]]:
    """What waits for its time in these queues: it is in the table, and in nobody's hands."""
    return [
        {
            "eta": None if each.eta is None else _moment(each.eta),
            "priority": each.priority,
            "request": info(each, None),
        }
        for each in inspection.scheduled(conn, queues, MOST)
    ]


def _moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def revoked(conn: Connection) -> list[str]:
    """The ids of what is revoked; the last one first."""
    return inspection.revoked(conn, MOST_REVOKED)


def queue_as_dict(name: str) -> dict[str, Any]:
    """A queue as Celery describes one, for programs that read that."""
    exchange = {
        "name": name,
        "type": "direct",
        "arguments": None,
        "durable": True,
        "passive": False,
        "auto_delete": False,
        "delivery_mode": None,
        "no_declare": False,
    }
    nothing = dict.fromkeys(_NOTHING)
    flags = {"durable": True, "exclusive": False, "auto_delete": False, "no_ack": False}
    return {"name": name, "exchange": exchange, "routing_key": name, **flags, "bindings": [], **nothing}


def ids_of(given: Any) -> list[str]:
    """The rows' ids of what was asked for, without what can be none."""
    found = []
    for each in [given] if isinstance(given, str) else given or ():
        try:
            found.append(as_task_id(each))
        except (TypeError, ValueError):
            continue
    return found


def query(
    conn: Connection, owner: int, name: str, queues: Collection[str], given: Any, active: Collection[int]
) -> dict[str, Any]:
    """`{id: [state, request]}` of those of these tasks that a worker holds, or that wait for their time with it."""
    answer: dict[str, Any] = {}
    for found in inspection.by_id(conn, ids_of(given)):
        message = found.message
        if found.owner == owner:
            running = message.claim in active
            said = info(message, name, running=running)
            answer[said["id"]] = ["active" if running else "reserved", said]
        elif found.reason == "eta" and message.queue in queues:
            said = info(message, name)
            answer[said["id"]] = ["scheduled", said]
    return answer


def _halves(conn: Connection, node: Node) -> tuple[list[Claimed], list[Claimed]]:
    """What a worker holds: what runs, as far as can be told from outside, and what lies behind it."""
    found = inspection.held(conn, node.incarnation, MOST)
    return found[: node.concurrency], found[node.concurrency :]


def _active(conn: Connection, node: Node, _: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [info(each, node.name, running=True) for each in _halves(conn, node)[0]]


def _reserved(conn: Connection, node: Node, _: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [info(each, node.name) for each in _halves(conn, node)[1]]


def _query(conn: Connection, node: Node, arguments: Mapping[str, Any]) -> dict[str, Any]:
    active = {each.claim for each in _halves(conn, node)[0]}
    return query(conn, node.incarnation, node.name, node.queues, arguments.get("ids"), active)


#: The commands that the tables can answer for a worker.
ANSWERS: Final[Mapping[str, Answer]] = {
    "active": _active,
    "reserved": _reserved,
    "scheduled": lambda conn, node, _: scheduled(conn, node.queues),
    "revoked": lambda conn, node, _: revoked(conn),
    "active_queues": lambda conn, node, _: [queue_as_dict(name) for name in node.queues],
    "query_task": _query,
}
