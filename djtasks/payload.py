"""What calls and results carry, as bytes: serialised, compressed, and measured against the limits.

The body of a call is `[args, kwargs]`. Everything here is pure but for the settings it reads.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from djtasks.compression import canonical, compress, decompress
from djtasks.conf import settings
from djtasks.current import hider
from djtasks.exceptions import (
    DjtasksError,
    ImproperlyConfigured,
    InvalidTaskError,
    PayloadTooLarge,
    SecurityError,
    safe_repr,
)
from djtasks.messages import Claimed
from djtasks.serializers import accepts, auth, certificates, dumps, loads
from djtasks.serializers.exceptions import encode_exception, exception_from_data

logger = logging.getLogger("djtasks")

#: What is signed of a chord is no call of a task of this name.
_BODY = "the body of a chord"
#: Content type, content encoding ("" for no compression), body.
Payload = tuple[str, str, bytes]


def pack_call(
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    serializer: str | None,
    compression: str | None,
    task_id: str = "",
    headers: str | None = None,
) -> Payload:
    """The arguments of a call of the task `name`, as its message carries them. None means as the settings say.

    The id and the headers of the message are signed with them, where the serializer is auth. Raises EncodeError,
    PayloadTooLarge, ImproperlyConfigured, SecurityError.
    """
    chosen = serializer or settings.TASK_SERIALIZER
    if chosen in auth.NAMES:
        inner, content = dumps((args, kwargs), certificates.inner())
        content_type, body = auth.CONTENT_TYPE, auth.seal(auth.Call(task_id, name, headers), inner, content)
    else:
        content_type, body = dumps((args, kwargs), chosen)
    method = compression or settings.TASK_COMPRESSION
    if method:
        encoding, body = _compressed(method, body, f"the arguments of {name}")
    else:
        encoding = ""
    if len(body) > settings.PAYLOAD_WARN_BYTES:
        if len(body) > settings.PAYLOAD_MAX_BYTES:
            raise PayloadTooLarge(
                f"the arguments of {name} are {len(body):,} bytes, over PAYLOAD_MAX_BYTES"
                f" ({settings.PAYLOAD_MAX_BYTES:,}); store the data and pass its key"
            )
        logger.warning(
            "the arguments of %s are %s bytes, over PAYLOAD_WARN_BYTES (%s): store the data and pass its key",
            name,
            f"{len(body):,}",
            f"{settings.PAYLOAD_WARN_BYTES:,}",
        )
    return content_type, encoding, body


def unpack_call(
    body: bytes,
    content_type: str,
    content_encoding: str,
    name: str | None = None,
    task_id: str | None = None,
    headers: str | None = None,
) -> tuple[Sequence[Any], dict[str, Any]]:
    """The positional and the named arguments of a message; name, id and headers are those of its row.

    Raises ContentDisallowed, SecurityError (a bad signature), DecodeError, PayloadTooLarge, InvalidTaskError,
    ImproperlyConfigured.
    """
    if content_encoding:
        body = decompress(body, content_encoding, settings.DECOMPRESSED_MAX_BYTES)
    if content_type == auth.CONTENT_TYPE and not auth.NAMES.isdisjoint(settings.ACCEPT_CONTENT):
        content_type, body = auth.unseal(auth.Call(task_id or "", name or "", headers), body)
        call = loads(body, content_type, (*settings.ACCEPT_CONTENT, certificates.inner()))
    else:
        call = loads(body, content_type, settings.ACCEPT_CONTENT)
    if not isinstance(call, list | tuple) or len(call) != 2:
        raise InvalidTaskError(f"the body of a message must be [args, kwargs], not {safe_repr(call, 200)}")
    args, kwargs = call
    if not isinstance(args, list | tuple) or not isinstance(kwargs, dict):
        raise InvalidTaskError(f"the body of a message must be [list, dict], not {safe_repr(call, 200)}")
    return args, kwargs


def is_genuine(message: Claimed) -> bool:
    """Whether a message that did not run may be taken at its word: where calls are signed, only after its signature.

    What follows a task is sent in our own name, so that it must not be read off a message that anyone may have written.
    """
    if auth.NAMES.isdisjoint(settings.ACCEPT_CONTENT):
        return True
    if message.content_type != auth.CONTENT_TYPE:
        return accepts(settings.ACCEPT_CONTENT, message.content_type)
    try:
        body = message.body
        if message.content_encoding:
            body = decompress(body, message.content_encoding, settings.DECOMPRESSED_MAX_BYTES)
        auth.unseal(auth.Call(message.id, message.name, message.headers), body)
    except (DjtasksError, MemoryError):
        return False
    return True


def reseal(message: Claimed, task_id: str, headers: str) -> Payload:
    """The body of a message for a copy of it, of another id and other headers: a signed one is signed in our name.

    Raises SecurityError for one whose own signature is not good, DecodeError, ImproperlyConfigured.
    """
    content_type, encoding, body = message.content_type, message.content_encoding, message.body
    if content_type != auth.CONTENT_TYPE or auth.NAMES.isdisjoint(settings.ACCEPT_CONTENT):
        return content_type, encoding, body
    if encoding:
        body = decompress(body, encoding, settings.DECOMPRESSED_MAX_BYTES)
    inner, content = auth.unseal(auth.Call(message.id, message.name, message.headers), body)
    body = auth.seal(auth.Call(task_id, message.name, headers), inner, content)
    return content_type, encoding, compress(body, encoding) if encoding else body


def pack_body(chord: str, name: str, text: str) -> str:
    """The signature of a chord's body, of the task `name`, as the chord's row carries it.

    That is JSON. Where calls are signed, it is signed too. Raises ImproperlyConfigured, SecurityError.
    """
    if settings.TASK_SERIALIZER not in auth.NAMES:
        return text
    sealed = auth.seal(auth.Call(chord, _BODY, None), "application/json", text.encode())
    return json.dumps({"signed": sealed.decode(), "task": name})


def unpack_body(chord: str, text: str) -> str:
    """The signature of a chord's body, as JSON.

    Raises DecodeError, SecurityError when it is not signed as it has to be.
    """
    known = not auth.NAMES.isdisjoint(settings.ACCEPT_CONTENT)
    if text.startswith('{"signed":'):
        sealed = headers_of(text).get("signed", "").encode()
        call = auth.Call(chord, _BODY, None)
        return (auth.unseal(call, sealed) if known else auth.peek(sealed))[1].decode()
    if known and not accepts(settings.ACCEPT_CONTENT, "application/json"):
        raise SecurityError("the body of the chord is not signed, and only signed calls are accepted here")
    return text


def headers_of(text: str | None) -> dict[str, Any]:
    """The headers of a message, for who must go on whatever they are: {} for what is no JSON object."""
    if not text:
        return {}
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def pack_value(value: Any) -> Payload:
    """What a task returned, or the meta of a custom state, as its result row carries it.

    Raises EncodeError, PayloadTooLarge, ImproperlyConfigured.
    """
    content_type, body = dumps(value, settings.RESULT_SERIALIZER)
    encoding = ""
    if settings.RESULT_COMPRESSION:
        encoding, body = _compressed(settings.RESULT_COMPRESSION, body, "the result")
    if len(body) > settings.RESULT_MAX_BYTES:
        raise PayloadTooLarge(
            f"the result is {len(body):,} bytes, over RESULT_MAX_BYTES ({settings.RESULT_MAX_BYTES:,});"
            " store the data and return its key"
        )
    return content_type, encoding, body


def pack_exception(error: BaseException) -> Payload:
    """An exception as a result row carries it. Never raises: what is too large is replaced by its beginning."""
    hide = hider()
    try:
        content_type, body = encode_exception(error, settings.RESULT_SERIALIZER, hide)
    except ImproperlyConfigured:
        content_type, body = encode_exception(error, hide=hide)
    if len(body) > settings.RESULT_MAX_BYTES:
        text = f"{type(error).__qualname__} of {len(body):,} bytes, over RESULT_MAX_BYTES: {safe_repr(error)}"
        text = text if hide is None else hide(text)
        content_type, body = encode_exception(PayloadTooLarge(text))
    return content_type, "", body


def unpack_value(body: bytes, content_type: str, content_encoding: str) -> Any:
    """What a task returned. Raises ContentDisallowed, DecodeError, PayloadTooLarge, ImproperlyConfigured."""
    if content_encoding:
        body = decompress(body, content_encoding, settings.DECOMPRESSED_MAX_BYTES)
    return loads(body, content_type, settings.RESULT_ACCEPT_CONTENT)


def unpack_exception(body: bytes, content_type: str, content_encoding: str) -> Any:
    """The exception that a task ended with; another value, where `update_state` stored one. JSON is always read.

    Raises as `unpack_value` does.
    """
    if content_encoding:
        body = decompress(body, content_encoding, settings.DECOMPRESSED_MAX_BYTES)
    data = loads(body, content_type, (*settings.RESULT_ACCEPT_CONTENT, "json"))
    return exception_from_data(data) if isinstance(data, Mapping) and "exc_type" in data else data


def _compressed(method: str, body: bytes, what: str) -> tuple[str, bytes]:
    if len(body) > settings.DECOMPRESSED_MAX_BYTES:
        raise PayloadTooLarge(
            f"{what}, uncompressed, would be {len(body):,} bytes, over DECOMPRESSED_MAX_BYTES"
            f" ({settings.DECOMPRESSED_MAX_BYTES:,}), and could not be read again"
        )
    encoding = canonical(method)
    return encoding, compress(body, encoding)
