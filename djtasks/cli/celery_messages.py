"""Celery's messages, as kombu puts them into a Redis list, as calls of ours: both versions of Celery's protocol.

Pure but for what `publisher.build` does: routing, settings, receivers of before_task_publish.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from djtasks import publisher
from djtasks.calls import PROPERTIES
from djtasks.compression import canonical, decompress
from djtasks.conf import settings
from djtasks.exceptions import DjtasksError
from djtasks.messages import Message
from djtasks.registry import tasks
from djtasks.serializers import loads

#: Headers of Celery's that are no user's.
_CELERYS = frozenset(
    {"lang", "task", "id", "shadow", "eta", "expires", "group", "group_index"}
    | {"retries", "timelimit", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result"}
    | {"replaced_task_nesting", "stamped_headers", "stamps", "compression", "redelivered", "meth"}
)
_SAME = ("shadow", "argsrepr", "kwargsrepr", "origin", "root_id", "parent_id", "ignore_result")


class Refused(Exception):
    """Why a message cannot become one of ours."""

    def __init__(self, text: str, task_id: str = "?", name: str = "?") -> None:
        super().__init__(text)
        self.task_id = task_id
        self.name = name


class Call(NamedTuple):
    """What a message asks for."""

    name: str
    task_id: str
    args: Any
    kwargs: Any
    options: dict[str, Any]


def message_of(raw: bytes, queue: str) -> Message:
    """A message of Celery's as one of ours, for this queue. Raises Refused."""
    call = read(raw)
    options = {**call.options, "queue": queue, "task_id": call.task_id}
    try:
        return publisher.build(call.name, call.args, call.kwargs, options, tasks.get(call.name))
    except Exception as error:
        # Routers, receivers and callables for keys may raise anything.
        raise Refused(f"{type(error).__name__}: {error}", call.task_id, call.name) from error


def read(raw: bytes) -> Call:
    """What a message asks for. Raises Refused."""
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Refused(f"it is no JSON, so not kombu's: {error}") from error
    if not isinstance(said, dict) or "body" not in said:
        raise Refused("it has no body, so it is not kombu's")
    headers, properties = (
        found if isinstance(found := said.get(key), dict) else {} for key in ("headers", "properties")
    )
    task_id, name = str(headers.get("id", "?")), str(headers.get("task", "?"))
    try:
        body = _body(said, headers, properties)
    except (DjtasksError, TypeError, ValueError, RecursionError) as error:
        raise Refused(f"its arguments cannot be read: {error}", task_id, name) from error
    call = _second(headers, body) if "task" in headers else _first(body)
    if not isinstance(call.args, list | tuple) or not isinstance(call.kwargs, dict):
        raise Refused("its arguments are no list and object", call.task_id, call.name)
    # What Celery says of every call says nothing.
    empty = {"root_id": call.task_id, "ignore_result": False, "retries": 0}
    options = {key: value for key, value in call.options.items() if value not in (None, empty.get(key))}
    if (priority := properties.get("priority")) and isinstance(priority, int):
        # On Redis 0 is taken first.
        options.setdefault("priority", -priority)
    for key in PROPERTIES:
        # The one is the id again, the other the queue of Celery's own results.
        if (value := properties.get(key)) not in (None, call.task_id) and key != "reply_to":
            options[key] = value
    return call._replace(options=options)


def _body(said: Mapping[str, Any], headers: Mapping[str, Any], properties: Mapping[str, Any]) -> Any:
    """The decoded body. Raises DjtasksError (what is not accepted, is signed, or broken) and ValueError."""
    body: Any = said["body"]
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    if properties.get("body_encoding") == "base64":
        try:
            data = base64.b64decode(data)
        except binascii.Error as error:
            raise ValueError(f"its base64 is broken: {error}") from error
    if method := headers.get("compression"):
        data = decompress(data, canonical(str(method)), settings.DECOMPRESSED_MAX_BYTES)
    return loads(data, str(said.get("content-type")), settings.ACCEPT_CONTENT)


def _second(headers: Mapping[str, Any], body: Any) -> Call:
    """Protocol 2: the call is in the headers, arguments and what follows in the body."""
    task_id, name = headers.get("id"), headers["task"]
    if not isinstance(task_id, str) or not isinstance(name, str):
        raise Refused("it has no id, or names no task", str(task_id), str(name))
    if not isinstance(body, list | tuple) or len(body) != 3:
        raise Refused("its body is not [args, kwargs, embed]", task_id, name)
    args, kwargs, embed = body
    stamps = headers.get("stamps")
    own = {key: value for key, value in headers.items() if key not in _CELERYS}
    stamped = headers.get("stamped_headers") or []
    own = {key: value for key, value in own.items() if key not in stamped}
    options = {
        **{key: headers.get(key) for key in _SAME},
        **_times(headers),
        "group_id": headers.get("group"),
        "group_index": headers.get("group_index"),
        "stamped_headers": stamped or None,
        "stamps": stamps if isinstance(stamps, dict) and stamps else None,
        **{key: headers[key] for key in stamped if key in headers},
        "headers": own or None,
        **_following(embed if isinstance(embed, dict) else {}, task_id, name),
    }
    return Call(name, task_id, args, kwargs, options)


def _first(body: Any) -> Call:
    """Protocol 1: everything is in the body."""
    if not isinstance(body, dict) or not isinstance(body.get("task"), str) or not isinstance(body.get("id"), str):
        raise Refused("neither its headers nor its body name a task and an id")
    task_id, name = body["id"], body["task"]
    options = {**_times(body), "group_id": body.get("taskset"), **_following(body, task_id, name)}
    return Call(name, task_id, body.get("args") or [], body.get("kwargs") or {}, options)


def _times(said: Mapping[str, Any]) -> dict[str, Any]:
    limits = said.get("timelimit")
    hard, soft = limits if isinstance(limits, list | tuple) and len(limits) == 2 else (None, None)
    times = {key: said.get(key) for key in ("eta", "expires")}
    return {**times, "retries": said.get("retries"), "time_limit": hard, "soft_time_limit": soft}


def _following(embed: Mapping[str, Any], task_id: str, name: str) -> dict[str, Any]:
    """What is to follow the call. Raises Refused for a part of a chord, which is counted in Celery's backend."""
    chain = embed.get("chain") or []
    if embed.get("chord") or any(_feeds_chord(each) for each in chain):
        raise Refused(
            "it is a part of a chord, which only Celery's result backend can count: let it end there", task_id, name
        )
    return {"link": embed.get("callbacks") or None, "link_error": embed.get("errbacks") or None, "chain": chain or None}


def _feeds_chord(signature: Any) -> bool:
    said = signature.get("options") if isinstance(signature, dict) else None
    return isinstance(said, dict) and bool(said.get("chord"))
