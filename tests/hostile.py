"""Messages that djtasks did not write, or that were spoilt after it had: what a worker may find in its table."""

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from djtasks.exceptions import ContentDisallowed, DecodeError, ImproperlyConfigured, InvalidTaskError, PayloadTooLarge
from djtasks.ids import new_task_id
from djtasks.messages import Message


class Bad(NamedTuple):
    """What is wrong with a message, and the exception in which it ends."""

    #: Fields of the message.
    said: Mapping[str, Any]
    error: type[Exception]
    #: A part of the exception's text.
    says: str

    def message(self, name: str, queue: str = "celery") -> Message:
        """A message of the task of this name, which takes one argument."""
        return Message(new_task_id(), name, queue, b"[[1],{}]")._replace(**self.said)


def _body(body: bytes, error: type[Exception], says: str) -> Bad:
    return Bad({"body": body}, error, says)


def _encoded(body: bytes, encoding: str, error: type[Exception], says: str) -> Bad:
    return Bad({"body": body, "content_encoding": encoding}, error, says)


def _typed(body: bytes, content_type: str, error: type[Exception], says: str) -> Bad:
    return Bad({"body": body, "content_type": content_type}, error, says)


def _headers(headers: str, error: type[Exception], says: str) -> Bad:
    return Bad({"headers": headers}, error, says)


_UNREADABLE = "the headers of the message cannot be read"
_NO_OBJECT = "the headers of a message must be an object, not "

#: Headers that no message of ours has.
HEADERS: dict[str, Bad] = {
    "headers that end too early": _headers("{", DecodeError, _UNREADABLE),
    "headers that are no JSON": _headers("x", DecodeError, _UNREADABLE),
    "headers that are nested too deeply": _headers("[" * 100_000, DecodeError, _UNREADABLE),
    "headers of a type that nobody knows": _headers('{"__type__":"nope","__value__":1}', DecodeError, "'nope'"),
    "headers with a broken value": _headers('{"x":{"__type__":"uuid","__value__":5}}', DecodeError, _UNREADABLE),
    "headers that are a list": _headers("[]", InvalidTaskError, _NO_OBJECT + "[]"),
    "headers that are null": _headers("null", InvalidTaskError, _NO_OBJECT + "None"),
    "headers that are a number": _headers("7", InvalidTaskError, _NO_OBJECT + "7"),
    "time limits that are a number": _headers('{"timelimit":5}', InvalidTaskError, "must be [hard, soft], not 5"),
    "time limits that are one": _headers('{"timelimit":[1]}', InvalidTaskError, "must be [hard, soft], not [1]"),
    "own headers that are a number": _headers('{"headers":5}', InvalidTaskError, "headers must be an object, not 5"),
}

BAD: dict[str, Bad] = {
    "a body that is no UTF-8": _body(b"\xff", DecodeError, "json cannot decode the bytes"),
    "an empty body": _body(b"", DecodeError, "json cannot decode the bytes"),
    "a body that is nested too deeply": _body(b"[" * 100_000, DecodeError, "nested too deeply"),
    "a number of 5,000 digits": _body(b"[[" + b"9" * 5000 + b"],{}]", DecodeError, "4300 digits"),
    "a type that nobody knows": _body(
        b'[[{"__type__":"nope","__value__":1}],{}]', DecodeError, "the type 'nope' is not registered here"
    ),
    "a body that is no list": _body(b"{}", InvalidTaskError, "must be [args, kwargs], not {}"),
    "a body of other things": _body(b"[1,2]", InvalidTaskError, "must be [list, dict], not [1, 2]"),
    "a name with NUL": _body(b'[[],{"\\u0000":1}]', TypeError, "unexpected keyword argument"),
    "a name with half a pair": _body(b'[[],{"\\ud800":1}]', TypeError, "unexpected keyword argument"),
    "an unknown compression": _encoded(b"x", "rot13", ImproperlyConfigured, "no compression is called 'rot13'"),
    "broken compression": _encoded(b"x\x9c no", "gzip", DecodeError, "the gzip data is broken"),
    "a bomb": _encoded(zlib.compress(b" " * 70_000_000), "gzip", PayloadTooLarge, "would be over 64,000,000 bytes"),
    "an unknown content type": _typed(
        b"x", "application/x-nope", ContentDisallowed, "'application/x-nope' was refused"
    ),
    "pickle": _typed(
        b"cos\nsystem\n(S'false'\ntR.", "application/x-python-serialize", ContentDisallowed, "can run any code"
    ),
    **HEADERS,
}

#: Nothing is wrong with it.
GOOD = Bad({}, Exception, "")

#: Bodies with an argument that no column of text could hold, or that JSON does not really have; and its repr.
ODD: list[tuple[bytes, str]] = [
    (b'[["\\u0000"],{}]', r"'\x00'"),
    (b'[["\\ud800"],{}]', r"'\ud800'"),
    (b"[[NaN],{}]", "nan"),
    (b"[[-Infinity],{}]", "-inf"),
]

#: Time limits, as JSON, that can be none: the task's own hold.
ODD_LIMITS = ["-1", "0", "NaN", "1e400", "-Infinity", "9" * 401, "true", '"5"', "[]"]
