"""JSON, with the few types that JSON lacks and tasks are called with.

datetime, date, time, Decimal, UUID and bytes travel as `{"__type__": name, "__value__": text}`, which is kombu's wire
form, so that messages can be exchanged with Celery. A dict of the caller that happens to look like this is wrapped,
and comes back as it was. Tuples come back as lists; lazy texts as texts; objects with a `__json__` method as what it
returned. NaN and the infinities, lone surrogates and "\\u0000" round-trip.
"""

import base64
import datetime
import json
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from django.utils.functional import Promise

CONTENT_TYPE: Final = "application/json"
_TYPE, _VALUE = "__type__", "__value__"
_MARKER_KEYS: Final = {_TYPE, _VALUE}
_MARKER_TEXT: Final = '"__type__"'
#: The wrapping of a caller's own dict with those two keys.
_DICT: Final = "dict"

Encode = Callable[[Any], Any]
Decode = Callable[[Any], Any]

_encoders: dict[type, tuple[str, Encode]] = {}
_decoders: dict[str, Decode] = {}


def register_type(cls: type, marker: str, encode: Encode, decode: Decode) -> None:
    """Let instances of `cls` travel as `{"__type__": marker, "__value__": encode(instance)}`.

    Both the caller and the worker must have registered it. A later one takes the place of an earlier one.
    """
    _encoders[cls] = (marker, encode)
    _decoders[marker] = decode


def dumps(value: Any) -> bytes:
    """`value` as JSON, in ASCII. Raises TypeError, ValueError or RecursionError."""
    text = _encode(value)
    if _MARKER_TEXT in text and _looks_marked(value):
        text = _encode(_wrapped(value))
    return text.encode()


def loads(body: bytes) -> Any:
    """The value that `body`, in UTF-8, stands for. Raises ValueError or RecursionError."""
    text = str(body, "utf-8")
    # Without a marker the hook, a call for each object, would find nothing to do.
    decoder = _marked_decoder if _MARKER_TEXT in text else _decoder
    try:
        value, end = decoder.raw_decode(text)
    except ValueError:
        end = -1
    # decode() looks for blanks at both ends, which takes as long as a short text itself; our own texts have none.
    return value if end == len(text) else decoder.decode(text)


def _default(value: Any) -> Any:
    reduce = getattr(value, "__json__", None)
    if reduce is not None:
        return reduce()
    if isinstance(value, Promise):
        return str(value)
    for cls in type(value).__mro__:
        if cls in _encoders:
            marker, encode = _encoders[cls]
            return {_TYPE: marker, _VALUE: encode(value)}
    if isinstance(value, bytes | bytearray | memoryview):
        return _bytes(bytes(value))
    hint = "convert it before the call, or give its class a __json__ method"
    if hasattr(value, "_meta") and hasattr(value, "pk"):
        hint = "pass its pk, and load it in the task"
    raise TypeError(f"{type(value).__name__} is no type that JSON can carry; {hint}")


def _bytes(value: bytes) -> dict[str, str]:
    try:
        return {_TYPE: "bytes", _VALUE: value.decode()}
    except UnicodeDecodeError:
        return {_TYPE: "base64", _VALUE: base64.b64encode(value).decode()}


def _marked(pairs: dict[str, Any]) -> Any:
    """What an object stands for: the value of its wire form, or the object itself."""
    if pairs.keys() != _MARKER_KEYS:
        return pairs
    marker = pairs[_TYPE]
    decode = _decoders.get(marker) if isinstance(marker, str) else None
    if decode is None:
        raise ValueError(f"the type {marker!r} is not registered here; call serializers.register_type for it")
    return decode(pairs[_VALUE])


def _looks_marked(value: Any) -> bool:
    """Whether a dict of the caller's, at any depth, would be taken for the wire form."""
    if isinstance(value, dict):
        return value.keys() == _MARKER_KEYS or any(_looks_marked(each) for each in value.values())
    return isinstance(value, list | tuple) and any(_looks_marked(each) for each in value)


def _wrapped(value: Any) -> Any:
    if isinstance(value, dict):
        copy = {key: _wrapped(each) for key, each in value.items()}
        return {_TYPE: _DICT, _VALUE: list(copy.items())} if value.keys() == _MARKER_KEYS else copy
    return [_wrapped(each) for each in value] if isinstance(value, list | tuple) else value


def _make_encode() -> Callable[[Any], str]:
    """`JSONEncoder.encode`, which makes its C encoder anew at each call, with one that is made once.

    The C encoder's arguments are no promise of the standard library: where they do not fit, its own way is taken.
    """
    slow = json.JSONEncoder(separators=(",", ":"), default=_default).encode
    make = getattr(json.encoder, "c_make_encoder", None)
    sample = [1, {"a": "\u00e9", "b": [None, True]}, "c"]
    try:
        escape = json.encoder.encode_basestring_ascii
        chunks = make(None, _default, escape, None, ":", ",", False, False, True)  # type: ignore[misc]
        if "".join(chunks(sample, 0)) != slow(sample):
            return slow
    except TypeError:
        return slow

    def encode(value: Any) -> str:
        try:
            return "".join(chunks(value, 0))
        except RecursionError:
            # Too deep, or a value that contains itself: the other way tells which.
            return slow(value)

    return encode


_encode = _make_encode()
_decoder = json.JSONDecoder()
_marked_decoder = json.JSONDecoder(object_hook=_marked)

register_type(datetime.datetime, "datetime", datetime.datetime.isoformat, datetime.datetime.fromisoformat)
register_type(datetime.date, "date", datetime.date.isoformat, lambda text: datetime.datetime.fromisoformat(text).date())
register_type(datetime.time, "time", datetime.time.isoformat, datetime.time.fromisoformat)
register_type(Decimal, "decimal", str, Decimal)
register_type(uuid.UUID, "uuid", lambda value: {"hex": value.hex}, lambda parts: uuid.UUID(hex=parts["hex"]))
_decoders["bytes"] = str.encode
_decoders["base64"] = base64.b64decode
_decoders[_DICT] = dict
