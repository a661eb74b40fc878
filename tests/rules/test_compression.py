"""Bytes to fewer bytes and back, within a bound."""

import bz2
import contextlib
import gzip
import lzma
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djtasks.compression import ALIASES, canonical, check, compress, decompress
from djtasks.exceptions import DecodeError, ImproperlyConfigured, PayloadTooLarge
from djtasks.serializers.optional import library

METHODS = ("gzip", "bzip2", "lzma", "zstd", "brotli")
each_method = pytest.mark.parametrize("method", METHODS)


@each_method
@given(data=st.binary())
def test_what_was_compressed_comes_back(method: str, data: bytes) -> None:
    assert decompress(compress(data, method), method, len(data)) == data


@each_method
def test_compressing_makes_repetition_smaller(method: str) -> None:
    assert len(compress(b"ab" * 50_000, method)) < 1000


@each_method
@pytest.mark.parametrize("length", [0, 1, 1000])
def test_data_of_just_the_limit_is_read_and_one_byte_more_is_refused(method: str, length: int) -> None:
    assert decompress(compress(b"x" * length, method), method, length) == b"x" * length
    with pytest.raises(PayloadTooLarge, match="raise DECOMPRESSED_MAX_BYTES"):
        decompress(compress(b"x" * (length + 1), method), method, length)


@each_method
def test_a_bomb_is_refused_without_being_unpacked(method: str) -> None:
    bomb = compress(bytes(100_000_000), method)
    assert len(bomb) < 200_000
    with pytest.raises(PayloadTooLarge, match="over 1,000,000 bytes"):
        decompress(bomb, method, 1_000_000)


@each_method
def test_data_that_is_cut_is_a_decode_error(method: str) -> None:
    whole = compress(bytes(range(256)) * 100, method)
    for length in (0, 5, len(whole) // 2, len(whole) - 1):
        with pytest.raises(DecodeError, match=f"the {method} data is broken"):
            decompress(whole[:length], method, 1_000_000)


@each_method
def test_data_that_something_follows_is_a_decode_error(method: str) -> None:
    with pytest.raises(DecodeError):
        decompress(compress(b"x", method) + b"y", method, 1000)


@each_method
@given(data=st.binary())
def test_any_bytes_are_data_or_an_error_of_ours(method: str, data: bytes) -> None:
    with contextlib.suppress(DecodeError, PayloadTooLarge):
        decompress(data, method, 1000)


def test_lzma_that_wants_too_much_memory_is_a_decode_error() -> None:
    greedy = lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}])
    with pytest.raises(DecodeError):
        decompress(greedy, "lzma", 1000)


def test_what_celery_compressed_is_read() -> None:
    assert decompress(zlib.compress(b"x"), "application/x-gzip", 10) == b"x"
    assert decompress(gzip.compress(b"x"), "gzip", 10) == b"x"
    assert decompress(bz2.compress(b"x"), "application/x-bz2", 10) == b"x"
    assert decompress(lzma.compress(b"x"), "application/x-lzma", 10) == b"x"


@pytest.mark.parametrize(
    ("alias", "name"),
    [("zlib", "gzip"), ("gzip", "gzip"), ("bzip", "bzip2"), ("bz2", "bzip2"), ("xz", "lzma"), ("zstandard", "zstd")],
)
def test_an_alias_leads_to_the_name_that_is_stored(alias: str, name: str) -> None:
    assert canonical(alias) == name
    assert decompress(compress(b"x", alias), name, 1) == b"x"


def test_every_alias_leads_to_a_method() -> None:
    assert {check(alias) for alias in ALIASES} == set(METHODS)


def test_an_unknown_compression_is_named_with_the_one_that_was_meant() -> None:
    for attempt in (lambda: canonical("gzp"), lambda: compress(b"", "gzp"), lambda: decompress(b"", "gzp", 1)):
        with pytest.raises(ImproperlyConfigured, match="no compression is called 'gzp'; did you mean 'gzip'"):
            attempt()


def test_a_compression_like_no_other_is_answered_with_those_there_are() -> None:
    with pytest.raises(ImproperlyConfigured, match="there are gzip, bzip2, lzma, zstd"):
        canonical("quux")


def test_a_missing_zstd_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    library.cache_clear()
    for module in ("zstandard", "compression.zstd"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImproperlyConfigured, match=r"install it with|was built without it"):
        check("zstd")


def test_a_python_without_lzma_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    library.cache_clear()
    monkeypatch.setitem(sys.modules, "lzma", None)
    with pytest.raises(ImproperlyConfigured, match="this Python was built without it"):
        compress(b"", "lzma")


def test_a_missing_brotli_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    library.cache_clear()
    monkeypatch.setitem(sys.modules, "brotli", None)
    with pytest.raises(ImproperlyConfigured, match=r"pip install 'djtasks\[brotli\]'"):
        check("br")
