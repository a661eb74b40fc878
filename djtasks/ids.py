"""Task ids: made by the caller, known before anything is stored, and never an order that anything rests on.

An id is a UUIDv7 (RFC 9562 §5.7) as text. A caller's own `task_id` that is no UUID is mapped by uuid5, so any text
names one row.
"""

import os
import re
import time
import uuid

#: The namespace in which a caller's own text becomes a UUID. Changing it would lose every such id.
NAMESPACE = uuid.UUID("6f2f3c9e-6f0a-5e57-9d0c-6a2b8f6b6d15")
_VERSION_AND_VARIANT = 0x7000_8000_0000_0000_0000
_RANDOM_BITS = 0x3FFF_FFFF_FFFF_FFFF
#: Whether a text is a UUID as `str` writes it.
_CANONICAL = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z").match


def new_task_id() -> str:
    """A new time-ordered id (RFC 9562 §6.2, method 3): 48 bits of milliseconds, 12 of 4096ths, 62 random ones.

    So the ids that a process makes for the members of a group are in their order, for who shows them.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fine = rest * 4096 // 1_000_000 << 64
    random = int.from_bytes(os.urandom(8), "big") & _RANDOM_BITS
    text = f"{milliseconds << 80 | fine | random | _VERSION_AND_VARIANT:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def as_task_id(text: str | uuid.UUID) -> str:
    """The UUID, as text, of the row that the caller's `text` names.

    Raises TypeError unless `text` is a non-empty str (or a UUID), ValueError when it holds half a surrogate pair.
    """
    if isinstance(text, uuid.UUID):
        return str(text)
    if not isinstance(text, str) or not text:
        raise TypeError(f"task_id must be a text or a UUID, not {'empty' if text == '' else type(text).__name__}")
    # The canonical form is what new_task_id() makes, and what nearly every caller passes.
    if _CANONICAL(text):
        return text
    if len(text) == 36 and text[8] == text[13] == text[18] == text[23] == "-":
        try:
            return str(uuid.UUID(text))
        except ValueError:
            pass
    try:
        return str(uuid.uuid5(NAMESPACE, text))
    except UnicodeEncodeError:
        raise ValueError(f"task_id must be a text that UTF-8 can carry, which {text[:40]!r} is not") from None
