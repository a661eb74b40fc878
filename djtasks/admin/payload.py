"""What a message carries and what a task left, for the page of one row.

Bytes are decoded by the serializers that the settings accept, and by no other; what is too large, refused or broken is
shown as such, with its beginning. Nothing is run, imported or rebuilt: an exception stays data.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from django.db.models import BinaryField, Model, QuerySet, TextField
from django.db.models.functions import Left, Length, Right, Substr
from django.utils.html import format_html
from django.utils.safestring import SafeString

from djtasks import masking
from djtasks.admin.text import pretty, visible
from djtasks.compression import decompress
from djtasks.conf import settings
from djtasks.exceptions import PayloadTooLarge
from djtasks.registry import tasks
from djtasks.serializers import auth, loads

#: Bytes that are fetched and decoded; of more, and of what cannot be decoded, the beginning is shown.
DECODE_MAX: Final = 250_000
PREVIEW_MAX: Final = 4_000
#: Characters of a traceback, from its end.
TRACEBACK_MAX: Final = 50_000
#: Serializers that make plain values of whatever they are given.
_HARMLESS: Final = ("json", "msgpack", "yaml")


class Unreadable(Exception):
    """Why a payload cannot be shown."""


class Bytes(NamedTuple):
    """A payload as it is stored."""

    #: DECODE_MAX bytes at most; None when nothing is stored.
    start: bytes | None
    #: How many there are.
    size: int
    content_type: str
    #: Its compression; empty for none.
    encoding: str

    def __str__(self) -> str:
        if self.start is None:
            return "nothing is stored"
        return f"{self.size:,} bytes, {self.content_type}" + (f", {self.encoding}" if self.encoding else "")


def bounded(queryset: QuerySet[Any], *columns: str) -> QuerySet[Any]:
    """The queryset with the beginning and the size of these binary columns: `body_start`, `body_size`."""
    starts = {f"{name}_start": Substr(name, 1, DECODE_MAX, output_field=BinaryField()) for name in columns}
    sizes = {f"{name}_size": Length(name) for name in columns}
    return headed(queryset.annotate(**starts, **sizes))


def headed(queryset: QuerySet[Any]) -> QuerySet[Any]:
    """The queryset with the beginning of the headers, as `headers_start`."""
    found: QuerySet[Any] = queryset.annotate(headers_start=Left("headers", DECODE_MAX))
    return found


def with_traceback(queryset: QuerySet[Any]) -> QuerySet[Any]:
    """The queryset with the end of the traceback, as `traceback_end`, and its length."""
    end = Right("traceback", TRACEBACK_MAX, output_field=TextField())
    found: QuerySet[Any] = queryset.annotate(traceback_end=end, traceback_size=Length("traceback"))
    return found


def stored(row: Model, column: str, content_type: str | None, encoding: str | None) -> Bytes:
    """The payload in a column of a row that came from `bounded`."""
    start = getattr(row, f"{column}_start")
    return Bytes(
        None if start is None else bytes(start), getattr(row, f"{column}_size") or 0, content_type or "", encoding or ""
    )


def decode(payload: Bytes, accept: Collection[str]) -> Any:
    """The value of a payload. Raises Unreadable, which says why it cannot be shown."""
    if payload.start is None:
        raise Unreadable("Nothing is stored.")
    if payload.size > len(payload.start):
        raise Unreadable(f"These are {payload.size:,} bytes: too many to be decoded here.")
    try:
        body = decompress(payload.start, payload.encoding, DECODE_MAX) if payload.encoding else payload.start
        if payload.content_type == auth.CONTENT_TYPE:
            # Nobody has looked at the signature: only what can do no harm is read.
            content_type, content = auth.peek(body)
            return loads(content, content_type, _HARMLESS)
        return loads(body, payload.content_type, accept)
    except PayloadTooLarge:
        raise Unreadable(f"Decompressed, these are over {DECODE_MAX:,} bytes: too many to be decoded here.") from None
    except Exception as error:
        # A serializer of the project's own may raise anything.
        raise Unreadable(f"This cannot be decoded: {error}") from None


def arguments(payload: Bytes, header_text: str | None = None) -> tuple[SafeString, SafeString]:
    """The positional and the named arguments of a call, as HTML. What is no call is shown in the place of the first.

    What the headers of the message call sensitive is hidden, and the caller's own `argsrepr` and `kwargsrepr` are shown
    in the place of the arguments.
    """
    said = headers(header_text)
    sensitive = _sensitive(header_text)
    texts = [visible(found) if isinstance(found := said.get(key), str) else None for key in ("argsrepr", "kwargsrepr")]
    if payload.start is None:
        return block(texts[0] or "not kept"), block(texts[1] or "not kept")
    try:
        call = decode(payload, settings.ACCEPT_CONTENT)
    except Unreadable as error:
        if sensitive or texts[0] or texts[1]:
            return block(texts[0] or f"{payload}: sensitive, and not shown"), block(texts[1] or "-")
        return _beginning(payload, str(error)), block("-")
    if isinstance(call, list | tuple) and len(call) == 2:
        args, kwargs = masking.mask(sensitive, *call)
        return block(texts[0] or pretty(args)), block(texts[1] or pretty(kwargs))
    if sensitive:
        return block("This is not [args, kwargs]; it is sensitive, and not shown."), block("-")
    return block(f"This is not [args, kwargs]:\n\n{pretty(call)}"), block("-")


def outcome(payload: Bytes) -> SafeString:
    """What a task returned or raised, or said of its progress, as HTML."""
    if payload.start is None:
        return block("-")
    try:
        # Exceptions are stored as JSON, whatever results are.
        value = decode(payload, (*settings.RESULT_ACCEPT_CONTENT, "json"))
    except Unreadable as error:
        return _beginning(payload, str(error))
    return block(_exception(value) if isinstance(value, dict) and "exc_type" in value else pretty(value))


def headers(text: str | None) -> Mapping[str, Any]:
    """The headers of a message; empty when there are none that can be read."""
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        found = {}
    return found if isinstance(found, dict) else {}


def _sensitive(text: str | None) -> Any:
    """What the headers call sensitive: everything, where they say something of the kind and cannot be read."""
    said = headers(text)
    if not said and text and '"sensitive"' in text:
        return True
    return said.get("sensitive")


def _masked_links(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Headers without the sensitive arguments of the calls that are to follow, as far as their tasks are known."""
    shown = dict(found)
    for key in ("callbacks", "errbacks"):
        links = shown.get(key)
        if not isinstance(links, list):
            continue
        shown[key] = hidden = []
        for link in links:
            task = tasks.get(str(link.get("task"))) if isinstance(link, dict) else None
            said = None if task is None else masking.of(task)
            if said:
                args, kwargs = masking.mask(said, link.get("args"), link.get("kwargs"))
                link = {**link, "args": args, "kwargs": kwargs}
            hidden.append(link)
    return shown


def headers_block(text: str | None) -> SafeString:
    """The headers of a message as HTML."""
    if not text:
        return block("-")
    found = _masked_links(headers(text))
    return block(pretty(found) if found else visible(text[:PREVIEW_MAX]))


def traceback_block(row: Any) -> SafeString:
    """The traceback of a row that came from `with_traceback`, as HTML."""
    text = row.traceback_end
    if not text:
        return block("-")
    left_out = (row.traceback_size or 0) - len(text)
    return block((f"… ({left_out:,} characters before)\n" if left_out > 0 else "") + visible(text))


def block(text: str) -> SafeString:
    """Text as HTML: its line breaks and blanks are kept, long lines are wrapped."""
    return format_html('<pre class="djtasks-text">{}</pre>', text)


def _exception(data: Mapping[str, Any]) -> str:
    name = ".".join([str(data[key]) for key in ("exc_module", "exc_type") if data.get(key)])
    said = data.get("exc_text")
    arguments = pretty(data.get("exc_message"))
    first = f"{name}: {said}" if isinstance(said, str) and said else name
    return f"{visible(first[:PREVIEW_MAX])}\n\nwith the arguments {arguments}"


def _beginning(payload: Bytes, why: str) -> SafeString:
    start = (payload.start or b"")[:PREVIEW_MAX].decode("utf-8", "backslashreplace")
    cut = "…" if payload.size > PREVIEW_MAX else ""
    return block(f"{visible(why)}\n\n{payload}:\n{visible(start)}{cut}")
