"""Broadcasts: each live worker of a broadcast queue runs its copy of what is sent there.

A call writes one message, as to any other queue. Whichever worker of that queue comes first passes it on, in one
transaction: the message itself goes to that worker's own queue, and a copy to the own queue of each other worker that
lives. So it is all or nothing, whoever is killed when, and however the call was made. The message keeps its id, its
keys and what follows it; a copy has an id of its own, and the message for its parent.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Collection

import psycopg

from djtasks.conf import settings
from djtasks.db import broadcasts as table
from djtasks.db import messages, notify
from djtasks.db.broadcasts import Heard
from djtasks.exceptions import DjtasksError, safe_repr
from djtasks.ids import new_task_id
from djtasks.messages import Message
from djtasks.payload import headers_of, reseal
from djtasks.queuenames import own_queue

logger = logging.getLogger("djtasks.worker")

#: So many messages of a queue are passed on at a time.
BATCH = 100
#: What no worker has run after so many seconds expires: the worker that it is for may never come back.
KEPT = 86_400.0
#: Headers that are the message's alone: what follows it, where it belongs, its caller's own text for its id.
ITS_OWN = ("callbacks", "errbacks", "chain", "chord", "group", "group_index", "task_id")


def pass_on(conn: psycopg.Connection, node: str, queues: Collection[str]) -> bool:
    """Pass on what waits in these broadcast queues, and ring who has got some; whether the worker `node` has."""
    copies: list[Message] = []
    with conn.transaction():
        heard = table.hear(conn, queues, BATCH)
        if heard:
            nodes = defaultdict(list)
            for queue, name in table.listeners(conn, queues, settings.WORKER_DEAD_AFTER):
                nodes[queue].append(name)
            for each in heard:
                copies += _copies(each, [name for name in nodes[each.message.queue] if name != node])
            if copies:
                messages.enqueue(conn, copies)
            own = [own_queue(each.message.queue, node) for each in heard]
            table.readdress(conn, [each.message.id for each in heard], own, KEPT)
    if copies:
        notify.ring_workers(conn, {copy.queue for copy in copies}, len(copies))
    return bool(heard)


def _copies(heard: Heard, nodes: Collection[str]) -> list[Message]:
    """A copy of the message for each of these workers; none of what is not to run any more."""
    message = heard.message
    if heard.revoked or message.expired:
        return []
    said = headers_of(message.headers)
    named = said.get("task_id") or message.id
    own = {key: value for key, value in said.items() if key not in ITS_OWN}
    text = json.dumps({**own, "root_id": said.get("root_id") or named, "parent_id": named})
    found = []
    try:
        for node in nodes:
            task_id = new_task_id()
            content_type, encoding, body = reseal(message, task_id, text)
            found.append(
                Message(
                    task_id,
                    message.name,
                    own_queue(message.queue, node),
                    body,
                    content_type,
                    encoding,
                    message.priority,
                    expires=message.expires,
                    expires_in=KEPT if message.expires is None else None,
                    retries=message.retries,
                    headers=text,
                    root_id=heard.root or message.id,
                    parent_id=message.id,
                )
            )
    except DjtasksError as error:
        logger.error("%s[%s] is not passed on to other workers: %s", message.name, message.id, safe_repr(error))
        return []
    return found
