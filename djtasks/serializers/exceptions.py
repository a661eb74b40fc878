"""Exceptions to data and back.

An exception is stored as its class's module and qualified name, its arguments, and its text; never as a pickle. It is
rebuilt only from a class that this process has already imported and that is an exception: nothing is imported and
nothing but such a class is called, whatever stands in the database. Where that fails a stand-in takes its place, with
the same name, arguments and text.
"""

import contextlib
import functools
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from djtasks.exceptions import FATAL, EncodeError, SoftTimeLimitExceeded, safe_repr
from djtasks.masking import Hide, cleaned
from djtasks.serializers import dumps, json, loads

#: The longest text, and the longest arguments in JSON, that are stored; in characters.
LENGTH_MAX = 100_000
#: What does not come from the exception that is looked at, though it is raised meanwhile.
_OTHERS = (SoftTimeLimitExceeded, *FATAL)


def encode_exception(exc: BaseException, serializer: str = "json", hide: Hide | None = None) -> tuple[str, bytes]:
    """The content type and the bytes that are stored of `exc`. In JSON when the serializer cannot take even this.

    `hide` takes out of its texts what nobody may read. Raises ImproperlyConfigured when there is no such serializer or
    its library is missing.
    """
    try:
        return dumps(exception_to_data(exc, serializer, hide), serializer)
    except EncodeError:
        return dumps(exception_to_data(exc, hide=hide))


def decode_exception(body: bytes, content_type: str, accept: Collection[str]) -> BaseException:
    """The exception that was encoded. JSON is always read, for exceptions are stored in it whatever is accepted.

    Raises ContentDisallowed, DecodeError, ImproperlyConfigured as `loads` does.
    """
    return exception_from_data(loads(body, content_type, (*accept, "json")))


def exception_to_data(exc: BaseException, serializer: str = "json", hide: Hide | None = None) -> dict[str, Any]:
    """What is stored of `exc`, always JSON-safe. Whatever the exception's own methods raise is not raised here.

    `{"exc_type": qualified name, "exc_module": module, "exc_message": list of arguments, "exc_text": its text}`. An
    argument that JSON or the serializer cannot carry becomes its repr; arguments that are too long become the text.
    """
    try:
        text = str(exc)
    except _OTHERS:
        raise
    except BaseException:
        text = safe_repr(exc)
    text = _portable((text if hide is None else hide(text))[:LENGTH_MAX], serializer)
    args = [_portable(value, serializer) for value in _constructor_arguments(exc)]
    if hide is not None:
        args = [cleaned(value, hide) for value in args]
    return {
        "exc_type": type(exc).__qualname__,
        "exc_module": str(type(exc).__module__),
        "exc_message": args if len(json.dumps(args)) <= LENGTH_MAX else [text],
        "exc_text": text,
    }


def exception_from_data(data: object) -> BaseException:
    """The exception that `data`, as `exception_to_data` made it, describes. Raises nothing but SoftTimeLimitExceeded.

    That is the class called with the arguments; or, where this raises or prints another text, an instance of a
    subclass that prints the stored one; or, where the class is not to be had, is no exception or would end the
    process (SystemExit, KeyboardInterrupt), an Exception of the same name.
    """
    if not isinstance(data, Mapping):
        return Exception(str(data))
    name, module, message = str(data.get("exc_type")), str(data.get("exc_module")), data.get("exc_message", ())
    args = tuple(message) if isinstance(message, list | tuple) else (message,)
    text = data.get("exc_text")
    found = _imported(module, name)
    if found is not None:
        # The class's own constructor, or its __str__, may raise whatever it likes.
        with _suppressed():
            made = found(*args)
            if text is None or str(made) == text:
                return made
    if not isinstance(text, str):
        text = str(args[0]) if len(args) == 1 else str(args)
    for base in (found, Exception):
        # Some classes cannot be subclassed, and some names no class can have.
        with _suppressed():
            return _made_stand_in(base or Exception, name, module, args, text)
    return Exception(text)


@contextlib.contextmanager
def _suppressed() -> Iterator[None]:
    """Nothing that a class does when it is called or printed matters, but for the time limit of the task around it."""
    try:
        yield
    except _OTHERS:
        raise
    except BaseException:
        return


def _constructor_arguments(exc: BaseException) -> tuple[Any, ...]:
    """What `type(exc)` is to be called with: `args`, unless the class says otherwise (OSError, with its file name)."""
    with _suppressed():
        made_of = exc.__reduce__()
        if isinstance(made_of, tuple) and made_of[0] is type(exc) and isinstance(made_of[1], tuple):
            return made_of[1]
    return exc.args


def _portable(value: Any, serializer: str) -> Any:
    """`value`, or its repr where it would not come back from JSON and from the serializer."""
    try:
        for name in {"json", serializer}:
            content_type, body = dumps(value, name)
            loads(body, content_type, (name,))
    except _OTHERS:
        raise
    except BaseException:
        return safe_repr(value).encode("ascii", "backslashreplace").decode()
    return value


def _imported(module: str, qualified_name: str) -> type[Exception] | None:
    """The exception class of this name, if this process has it already.

    Only dicts are looked into: a module's or a class's own __getattr__ would run code, and might import.
    """
    found: Any = sys.modules.get(module)
    for part in qualified_name.split("."):
        if found is None:
            return None
        found = getattr(found, "__dict__", {}).get(part)
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def _stored_text(self: Exception) -> str:
    return str(self.__dict__["_stored_text"])


def _no_init(self: Exception, *args: Any) -> None:
    """Exception.__new__ has kept the arguments."""


@functools.lru_cache(maxsize=256)
def _stand_in(base: Any, name: str, module: str) -> type[Exception]:
    names = {"__module__": module, "__qualname__": name, "__init__": _no_init, "__str__": _stored_text}
    return type(name.rpartition(".")[2] or "Exception", (base,), names)


def _made_stand_in(base: Any, name: str, module: str, args: tuple[Any, ...], text: str) -> Exception:
    made = _stand_in(base, name, module)(*args)
    made.__dict__["_stored_text"] = text
    str(made)
    return made
