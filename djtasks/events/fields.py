"""An event as a dict, as Celery's are, and as the row that carries it."""

import json
import os
import socket
import time
from collections.abc import Mapping
from typing import Any, Final

from djtasks.db import events as table
from djtasks.described import plain
from djtasks.ids import as_task_id

#: The longest text in an event.
LONGEST: Final = 10_000
Event = dict[str, Any]


def utcoffset() -> int:
    """Hours to UTC, westwards, as Celery says it."""
    offset = time.localtime().tm_gmtoff
    return -round(offset / 3600)


def node_of_process() -> str:
    """The name of a process that is no worker."""
    return f"gen{os.getpid()}@{socket.gethostname()}"


def make(type_: str, fields: Mapping[str, Any] | None = None, **more: Any) -> Event:
    """An event of this type; its timestamp is now, where none is given."""
    return {"timestamp": time.time(), **(fields or {}), **more, "type": type_}


def row_of(type_: str, node: str, row: str | None, fields: Mapping[str, Any]) -> table.Event:
    """An event as it is written; `row` is the id of the task's row."""
    said = plain(fields, LONGEST)
    for name in ("type", "hostname", *(("uuid",) if row is not None and said.get("uuid") == row else ())):
        said.pop(name, None)
    return table.Event(type_, row, node, json.dumps(said, ensure_ascii=False, allow_nan=False))


def row_of_event(event: Mapping[str, Any], node: str) -> table.Event:
    """The same for what an author says: the fields are checked. Raises TypeError for what is no type or id."""
    fields = dict(event)
    type_, node = fields.pop("type", None), fields.pop("hostname", node)
    for what, text in (("type", type_), ("hostname", node)):
        if not isinstance(text, str) or not text or plain(text, 200) != text:
            raise TypeError(f"the {what} of an event must be a text of 200 characters at most, not {text!r}")
    uuid = fields.get("uuid")
    return row_of(str(type_), str(node), None if uuid is None else as_task_id(uuid), fields)


def event_of(row: tuple[Any, ...]) -> Event:
    """The event of a row, with all that Celery's have; `clock` is the row's number."""
    number, type_, uuid, node, body = row
    event: Event = {"type": type_, "hostname": node, "clock": number, "local_received": time.time()}
    if uuid is not None:
        event["uuid"] = uuid
    event.update(body if isinstance(body, dict) else {})
    return event
