"""Exceptions to data and back: only what is already here and is an exception is ever called."""

import datetime
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djtasks import serializers
from djtasks.exceptions import (
    ImproperlyConfigured,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    TaskRevokedError,
    WorkerTerminate,
)
from djtasks.serializers.exceptions import (
    LENGTH_MAX,
    decode_exception,
    encode_exception,
    exception_from_data,
    exception_to_data,
)


def there_and_back(error: BaseException, serializer: str = "json") -> BaseException:
    content_type, body = encode_exception(error, serializer)
    return decode_exception(body, content_type, [serializer])


class Plain(Exception):
    class Inner(Exception):
        """Its qualified name has a dot in it."""


class Formatted(Exception):
    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no {name} here")


class TwoArguments(Exception):
    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{code}: {detail}")


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Stubborn(Exception):
    def __init_subclass__(cls) -> None:
        raise TypeError("not to be subclassed")

    def __init__(self, one: int, two: int) -> None:
        super().__init__("stubborn")


CALLS: list[Any] = []


def called(*args: Any) -> None:
    CALLS.append(args)


class NoException:
    def __init__(self, *args: Any) -> None:
        CALLS.append(args)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad", 3),
        KeyError("missing"),
        Plain(),
        Plain.Inner("x"),
        FileNotFoundError(2, "No such file", "/x"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        Plain(datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC), b"\xff", None),
        TaskRevokedError("expired"),
        Reject("not now", requeue=True),
    ],
)
def test_an_exception_comes_back_as_its_class_with_its_arguments(error: BaseException) -> None:
    again = there_and_back(error)
    assert (type(again), again.args, str(again)) == (type(error), error.args, str(error))


@pytest.mark.parametrize("serializer", ["json", "yaml", "msgpack", "pickle"])
def test_every_serializer_carries_every_exception(serializer: str) -> None:
    for error in (ValueError("bad", 3), Plain(object(), datetime.UTC, b"\xff"), Plain("\ud800\0")):
        again = there_and_back(error, serializer)
        assert type(again).__name__ == type(error).__name__


def test_the_data_is_the_class_the_arguments_and_the_text() -> None:
    assert exception_to_data(Plain.Inner("x", 5)) == {
        "exc_type": "Plain.Inner",
        "exc_module": __name__,
        "exc_message": ["x", 5],
        "exc_text": "('x', 5)",
    }


@given(st.lists(st.text(st.characters(categories=None)) | st.binary() | st.integers() | st.none() | st.floats()))
def test_the_data_of_any_exception_is_json_safe_and_reads_back(args: list[Any]) -> None:
    error = Plain(*args)
    json.loads(encode_exception(error)[1])
    assert str(there_and_back(error)) == str(error)


def test_a_class_that_says_how_it_is_made_is_made_so() -> None:
    again = there_and_back(FileNotFoundError(2, "No such file", "/x"))
    assert isinstance(again, FileNotFoundError)
    assert (again.errno, again.filename) == (2, "/x")


def test_an_argument_that_cannot_be_encoded_becomes_its_repr() -> None:
    again = there_and_back(Plain("kept", {1}))
    assert isinstance(again, Plain)
    assert again.args == ("kept", "{1}")


def test_an_argument_whose_repr_raises_does_no_harm() -> None:
    class Hidden:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "its repr raised RuntimeError" in there_and_back(Plain(Hidden())).args[0]


def test_arguments_that_are_too_long_are_cut_to_the_text() -> None:
    data = exception_to_data(Plain("x" * 10 * LENGTH_MAX))
    assert len(json.dumps(data)) < 3 * LENGTH_MAX
    assert isinstance(exception_from_data(data), Plain)


def test_a_constructor_that_does_not_take_its_own_arguments_keeps_class_arguments_and_text() -> None:
    again = there_and_back(TwoArguments(404, "gone"))
    assert isinstance(again, TwoArguments)
    assert (type(again).__name__, again.args, str(again)) == ("TwoArguments", ("404: gone",), "404: gone")


def test_a_constructor_that_would_change_the_text_keeps_class_arguments_and_text() -> None:
    again = there_and_back(Formatted("bread"))
    assert isinstance(again, Formatted)
    assert (again.args, str(again)) == (("no bread here",), "no bread here")


def test_a_class_that_can_neither_be_called_nor_stood_in_for_keeps_name_and_text() -> None:
    again = there_and_back(Stubborn(1, 2))
    assert not isinstance(again, Stubborn)
    assert (type(again).__name__, str(again)) == ("Stubborn", "stubborn")


def test_an_exception_without_a_text_does_no_harm() -> None:
    assert isinstance(there_and_back(Silent("x")), Silent)


@pytest.mark.parametrize("raised", [ValueError, SystemExit, GeneratorExit])
def test_whatever_an_exception_s_methods_raise_it_is_stored_and_read(raised: type[BaseException]) -> None:
    class Leaving(Exception):
        def __repr__(self) -> str:
            raise raised

        __str__ = __reduce__ = __repr__

    class Value:
        __json__ = __repr__ = Leaving.__repr__

    read = there_and_back(Leaving(Value()))
    assert type(read).__qualname__.endswith("Leaving")
    assert str(read) == f"<Leaving object: its repr raised {raised.__name__}>"
    assert read.args == (f"<Value object: its repr raised {raised.__name__}>",)


def test_a_constructor_that_wants_to_leave_does_not_take_the_reader_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = exception_to_data(Formatted("tea"))
    monkeypatch.setattr(Formatted, "__init__", lambda *args: sys.exit(3))
    assert str(exception_from_data(stored)) == "no tea here"


@pytest.mark.parametrize("fatal", [KeyboardInterrupt, WorkerTerminate])
def test_what_is_to_end_the_process_ends_it_while_an_exception_is_stored(fatal: type[BaseException]) -> None:
    class Ending(Exception):
        def __str__(self) -> str:
            raise fatal

    with pytest.raises(fatal):
        exception_to_data(Ending())


def test_a_group_of_exceptions_keeps_its_text() -> None:
    error = ExceptionGroup("many", [ValueError("one")])
    assert str(there_and_back(error)) == str(error)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_would_end_the_reader_comes_back_as_an_ordinary_exception_of_that_name(error: BaseException) -> None:
    again = there_and_back(error)
    assert isinstance(again, Exception)
    assert (type(again).__name__, str(again)) == (type(error).__name__, str(error))


def test_a_time_limit_that_strikes_while_an_exception_is_rebuilt_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    data = exception_to_data(Plain("x"))

    def strike(self: Plain, *args: Any) -> None:
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(Plain, "__init__", strike)
    with pytest.raises(SoftTimeLimitExceeded):
        exception_from_data(data)


def test_a_time_limit_itself_comes_back() -> None:
    assert isinstance(there_and_back(SoftTimeLimitExceeded(5)), SoftTimeLimitExceeded)


def test_a_class_that_is_not_here_is_stood_in_for_by_name_and_text() -> None:
    data = {"exc_type": "Outer.Gone", "exc_module": "no.such.module", "exc_message": ["a", 1], "exc_text": "a!"}
    again = exception_from_data(data)
    assert (type(again).__name__, type(again).__module__) == ("Gone", "no.such.module")
    assert (again.args, str(again)) == (("a", 1), "a!")
    assert type(exception_from_data(data)) is type(again)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (__name__, "called"),
        (__name__, "NoException"),
        ("os", "system"),
        ("builtins", "eval"),
        (__name__, "os.system"),
        (__name__, "Plain.Inner.__init__"),
        (__name__, "Plain.__class__"),
        (__name__, "CALLS"),
        ("builtins", ""),
        ("", "ValueError"),
    ],
)
def test_nothing_but_an_exception_class_is_ever_called(module: str, name: str) -> None:
    CALLS.clear()
    again = exception_from_data({"exc_type": name, "exc_module": module, "exc_message": ["true"], "exc_text": "true"})
    assert isinstance(again, Exception)
    assert (str(again), CALLS) == ("true", [])


def test_nothing_is_imported_for_an_exception() -> None:
    code = (
        "import sys; from djtasks.serializers.exceptions import exception_from_data as f;"
        "f({'exc_type': 'Error', 'exc_module': 'wave', 'exc_message': ['x']});"
        "assert 'wave' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": ":".join(sys.path)})


class LazyModule(type(sys)):  # type: ignore[misc]
    def __getattr__(self, name: str) -> Any:
        CALLS.append(name)
        return ValueError


def test_a_modules_own_getattr_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    monkeypatch.setitem(sys.modules, "lazy_module", LazyModule("lazy_module"))
    exception_from_data({"exc_type": "Error", "exc_module": "lazy_module", "exc_message": []})
    assert "Error" not in CALLS


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(categories=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("exc_type", "exc_module", "exc_message", "exc_text"), json_values)
    )
)
def test_whatever_stands_in_the_database_becomes_an_exception(data: dict[str, Any]) -> None:
    assert isinstance(exception_from_data(data), Exception)


@pytest.mark.parametrize("data", [None, [], "text", 5])
def test_data_that_is_no_dict_becomes_an_exception_with_its_text(data: Any) -> None:
    again = exception_from_data(data)
    assert (type(again), str(again)) == (Exception, str(data))


def test_data_that_celery_stored_is_read() -> None:
    data = {"exc_type": "ValueError", "exc_message": ["bad"], "exc_module": "builtins"}
    assert repr(exception_from_data(data)) == "ValueError('bad')"
    assert repr(exception_from_data({**data, "exc_message": "bad"})) == "ValueError('bad')"


def test_a_retry_comes_back_with_its_text() -> None:
    error = Retry("later", ValueError("x"), 5)
    assert str(there_and_back(error)) == "later"


def test_exceptions_in_json_are_read_whatever_is_accepted() -> None:
    content_type, body = encode_exception(ValueError("x"))
    assert isinstance(decode_exception(body, content_type, ["msgpack"]), ValueError)


def test_an_exception_that_its_serializer_cannot_take_is_stored_in_json() -> None:
    def refuse(value: Any) -> bytes:
        raise TypeError("only numbers")

    serializers.register("numbers", refuse, float, "text/x-numbers")
    try:
        content_type, body = encode_exception(ValueError("x"), "numbers")
    finally:
        serializers.unregister("numbers")
    assert content_type == "application/json"
    assert repr(decode_exception(body, content_type, ["numbers"])) == "ValueError('x')"


def test_an_unknown_serializer_is_an_error_also_for_exceptions() -> None:
    with pytest.raises(ImproperlyConfigured):
        encode_exception(ValueError(), "jsn")
