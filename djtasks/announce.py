"""The signals about a call, in the process that makes it: before and after its message is written.

Receivers see what Celery's see: the headers and the body of its message protocol, and where it goes. It is called only
where a receiver is connected.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from djtasks import calls, masking, signals
from djtasks.conf import settings
from djtasks.current import Frame, running
from djtasks.exceptions import safe_repr
from djtasks.ids import as_task_id, new_task_id
from djtasks.messages import Message
from djtasks.payload import headers_of

#: Headers that a receiver may change, because a call may say them; other changes to what djtasks writes are dropped.
_CHANGEABLE = ("shadow", "argsrepr", "kwargsrepr", "origin", "ignore_result", "root_id", "parent_id")
_TAKES_OVER = frozenset(calls.PROPERTIES)
Body = tuple[Sequence[Any], Mapping[str, Any], dict[str, Any]]


def before(
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    given: Mapping[str, Any],
    task: Any,
    queue: str,
) -> dict[str, Any]:
    """Send `before_task_publish` for a call that goes to `queue`; returns its options as receivers want them.

    That is the same object, where `given` is a dict.

    Headers that they add travel with the message, through its retries, and to what is linked to it. Raises TypeError
    and ValueError for a malformed id.
    """
    options = given if isinstance(given, dict) else dict(given)
    if options.get("task_id") is None:
        options["task_id"] = new_task_id()
    task_id = options["task_id"]
    as_task_id(task_id)
    shown = _shown(name, task_id, args, kwargs, options, running(), task)
    own = dict(shown)
    callers = options.get("headers") or {}
    if not isinstance(callers, Mapping):
        raise TypeError(f"headers must be a mapping, not {safe_repr(callers, 200)}")
    shown.update(callers)
    properties = {"correlation_id": task_id, "reply_to": options.get("reply_to") or ""}
    properties |= {key: options[key] for key in calls.PROPERTIES if options.get(key) is not None}
    told = dict(properties)
    policy = {**settings.TASK_PUBLISH_RETRY_POLICY, **(options.get("retry_policy") or {})}
    signals.before_task_publish.send(
        name,
        body=_body(args, kwargs, options),
        exchange="",
        routing_key=queue,
        headers=shown,
        properties=properties,
        declare=[],
        retry_policy=policy,
    )
    options["retry_policy"] = policy
    _take_over_headers(options, shown, own, callers)
    changed = {key: value for key, value in properties.items() if key not in told or told[key] != value}
    options.update({key: value for key, value in changed.items() if key in _TAKES_OVER or key == "priority"})
    return options


def _take_over_headers(
    options: dict[str, Any], shown: dict[str, Any], own: Mapping[str, Any], callers: Mapping[str, Any]
) -> None:
    """Take over what receivers left in the headers: `own` are those djtasks wrote, `callers` those of the call."""
    said = {key: value for key, value in shown.items() if key not in own}
    options["headers"] = said
    changed = {key for key, value in said.items() if key not in callers or value != callers[key]}
    # What comes from the hooks of a call before this one goes on from hand to hand.
    if hooked := sorted(changed.union(options.get("hooked") or ())):
        options["hooked"] = hooked
    options.update({key: shown[key] for key in _CHANGEABLE if shown.get(key) != own[key]})


def after(message: Message, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Send `after_task_publish`, and `task_sent`, its old name, for a message that has been handed on."""
    said = headers_of(message.headers)
    own_id = said.get("task_id", message.id)
    headers = _shown(message.name, own_id, args, kwargs, options, running(), None)
    headers |= {key: said[key] for key in ("root_id", "parent_id", *_CHANGEABLE) if key in said}
    if message.eta is not None:
        headers["eta"] = _iso(message.eta)
    if message.expires is not None:
        headers["expires"] = _iso(message.expires)
    if "sensitive" in said:
        headers["argsrepr"], headers["kwargsrepr"] = masking.shown(said["sensitive"], args, kwargs)
    headers |= said.get("headers", {})
    body = _body(args, kwargs, options)
    if signals.after_task_publish.receivers:
        signals.after_task_publish.send(
            message.name, headers=headers, body=body, exchange="", routing_key=message.queue
        )
    if signals.task_sent.receivers:
        signals.task_sent.send(
            message.name,
            task_id=own_id,
            task=message.name,
            args=args,
            kwargs=kwargs,
            eta=headers["eta"],
            taskset=headers["group"],
        )


def _body(args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> Body:
    embedded = {
        "callbacks": options.get("link"),
        "errbacks": options.get("link_error"),
        "chain": options.get("chain"),
        "chord": options.get("chord"),
    }
    return args, kwargs, embedded


def _shown(
    name: str,
    task_id: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
    frame: Frame | None,
    task: Any,
) -> dict[str, Any]:
    """The headers of a call as Celery writes them."""
    get = options.get
    request = None if frame is None else frame.request
    sensitive = None if task is None else masking.of(task)
    argsrepr, kwargsrepr = get("argsrepr"), get("kwargsrepr")
    if argsrepr is None or kwargsrepr is None:
        hidden = masking.shown(sensitive, args, kwargs)
        argsrepr = hidden[0] if argsrepr is None else argsrepr
        kwargsrepr = hidden[1] if kwargsrepr is None else kwargsrepr
    expires = get("expires")
    if expires is None and task is not None:
        expires = task.expires
    stamped = list(get("stamped_headers") or ())
    return {
        "lang": "py",
        "task": name,
        "id": task_id,
        "shadow": get("shadow"),
        "eta": _moment(get("countdown") or get("eta")),
        "expires": _moment(expires),
        "group": get("group_id"),
        "group_index": get("group_index"),
        "retries": get("retries") or 0,
        "timelimit": [get("time_limit"), get("soft_time_limit")],
        "root_id": get("root_id") or (task_id if request is None else request.root_id or request.id),
        "parent_id": get("parent_id") or (None if request is None else request.id),
        "argsrepr": argsrepr,
        "kwargsrepr": kwargsrepr,
        "origin": get("origin"),
        "ignore_result": get("ignore_result"),
        "replaced_task_nesting": 0,
        "stamped_headers": stamped or None,
        "stamps": {**(get("stamps") or {}), **{each: options[each] for each in stamped if each in options}},
    }


def _moment(value: Any) -> str | None:
    """When that is, in ISO 8601: seconds from now, or an instant. What is neither is refused where it is used."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        value = value.total_seconds()
    try:
        return (datetime.now(UTC) + timedelta(seconds=float(value))).isoformat()
    except (TypeError, ValueError, OverflowError):
        return safe_repr(value, 200)


def _iso(moment: float) -> str | None:
    try:
        return datetime.fromtimestamp(moment, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return None
