"""Arrays for batches, in PostgreSQL's binary format.

psycopg's own lists are dumped element by element in Python, which cost a third of a worker's time. Most columns of a
batch hold one value over and over (the state, the content type, no traceback), and that is one multiplication here.

Source of the format: `array_recv` in PostgreSQL's src/backend/utils/adt/arrayfuncs.c.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import psycopg
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEAD = struct.Struct("!iiIii")
_NULL = b"\xff\xff\xff\xff"
_INT8, _INT4, _INT2, _FLOAT8 = (struct.Struct(form) for form in ("!iq", "!ii", "!ih", "!id"))
_TRUE, _FALSE = b"\0\0\0\x01\x01", b"\0\0\0\x01\x00"
_LENGTH = struct.Struct("!i")


class Array:
    """The elements of an array as PostgreSQL reads them."""

    element: ClassVar[int]
    __slots__ = ("data",)

    def __init__(self, values: Sequence[Any]) -> None:
        count = len(values)
        if not count:
            self.data = _HEAD.pack(0, 0, self.element, 0, 1)[:12]
            return
        first = values[0]
        encode = self.encode
        if values.count(first) == count:
            body = (_NULL if first is None else encode(first)) * count
        else:
            body = b"".join([_NULL if value is None else encode(value) for value in values])
        # The flag for NULLs is only a hint.
        self.data = _HEAD.pack(1, 1, self.element, count, 1) + body

    @staticmethod
    def encode(value: Any) -> bytes:
        """One element: its length in bytes, then itself."""
        raise TypeError("an Array is made of a type of its own")


def _sized(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _array(name: str, element: int, encode: Callable[[Any], bytes]) -> type[Array]:
    return type(name, (Array,), {"__slots__": (), "element": element, "encode": staticmethod(encode)})


Uuids = _array("Uuids", 2950, lambda text: b"\0\0\0\x10" + bytes.fromhex(text.replace("-", "")))
Texts = _array("Texts", 25, lambda text: _sized(_text(text)))
Blobs = _array("Blobs", 17, _sized)
Bigints = _array("Bigints", 20, lambda number: _INT8.pack(8, number))
Integers = _array("Integers", 23, lambda number: _INT4.pack(4, number))
Smallints = _array("Smallints", 21, lambda number: _INT2.pack(2, number))
Floats = _array("Floats", 701, lambda number: _FLOAT8.pack(8, number))
Booleans = _array("Booleans", 16, lambda value: _TRUE if value else _FALSE)

#: The array type's own number, by the class of its values.
_OIDS = {
    Uuids: 2951,
    Texts: 1009,
    Blobs: 1001,
    Bigints: 1016,
    Integers: 1007,
    Smallints: 1005,
    Floats: 1022,
    Booleans: 1000,
}


def _text(text: str) -> bytes:
    if "\0" in text:
        raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    return text.encode()


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Array) -> Buffer:
        return obj.data


_DUMPERS = {cls: type(f"{cls.__name__}Dumper", (_ArrayDumper,), {"oid": oid}) for cls, oid in _OIDS.items()}


def register(context: AdaptContext) -> None:
    """Let a connection, or a cursor, take these arrays as parameters."""
    if (adapters := context.adapters) is not None:
        for cls, dumper in _DUMPERS.items():
            adapters.register_dumper(cls, dumper)
