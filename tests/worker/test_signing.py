"""A worker that accepts signed calls runs these, and no others."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from djtasks import AsyncResult, chain, chord, group
from djtasks.exceptions import SecurityError, SecurityWarning
from djtasks.ids import new_task_id
from djtasks.security import check_privileges
from tests.keys import Keys
from tests.worker.running import Workers, error, query, value
from tests.worker_app import signed
from tests.worker_app.tasks import echo, fail

IMPORTS = ["tests.worker_app.signed"]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """The pair that signs here and in the worker, and another one."""
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def worker(shared: Workers, keys: Keys) -> None:
    """A worker that accepts signed calls only."""
    shared.start("-c", "1", **keys.settings(IMPORTS=IMPORTS))


@pytest.fixture(autouse=True)
def signs(keys: Keys) -> Iterator[None]:
    """This process signs its calls."""
    with override_settings(DJTASKS=keys.settings()):
        yield


def altered(column: str, text: str) -> AsyncResult[Any]:
    """A call whose row somebody has altered before any worker saw it."""
    result = echo.apply_async(["true"], queue="aside")
    query(f"UPDATE djtasks_message SET {column} = %s WHERE id = %s", text, result.id)
    query("UPDATE djtasks_message SET queue = 'celery', lane = 'celery' WHERE id = %s", result.id)
    echo.delay("wakes the worker")
    return result


def test_a_signed_call_runs_and_its_arguments_can_be_read(worker: None) -> None:
    result = echo.delay("signed")
    assert value(result) == "signed"


def test_a_chord_is_signed_with_its_body(worker: None) -> None:
    assert value(chain(echo.s(1), group(echo.s(), echo.s()), echo.s(), echo.s()).apply_async()) == [1, 1]


@pytest.mark.parametrize("failing", [False, True])
def test_a_body_that_somebody_has_altered_is_not_run(worker: None, failing: bool) -> None:
    header = [echo.s(1).set(queue="aside"), fail.s("no") if failing else echo.s(2)]
    result = chord(header, echo.s().set(task_id=new_task_id()).on_error(echo.s()))()
    other = json.dumps(dict(echo.s("altered").set(task_id=result.id)))
    query("UPDATE djtasks_chord SET body = %s", other)
    query("UPDATE djtasks_message SET queue = 'celery', lane = 'celery' WHERE queue = 'aside'")
    echo.delay("wakes the worker")
    assert error(AsyncResult(result.id)).startswith("SecurityError: the body of the chord is not signed")


def test_a_retry_with_other_arguments_and_a_call_by_a_task_are_signed_by_the_child(worker: None) -> None:
    result = signed.count.delay(0)
    assert value(result) == 3
    child: AsyncResult[Any] = AsyncResult(value(signed.parent.delay()))
    assert value(child) == "child"


def test_an_unsigned_call_is_not_run(worker: None) -> None:
    result = echo.apply_async(["unsigned"], serializer="json")
    assert "ContentDisallowed: content of type 'application/json' was refused, for only auth" in error(result)


def test_a_call_under_the_name_of_another_task_is_not_run(worker: None) -> None:
    assert "SecurityError: the call is not what was signed" in error(altered("name", "tests.worker_app.tasks.swallow"))


def test_a_callback_that_somebody_added_is_not_called(worker: None) -> None:
    headers = '{"callbacks": [{"task": "tests.worker_app.tasks.noop", "args": [], "kwargs": {}, "options": {}}]}'
    assert "SecurityError: the call is not what was signed" in error(altered("headers", headers))


def test_an_errback_that_somebody_added_is_not_called_in_our_name(worker: None) -> None:
    sent = new_task_id()
    errback = {"task": signed.child.name, "args": [], "kwargs": {}, "options": {"task_id": sent}, "immutable": True}
    result = altered("headers", json.dumps({"errbacks": [errback]}))
    assert "SecurityError: the call is not what was signed" in error(result)
    assert not AsyncResult(sent).exists()


def test_a_true_errback_is_signed_by_the_worker(worker: None) -> None:
    sent = new_task_id()
    result = fail.apply_async(["on purpose"], link_error=signed.note_id.s().set(task_id=sent))
    assert "on purpose" in error(result)
    assert value(AsyncResult(sent)) == result.id


def test_a_callback_is_signed_by_the_child(worker: None) -> None:
    sent = new_task_id()
    assert value(echo.apply_async(["a"], link=signed.note_id.s().set(task_id=sent))) == "a"
    assert value(AsyncResult(sent)) == "a"


def test_what_is_put_back_is_still_signed(worker: None) -> None:
    result = fail.delay("on purpose")
    assert "on purpose" in error(result)
    assert result.requeue()
    assert "on purpose" in error(result)


def test_a_call_with_altered_arguments_is_not_run_and_its_arguments_cannot_be_read(worker: None) -> None:
    result = echo.apply_async(["a true word"], queue="aside")
    query(
        "UPDATE djtasks_message SET body = replace(convert_from(body, 'UTF8'), 'a true', 'a false')::bytea,"
        " queue = 'celery', lane = 'celery' WHERE id = %s",
        result.id,
    )
    echo.delay("wakes the worker")
    assert "SecurityError: the call is not what was signed" in error(result)
    with pytest.raises(SecurityError):
        _ = result.args


def test_while_a_key_is_replaced_the_calls_of_both_run(worker: None, keys: Keys) -> None:
    with override_settings(DJTASKS=keys.settings(keys.new)):
        refused = echo.delay("too early")
        assert "whose certificate is not in SECURITY_CERT_STORE" in error(refused)
        keys.trust(keys.new)
        new = echo.delay("new")
    try:
        assert [value(new), value(echo.delay("old"))] == ["new", "old"]
    finally:
        keys.distrust(keys.new)


# -- root ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process seems to be root's."""
    for name in ("getuid", "geteuid", "getgid", "getegid"):
        monkeypatch.setattr(os, name, lambda: 0)
    monkeypatch.delenv("C_FORCE_ROOT", raising=False)


@pytest.mark.parametrize("content", ["pickle", "application/x-python-serialize"])
def test_a_worker_of_root_that_reads_pickle_does_not_start(root: None, content: str) -> None:
    with (
        override_settings(DJTASKS={"ACCEPT_CONTENT": ["json", content]}),
        pytest.raises(CommandError, match="superuser privileges .* take pickle out of ACCEPT_CONTENT"),
    ):
        call_command("runworker")


def test_root_may_force_it_and_is_warned(root: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("C_FORCE_ROOT", "1")
    with pytest.warns(SecurityWarning, match="run it as a user of its own"):
        check_privileges(["pickle"])


def test_root_without_pickle_is_warned(root: None) -> None:
    with pytest.warns(SecurityWarning, match="superuser privileges"):
        check_privileges(["json"])


def test_somebody_else_may_read_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("getuid", "geteuid", "getgid", "getegid"):
        monkeypatch.setattr(os, name, lambda: 4_000_001)
    check_privileges(["pickle"])


def test_a_worker_takes_a_state_file_and_says_that_it_needs_none(workers: Workers, tmp_path: Path) -> None:
    worker = workers.start("-S", str(tmp_path / "state"), "-c", "1")
    worker.says("--statedb does nothing: revocations are rows of the database")
    assert list(tmp_path.glob("state*")) == []
