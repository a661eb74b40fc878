"""Values to bytes and back, by the name of a serializer or by content type.

json is the default. pickle, yaml (safe), msgpack and auth (signed calls) are there, and are read only where
ACCEPT_CONTENT names them; the libraries of the last three are asked for when they are first used. `register` adds
another one.
"""

import difflib
import pickle
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from djtasks.exceptions import (
    ContentDisallowed,
    DecodeError,
    EncodeError,
    ImproperlyConfigured,
    SoftTimeLimitExceeded,
)
from djtasks.serializers import auth, json, more
from djtasks.serializers.json import register_type

__all__ = ["Serializer", "accepts", "dumps", "find", "loads", "names", "register", "register_type", "unregister"]


#: Raised while a value is encoded, and not because of the value: a soft time limit may strike anywhere in a task.
_OTHERS = (ImproperlyConfigured, MemoryError, SoftTimeLimitExceeded)


class Serializer(NamedTuple):
    """One way of turning values into bytes."""

    name: str
    #: Returns bytes, or text.
    dumps: Callable[[Any], Any]
    loads: Callable[[bytes], Any]
    content_type: str


_by_name: dict[str, Serializer] = {}
_by_content_type: dict[str, Serializer] = {}


def register(name: str, dumps: Callable[[Any], Any], loads: Callable[[Any], Any], content_type: str) -> None:
    """Add a serializer, or replace the one of this name.

    `dumps` may return bytes or text, which is stored in UTF-8; `loads` gets bytes. Whatever they raise reaches users as
    EncodeError and DecodeError.
    """
    unregister(name)
    _by_name[name] = _by_content_type[content_type] = Serializer(name, dumps, loads, content_type)


def unregister(name: str) -> None:
    """Take a serializer out, if it is there."""
    if (serializer := _by_name.pop(name, None)) is not None:
        _by_content_type.pop(serializer.content_type, None)


def names() -> list[str]:
    """The names of all serializers, in order."""
    return sorted(_by_name)


def find(name: str) -> Serializer:
    """The serializer of this name or content type. Raises ImproperlyConfigured."""
    serializer = _by_name.get(name) or _by_content_type.get(name)
    if serializer is None:
        near = difflib.get_close_matches(str(name), _by_name, n=1)
        guess = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names())}"
        raise ImproperlyConfigured(f"no serializer is called {name!r}; {guess}")
    return serializer


def dumps(value: Any, serializer: str = "json") -> tuple[str, bytes]:
    """The content type of `value` as the serializer of this name encodes it, and the bytes.

    Raises EncodeError when the value cannot be encoded, ImproperlyConfigured when there is no such serializer or its
    library is missing.
    """
    chosen = _by_name.get(serializer) or find(serializer)
    try:
        body = chosen.dumps(value)
    except _OTHERS:
        raise
    except RecursionError as error:
        raise EncodeError(f"{chosen.name} cannot encode the value: it is nested too deeply") from error
    except Exception as error:
        raise EncodeError(f"{chosen.name} cannot encode the value: {error}") from error
    return chosen.content_type, body if isinstance(body, bytes) else str(body).encode()


def loads(body: bytes, content_type: str, accept: Collection[str]) -> Any:
    """The value of `body`. `accept` holds the names or content types of the serializers that may be used.

    Raises ContentDisallowed, without looking at the body, when `content_type` is not accepted; DecodeError when the
    body is broken or no serializer has the content type; ImproperlyConfigured when its library is missing.
    """
    chosen = _by_content_type.get(content_type)
    if content_type not in accept and (chosen is None or chosen.name not in accept):
        raise _disallowed(content_type, chosen, accept)
    if chosen is None:
        raise DecodeError(f"no serializer here reads {content_type!r}; register it where the worker can import it")
    try:
        return chosen.loads(body)
    except _OTHERS:
        raise
    except RecursionError as error:
        raise DecodeError(f"{chosen.name} cannot decode the bytes: the value is nested too deeply") from error
    except Exception as error:
        raise DecodeError(f"{chosen.name} cannot decode the bytes: {type(error).__name__}: {error}") from error


def accepts(accept: Collection[str], content_type: str) -> bool:
    """Whether `loads` would look at bytes of this content type."""
    chosen = _by_content_type.get(content_type)
    return content_type in accept or (chosen is not None and chosen.name in accept)


def _disallowed(content_type: str, serializer: Serializer | None, accept: Collection[str]) -> ContentDisallowed:
    name = serializer.name if serializer else content_type
    accepted = ", ".join(sorted(accept)) or "nothing"
    cure = f"to read it, add {name!r} to ACCEPT_CONTENT (RESULT_ACCEPT_CONTENT for results)"
    if name == "pickle":
        cure += "; do so only if you trust everyone who can write to the database: reading pickle can run any code"
    return ContentDisallowed(f"content of type {content_type!r} was refused, for only {accepted} is accepted; {cure}")


register("json", json.dumps, json.loads, json.CONTENT_TYPE)
# Protocol 5 is what every supported Python reads.
register("pickle", lambda value: pickle.dumps(value, 5), pickle.loads, "application/x-python-serialize")
register("yaml", more.yaml_dumps, more.yaml_loads, "application/x-yaml")
register(auth.NAME, auth.dumps, auth.loads, auth.CONTENT_TYPE)
register("msgpack", more.msgpack_dumps, more.msgpack_loads, "application/x-msgpack")
