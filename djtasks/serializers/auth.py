"""Signed calls: the serializer `auth`.

A signed body is a line of JSON (who signed, how, the content type of the rest) and the call as another serializer wrote
it. The signature is over the id of the call, the name of its task, what is to follow it (callbacks, a chain …) and the
arguments: a body that is put under another id or name is as altered as one with another argument. Queue, priority,
times and the other headers are not signed. It is not the format of Celery's serializer of that name, which signs the
arguments alone.
"""

import json
from base64 import b64decode, b64encode
from typing import Any, Final, NamedTuple, NoReturn

from djtasks.exceptions import DecodeError, EncodeError, SecurityError
from djtasks.serializers import certificates
from djtasks.serializers.certificates import Signature

NAME: Final = "auth"
CONTENT_TYPE: Final = "application/x-djtasks-signed"
NAMES: Final = frozenset({NAME, CONTENT_TYPE})
#: The headers that name further calls: a worker would sign these as its own.
SIGNED_HEADERS: Final = ("callbacks", "errbacks", "chain", "chord")
_PURPOSE: Final = b"djtasks call 1"
_LINE_MAX: Final = 10_000


class Call(NamedTuple):
    """What a signature is over, beside the arguments."""

    id: str
    name: str
    #: The headers of the message: JSON text, or None.
    headers: str | None


class _Envelope(NamedTuple):
    signature: Signature
    content_type: str
    content: bytes


def seal(call: Call, content_type: str, content: bytes) -> bytes:
    """The signed body of a call. Raises ImproperlyConfigured, SecurityError when our certificate has expired."""
    signature = certificates.sign(_signed(call, content_type, content))
    line = json.dumps(
        {
            "signer": signature.signer,
            "digest": signature.digest,
            "signature": b64encode(signature.value).decode(),
            "content_type": content_type,
        }
    )
    return b"%s\n%s" % (line.encode(), content)


def unseal(call: Call, body: bytes) -> tuple[str, bytes]:
    """The content type and the content of a signed body, once the signature has been found good.

    Raises SecurityError, DecodeError for what is no signed body, ImproperlyConfigured.
    """
    envelope = _open(body)
    certificates.verify(envelope.signature, _signed(call, envelope.content_type, envelope.content))
    return envelope.content_type, envelope.content


def peek(body: bytes) -> tuple[str, bytes]:
    """The content type and the content of a signed body; nobody has looked at the signature. Raises DecodeError."""
    envelope = _open(body)
    return envelope.content_type, envelope.content


def _open(body: bytes) -> _Envelope:
    line, newline, content = body.partition(b"\n")
    try:
        if not newline or len(line) > _LINE_MAX:
            raise ValueError("its first line is missing or too long")
        said = json.loads(line)
        texts = [said[key] for key in ("signer", "digest", "content_type", "signature")]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("its first line does not hold texts")
        signer, digest, content_type, signature = texts
        return _Envelope(Signature(signer, digest, b64decode(signature, validate=True)), content_type, content)
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise DecodeError(f"this is no signed call: {type(error).__name__}: {error}") from None


def _signed(call: Call, content_type: str, content: bytes) -> bytes:
    """The bytes that are signed: each part after its length, so that no two calls have the same ones."""
    parts = (
        _PURPOSE,
        call.id.encode(),
        call.name.encode(),
        _what_follows(call.headers),
        content_type.encode(),
        content,
    )
    return b"".join(len(part).to_bytes(8) + part for part in parts)


def _what_follows(headers: str | None) -> bytes:
    """The signed headers in one form, whatever blanks and order the text has."""
    if not headers:
        return b""
    try:
        said = json.loads(headers)
        found = {key: said[key] for key in SIGNED_HEADERS if said.get(key)}
        return json.dumps(found, sort_keys=True).encode() if found else b""
    except (AttributeError, RecursionError, ValueError) as error:
        raise SecurityError(f"the headers of a signed call cannot be read: {error}") from None


def dumps(value: Any) -> NoReturn:
    """What is no call is not signed. Raises ImproperlyConfigured when calls cannot be, and else EncodeError."""
    certificates.check()
    raise EncodeError("only calls are signed: choose another serializer for results")


def loads(body: bytes) -> NoReturn:
    """Raises DecodeError: a signature is over more than the bytes."""
    raise DecodeError("a signed call is read together with its id and name, by a worker")
