"""The page of one row: what it shows of payload, whatever that is, and what it never does."""

import gzip
import pickle
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.http import HttpResponse
from django.test import Client

from djtasks.ids import as_task_id
from djtasks.serializers import dumps
from djtasks.serializers.exceptions import encode_exception
from tests.admin.conftest import a_message, a_result, a_worker, address, field, words

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def shown(client: Client, row: Any) -> HttpResponse:
    response = client.get(address(row))
    assert response.status_code == 200
    return response


def assert_inert(response: HttpResponse) -> None:
    """Nothing that came from the row is markup."""
    page = response.content.decode()
    assert response.status_code == 200
    for markup in ("<script>alert", "<img src=x", "'\"><b>", "<b>", "\0"):
        assert markup not in page


# -- what is shown ------------------------------------------------------------------------------------------------


def test_the_arguments_of_a_message_are_shown_decoded(admin_client: Client) -> None:
    call = ([1, "two", datetime(2025, 1, 2, tzinfo=UTC)], {"to": ["a@example.org"]})
    page = shown(admin_client, a_message(body=dumps(call)[1]))
    assert field(page, "args") == "[1, 'two', datetime.datetime(2025, 1, 2, 0, 0, tzinfo=datetime.timezone.utc)]"
    assert field(page, "kwargs") == "{'to': ['a@example.org']}"
    assert field(page, "stored_as").endswith("bytes, application/json")


def test_a_compressed_body_is_shown_decompressed(admin_client: Client) -> None:
    page = shown(admin_client, a_message(body=zlib.compress(b'[["hello"], {}]'), content_encoding="gzip"))
    assert field(page, "args") == "['hello']"
    assert field(page, "stored_as").endswith("bytes, application/json, gzip")


def test_the_value_of_a_success_is_shown_decoded(admin_client: Client) -> None:
    page = shown(admin_client, a_result(result=b'{"total": 3}'))
    assert field(page, "outcome") == "{'total': 3}"
    assert field(page, "args") == "not kept"


def test_an_exception_is_shown_with_its_traceback_and_the_call(admin_client: Client) -> None:
    content_type, body = encode_exception(ValueError("no such file", 7))
    row = a_result(
        state="FAILURE",
        result=body,
        content_type=content_type,
        traceback="Traceback (most recent call last):\n  File …\nValueError",
        body=b'[["a"], {"b": 1}]',
        body_content_type="application/json",
    )
    page = shown(admin_client, row)
    assert field(page, "outcome").startswith("builtins.ValueError: ('no such file', 7)\n")
    assert field(page, "trace") == "Traceback (most recent call last):\n  File …\nValueError"
    assert field(page, "args") == "['a']"
    assert field(page, "kwargs") == "{'b': 1}"


def test_what_a_running_task_says_of_its_progress_is_shown(admin_client: Client) -> None:
    page = shown(admin_client, a_result(state="PROGRESS", done=None, result=b'{"percent": 40}'))
    assert field(page, "outcome") == "{'percent': 40}"
    assert field(page, "ended") == "-"


def test_headers_are_shown_and_lead_to_parent_and_root(admin_client: Client) -> None:
    parent, root = a_result(), a_message(id=UUID(as_task_id("nightly")))
    headers = f'{{"parent_id": "{parent.pk}", "root_id": "nightly", "headers": {{"tenant": "x"}}}}'
    page = shown(admin_client, a_message(headers=headers))
    assert f'<a href="{address(parent)}">{parent.pk}</a>' in page.content.decode()
    assert f'<a href="{address(root)}">nightly</a>' in page.content.decode()
    assert "'tenant': 'x'" in field(page, "other_headers")


def test_a_parent_that_is_gone_is_named_without_a_link(admin_client: Client) -> None:
    gone = uuid4()
    page = shown(admin_client, a_result(headers=f'{{"parent_id": "{gone}"}}'))
    assert field(page, "parent") == str(gone)
    assert f"{gone}/change" not in page.content.decode()


def test_the_callers_own_id_is_shown(admin_client: Client) -> None:
    row = a_message(id=UUID(as_task_id("nightly")), headers='{"task_id": "nightly"}')
    assert field(shown(admin_client, row), "own_id") == "nightly"


def test_a_message_and_the_result_of_the_same_task_lead_to_each_other(admin_client: Client) -> None:
    message = a_message()
    result = a_result(id=message.pk, state="STARTED", done=None)
    assert address(result) in shown(admin_client, message).content.decode()
    assert address(message) in shown(admin_client, result).content.decode()


def test_a_running_message_leads_to_its_worker_and_the_worker_to_what_it_holds(admin_client: Client) -> None:
    worker, message = a_worker(), a_message(owner=4242, claim=1)
    page = shown(admin_client, message)
    assert field(page, "held_by") == "celery@here"
    assert f'href="{address(worker)}"' in page.content.decode()
    assert 'href="/admin/djtasks/message/?owner=4242"' in shown(admin_client, worker).content.decode()
    assert 'href="/admin/djtasks/result/?worker=celery%40here"' in shown(admin_client, worker).content.decode()


def test_a_worker_that_is_gone_is_named_without_a_link(admin_client: Client) -> None:
    assert field(shown(admin_client, a_message(owner=7, claim=1)), "held_by") == "a worker that is gone (7)"
    page = shown(admin_client, a_result(owner=7, worker="celery@there"))
    assert field(page, "worker_link") == "celery@there"


def test_a_message_that_has_ended_meanwhile_leads_to_its_result(admin_client: Client) -> None:
    result = a_result()
    response = admin_client.get(f"/admin/djtasks/message/{result.pk}/change/", follow=True)
    assert response.redirect_chain == [(address(result), 302)]
    assert "This task has ended meanwhile" in words(response)


def test_a_row_that_is_not_there_is_said_so(admin_client: Client) -> None:
    for kind, pk in (("message", uuid4()), ("result", uuid4()), ("result", "no-uuid"), ("worker", 10**30)):
        response = admin_client.get(f"/admin/djtasks/{kind}/{pk}/change/", follow=True)
        assert "doesn’t exist. Perhaps it was deleted?" in words(response)


@pytest.mark.parametrize("make", [a_message, a_result, a_worker])
def test_the_page_of_a_row_takes_at_most_six_queries(
    admin_client: Client, django_assert_max_num_queries: Any, make: Callable[..., Any]
) -> None:
    row = make() if make is a_worker else make(owner=4242, headers=f'{{"parent_id": "{uuid4()}", "root_id": "x"}}')
    with django_assert_max_num_queries(6):
        shown(admin_client, row)


# -- whatever it is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "args"),
    [
        (b'[["\\u0000"], {}]', r"['\x00']"),
        (b'[["\\ud800"], {}]', r"['\ud800']"),
        ('[["\u202egnp.exe"], {}]'.encode(), r"['\u202egnp.exe']"),
        (b"[[NaN, -Infinity], {}]", "[nan, -inf]"),
        (b"[[1e999], {}]", "[inf]"),
        ('[["naïve 日本 🎉"], {}]'.encode(), "['naïve 日本 🎉']"),
        (b'[["</pre></div>"], {}]', "['</pre></div>']"),
        (b"[[], {}]", "[]"),
    ],
)
def test_odd_json_is_shown_as_python_writes_it(admin_client: Client, body: bytes, args: str) -> None:
    page = shown(admin_client, a_message(body=body))
    assert_inert(page)
    assert field(page, "args") == args


@pytest.mark.parametrize(
    ("body", "content_type", "why"),
    [
        (b"{", "application/json", "This cannot be decoded: json cannot decode the bytes"),
        (b"\xff\xfe\x00", "application/json", "This cannot be decoded: json cannot decode the bytes"),
        (b"", "application/json", "This cannot be decoded: json cannot decode the bytes"),
        (b"[" * 100_000 + b"]" * 100_000, "application/json", "the value is nested too deeply"),
        (b"[[" + b"9" * 5000 + b"], {}]", "application/json", "This cannot be decoded: json cannot decode the bytes"),
        (b"x", "application/x-unknown", "This cannot be decoded: content of type 'application/x-unknown' was refused"),
        (b"x", SCRIPT, "This cannot be decoded: content of type"),
        (b"x", "", "This cannot be decoded: content of type '' was refused"),
        (b'{"no": "call"}', "application/json", "This is not [args, kwargs]:\n\n{'no': 'call'}"),
        (b'"call"', "application/json", "This is not [args, kwargs]:\n\n'call'"),
        (b'[{"__type__": "odd", "__value__": 1}, {}]', "application/json", "the type 'odd' is not registered here"),
    ],
)
def test_a_body_that_cannot_be_decoded_is_shown_as_such(
    admin_client: Client, body: bytes, content_type: str, why: str
) -> None:
    page = shown(admin_client, a_message(body=body, content_type=content_type))
    assert_inert(page)
    assert why in field(page, "args")
    assert len(page.content) < 100_000


@pytest.mark.parametrize("text", [SCRIPT, "&lt;b&gt;", "'\"><b>", "{{ 7|add:7 }}", "\u202e\u0007"])
def test_hostile_text_does_nothing_wherever_it_stands(admin_client: Client, text: str) -> None:
    encoded = dumps(([text], {text: text}))[1]
    headers = dumps({"task_id": text, "parent_id": text, "root_id": text, text: text})[1].decode()
    message = a_message(name=text, queue=text, body=encoded, headers=headers)
    error = dumps({"exc_type": text, "exc_module": text, "exc_message": [text], "exc_text": text})[1]
    result = a_result(
        name=text,
        queue=text,
        state=text,
        worker=text,
        done=None,
        result=error,
        content_type=text,
        traceback=text,
        headers=headers,
        body=encoded,
        body_content_type="application/json",
    )
    failed = a_result(name=text, state="FAILURE", result=error, traceback=text)
    worker = a_worker(name=text, host=text, pool=text, queues=[text], counters={text: 1})
    for row in (message, result, failed, worker):
        assert_inert(shown(admin_client, row))
    for path in ("message", "result", "worker"):
        assert_inert(admin_client.get(f"/admin/djtasks/{path}/"))
        assert_inert(admin_client.get(f"/admin/djtasks/{path}/", {"q": text}))
    for column in ("name", "queue", "state", "worker"):
        assert_inert(admin_client.get("/admin/djtasks/result/", {column: text}))
    shown_name = field(shown(admin_client, message), "task")
    assert shown_name == text.replace("\u202e", r"\u202e").replace("\u0007", r"\x07")


def test_a_body_of_5_mb_is_shown_by_its_beginning(admin_client: Client) -> None:
    row = a_message(body=b'[["' + b"x" * 5_000_000 + b'"], {}]')
    page = shown(admin_client, row)
    assert field(page, "args").startswith("These are 5,000,010 bytes: too many to be decoded here.")
    assert field(page, "stored_as") == "5,000,010 bytes, application/json"
    assert len(page.content) < 50_000


def test_what_is_long_is_cut(admin_client: Client) -> None:
    many = dumps(([list(range(10_000)), "x" * 100_000], {}))[1]
    page = shown(admin_client, a_message(body=many, headers='{"headers": "' + "y" * 1_000_000 + '"}'))
    assert "… (9,800 more)" in field(page, "args")
    assert "… (100,000 in all)" in field(page, "args")
    assert len(page.content) < 100_000


def test_of_a_long_traceback_the_end_is_shown(admin_client: Client) -> None:
    page = shown(admin_client, a_result(state="FAILURE", traceback="a\n" * 500_000 + "ValueError: the end"))
    assert field(page, "trace").startswith("… (950,019 characters before)")
    assert field(page, "trace").endswith("ValueError: the end")
    assert len(page.content) < 200_000


@pytest.mark.parametrize("method", ["gzip", "zlib"])
def test_a_bomb_is_not_unpacked(admin_client: Client, method: str) -> None:
    bomb = gzip.compress(bytes(50_000_000)) if method == "gzip" else zlib.compress(bytes(50_000_000))
    page = shown(admin_client, a_message(body=bomb, content_encoding="gzip"))
    assert field(page, "args").startswith("Decompressed, these are over 250,000 bytes: too many to be decoded here.")


@pytest.mark.parametrize("encoding", ["gzip", "lzma", "rot13", SCRIPT])
def test_a_broken_or_unknown_compression_is_shown_as_such(admin_client: Client, encoding: str) -> None:
    page = shown(admin_client, a_message(body=b"\x00\x01<b>", content_encoding=encoding))
    assert_inert(page)
    assert field(page, "args").startswith("This cannot be decoded: ")


@pytest.mark.parametrize("headers", ["", "{", "[]", "null", "7", '{"parent_id": 7, "root_id": {}}', "[" * 100_000])
def test_headers_that_are_none_are_shown_all_the_same(admin_client: Client, headers: str) -> None:
    page = shown(admin_client, a_message(headers=headers))
    assert field(page, "parent") == "-"


def test_ids_in_headers_that_are_no_unicode_are_shown_escaped(admin_client: Client) -> None:
    page = shown(admin_client, a_message(headers='{"parent_id": "\\ud800", "task_id": "\\u0000"}'))
    assert field(page, "parent") == "-"
    assert field(page, "own_id") == r"\x00"
    assert r"'parent_id': '\ud800'" in field(page, "other_headers")


# -- what it never does -------------------------------------------------------------------------------------------


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickle_is_not_read_unless_it_is_accepted(admin_client: Client, tmp_path: Path) -> None:
    content = {"content_type": "application/x-python-serialize"}
    body = pickle.dumps(([Bomb(tmp_path / "message")], {}))
    page = shown(admin_client, a_message(body=body, **content))
    assert "'application/x-python-serialize' was refused" in field(page, "args")
    page = shown(admin_client, a_result(result=pickle.dumps(Bomb(tmp_path / "result")), **content))
    assert "'application/x-python-serialize' was refused" in field(page, "outcome")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["pickle", "yaml", "msgpack"])
def test_what_the_settings_accept_is_read(admin_client: Client, configure: Callable[..., None], name: str) -> None:
    content_type, body = dumps([["hello"], {}], name)
    row = a_message(body=body, content_type=content_type)
    assert "was refused" in field(shown(admin_client, row), "args")
    configure(ACCEPT_CONTENT=["json", name])
    assert field(shown(admin_client, row), "args") == "['hello']"


def test_results_are_read_by_their_own_setting(admin_client: Client, configure: Callable[..., None]) -> None:
    configure(ACCEPT_CONTENT=["json", "yaml"], RESULT_ACCEPT_CONTENT=["json"])
    content_type, body = dumps(["hello"], "yaml")
    page = shown(admin_client, a_result(result=body, content_type=content_type))
    assert "was refused" in field(page, "outcome")


class Loud(Exception):
    """An exception that is heard when it is made."""

    made = 0

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        type(self).made += 1


def test_an_exception_is_shown_without_being_made(admin_client: Client) -> None:
    content_type, body = encode_exception(Loud("hello"))
    before = Loud.made
    page = shown(admin_client, a_result(state="FAILURE", result=body, content_type=content_type))
    assert field(page, "outcome").startswith(f"{__name__}.Loud: hello")
    assert Loud.made == before
