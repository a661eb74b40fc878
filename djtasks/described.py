"""Messages as others are told of them: with their arguments, without what is sensitive, in what JSON can say."""

import math
from collections.abc import Mapping
from typing import Any, Final

from djtasks import masking
from djtasks.current import Context, context_of
from djtasks.exceptions import DecodeError, InvalidTaskError, safe_repr
from djtasks.messages import Claimed
from djtasks.payload import unpack_call

#: So much of a value is told: characters of a text, members of a container, levels of containers.
LONGEST: Final = 4096
MOST: Final = 256
DEEPEST: Final = 12


def request_of(message: Claimed, hostname: str) -> Context:
    """The request of a message that does not run here; without what cannot be read of it."""
    args: Any
    kwargs: Any
    try:
        args, kwargs = unpack_call(
            message.body, message.content_type, message.content_encoding, message.name, message.id, message.headers
        )
    except Exception:
        # A serializer of the project's own may raise anything.
        args = kwargs = None
    try:
        return context_of(message, args, kwargs, hostname)
    except (DecodeError, InvalidTaskError):
        return context_of(message._replace(headers=None), args, kwargs, hostname)


def info(
    message: Claimed,
    hostname: str | None,
    *,
    time_start: float | None = None,
    worker_pid: int | None = None,
    running: bool = False,
) -> dict[str, Any]:
    """A message as `inspect` shows it; `time_start` in seconds since the epoch."""
    request = request_of(message, hostname or "")
    args, kwargs = masking.mask(request.sensitive, request.args, request.kwargs)
    return {
        "id": str(request.id or message.id),
        "name": str(request.shadow or message.name),
        "args": plain(args),
        "kwargs": plain(kwargs),
        "type": message.name,
        "hostname": hostname,
        "time_start": time_start,
        "acknowledged": running and not message.rerun,
        "delivery_info": request.delivery_info,
        "worker_pid": worker_pid,
    }


def plain(value: Any, longest: int = LONGEST, most: int = MOST, depth: int = 0) -> Any:
    """`value` in what jsonb can hold: other objects as their repr, containers of `most` members at the most."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if value.bit_length() < 1000 else safe_repr(value, 200)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _text(value, longest)
    if depth < DEEPEST:
        if isinstance(value, Mapping):
            some = list(value.items())[:most]
            return {_text(str(key), longest): plain(each, longest, most, depth + 1) for key, each in some}
        if isinstance(value, list | tuple | set | frozenset):
            members = list(value)
            left = [] if len(members) <= most else [f"… {len(members) - most} more"]
            return [plain(each, longest, most, depth + 1) for each in members[:most]] + left
    return _text(safe_repr(value), longest)


def _text(text: str, longest: int) -> str:
    if len(text) > longest:
        text = text[:longest] + "…"
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
