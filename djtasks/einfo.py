"""An exception as handlers and logs want it: its class, itself, and its traceback as text."""

import traceback
from types import TracebackType
from typing import Any

from djtasks.current import hider
from djtasks.exceptions import FATAL, safe_repr

#: Frames of these files stand at the top of every traceback and say nothing to a task's author.
_MACHINERY: set[str] = set()
#: The longest traceback that is kept, in characters; its end is what tells most.
_LONGEST = 1_000_000
_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def hide_frames_of(file: str) -> None:
    """Leave the frames of this file out of the top of tracebacks."""
    _MACHINERY.add(file)


class ExceptionInfo:
    """What `on_failure`, `on_retry` and the receivers of signals get as `einfo`. Its text is the traceback."""

    __slots__ = ("exception", "internal", "tb", "traceback", "type")

    def __init__(self, exception: BaseException, internal: bool = False) -> None:
        self.type = type(exception)
        self.exception = exception
        self.tb = traceback_of(exception)
        #: The traceback as text, which PostgreSQL can hold.
        self.traceback = traceback_text(exception)
        self.internal = internal

    @property
    def exc_info(self) -> _ExcInfo:
        """As `sys.exc_info()` had it."""
        return self.type, self.exception, self.tb

    def __str__(self) -> str:
        return self.traceback

    def __repr__(self) -> str:
        return f"<ExceptionInfo: {safe_repr(self.exception)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return ExceptionInfo, (self.exception, self.internal)


def traceback_of(exception: BaseException) -> TracebackType | None:
    """The traceback from the task's own code on."""
    tb = exception.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename in _MACHINERY:
        tb = tb.tb_next
    return tb or exception.__traceback__


def traceback_text(exception: BaseException) -> str:
    """The traceback from the task's own code on, as Python prints it."""
    try:
        lines = traceback.format_exception(type(exception), exception, traceback_of(exception))
        text = "".join(lines)
    except FATAL:
        raise
    except BaseException:
        # An exception's own __str__, __cause__ or __notes__ can be broken in ways that traceback does not expect.
        text = safe_repr(exception)
    if (hide := hider()) is not None:
        text = hide(text)
    return storable(text[-_LONGEST:])


def storable(text: str) -> str:
    """`text` without what no column of PostgreSQL can hold: NUL and lone surrogates become escapes."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
