"""Bytes to fewer bytes and back, with a bound on what they may grow to.

gzip is zlib's format, as Celery writes it; reading takes both. zstd is in the standard library from Python 3.14 on, and
an extra before; brotli is an extra.
"""

import difflib
import sys
import zlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from djtasks.exceptions import DecodeError, ImproperlyConfigured, PayloadTooLarge, SoftTimeLimitExceeded
from djtasks.serializers.optional import library

#: The names that a caller may use, Celery's and content types among them, to the name that is stored.
ALIASES: Final = {
    "gzip": "gzip",
    "zlib": "gzip",
    "application/x-gzip": "gzip",
    "bzip2": "bzip2",
    "bzip": "bzip2",
    "bz2": "bzip2",
    "application/x-bz2": "bzip2",
    "lzma": "lzma",
    "xz": "lzma",
    "application/x-lzma": "lzma",
    "zstd": "zstd",
    "zstandard": "zstd",
    "application/zstd": "zstd",
    "brotli": "brotli",
    "br": "brotli",
    "application/x-brotli": "brotli",
}
#: What LZMA may need to be read; its strongest preset needs 65 MiB.
_LZMA_MEMORY: Final = 128 * 1024 * 1024
#: Of 11. The best one takes a hundred times as long as gzip: it is made for what is compressed once and sent for ever.
_BROTLI_QUALITY: Final = 5
#: zlib: find out by the header whether it is zlib's format or gzip's.
_ANY_HEADER: Final = zlib.MAX_WBITS | 32


class _TooLarge(Exception):
    """It would grow over the limit."""


class _Method(NamedTuple):
    compress: Callable[[bytes], bytes]
    #: Raises _TooLarge, or anything else when the bytes are broken.
    decompress: Callable[[bytes, int], bytes]


def canonical(name: str) -> str:
    """The name under which a compression is stored: gzip, bzip2, lzma, zstd or brotli. Raises ImproperlyConfigured."""
    try:
        return ALIASES[name]
    except (KeyError, TypeError):
        near = difflib.get_close_matches(str(name), ALIASES, n=1)
        guess = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_METHODS)}"
        raise ImproperlyConfigured(f"no compression is called {name!r}; {guess}") from None


def check(name: str) -> str:
    """`canonical(name)`, once its library has been found. Raises ImproperlyConfigured."""
    method = canonical(name)
    _METHODS[method].compress(b"")
    return method


def compress(data: bytes, method: str) -> bytes:
    """`data`, compressed by the method of this name. Raises ImproperlyConfigured."""
    return _METHODS[canonical(method)].compress(data)


def decompress(data: bytes, method: str, limit: int) -> bytes:
    """What was compressed by the method of this name; `limit` bytes at most are made of it.

    Raises PayloadTooLarge when it would be more, DecodeError when it is broken, ImproperlyConfigured when there is no
    such method or its library is missing.
    """
    name = canonical(method)
    try:
        return _METHODS[name].decompress(data, limit)
    except _TooLarge:
        cure = "call the task with less, or raise DECOMPRESSED_MAX_BYTES"
        raise PayloadTooLarge(f"decompressed, the {name} data would be over {limit:,} bytes; {cure}") from None
    except (ImproperlyConfigured, MemoryError, SoftTimeLimitExceeded):
        raise
    except Exception as error:
        raise DecodeError(f"the {name} data is broken: {error}") from error


def _read_whole(decompressor: Any, data: bytes, limit: int) -> bytes:
    """What the decompressor makes of `data`, when that is one complete stream."""
    made: bytes = decompressor.decompress(data, limit + 1)
    if len(made) > limit:
        raise _TooLarge
    if not decompressor.eof:
        raise EOFError("it ends too early")
    if decompressor.unused_data:
        raise ValueError("something follows its end")
    return made


def _bz2() -> Any:
    return library("bz2", None)


def _lzma() -> Any:
    return library("lzma", None)


def _lzma_decompress(data: bytes, limit: int) -> bytes:
    return _read_whole(_lzma().LZMADecompressor(memlimit=_LZMA_MEMORY), data, limit)


def _zstd() -> Any:
    return library("compression.zstd", None) if sys.version_info >= (3, 14) else library("zstandard", "zstd")


def _zstd_decompress(data: bytes, limit: int) -> bytes:
    zstd = _zstd()
    if sys.version_info >= (3, 14):
        return _read_whole(zstd.ZstdDecompressor(), data, limit)
    # This library's streams cannot tell a cut end; the whole frame at once can, but trusts the size in its header.
    if zstd.frame_content_size(data) > limit:
        raise _TooLarge
    return bytes(zstd.ZstdDecompressor().decompress(data, max_output_size=limit, allow_extra_data=False))


def _brotli() -> Any:
    return library("brotli", "brotli")


def _brotli_decompress(data: bytes, limit: int) -> bytes:
    decompressor = _brotli().Decompressor()
    made = bytes(decompressor.process(data, output_buffer_limit=limit + 1))
    # A call may stop short of the bound; with nothing more to give, the data was cut.
    while not decompressor.is_finished() and len(made) <= limit:
        if not (more := decompressor.process(b"", output_buffer_limit=limit + 1 - len(made))):
            raise EOFError("it ends too early")
        made += more
    if len(made) > limit:
        raise _TooLarge
    return made


_METHODS: Final = {
    "gzip": _Method(zlib.compress, lambda data, limit: _read_whole(zlib.decompressobj(_ANY_HEADER), data, limit)),
    "bzip2": _Method(
        lambda data: bytes(_bz2().compress(data)),
        lambda data, limit: _read_whole(_bz2().BZ2Decompressor(), data, limit),
    ),
    "lzma": _Method(lambda data: bytes(_lzma().compress(data)), _lzma_decompress),
    "zstd": _Method(lambda data: bytes(_zstd().compress(data)), _zstd_decompress),
    "brotli": _Method(lambda data: bytes(_brotli().compress(data, quality=_BROTLI_QUALITY)), _brotli_decompress),
}
