"""`app.control.inspect()`: what workers say of themselves, and what the tables say of those that do not."""

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from djtasks import app, shared_task
from djtasks.exceptions import DuplicateNodenameWarning
from djtasks.ids import new_task_id
from tests.worker.running import Gate, RunningWorker, Workers, ended, hand_over
from tests.worker_app import tasks


@pytest.fixture(scope="module")
def worker(shared: Workers) -> RunningWorker:
    """A worker with one child."""
    return shared.start("-c", "1", "-Q", "celery,other", IMPORTS=["tests.worker_app.commanded"])


def asked(worker: RunningWorker, timeout: float = 10.0, **options: Any) -> Any:
    """Ask this worker."""
    return app.control.inspect(f"{worker.name}@here", timeout=timeout, **options)


def test_what_runs_is_told_with_its_request_start_and_process(
    shared: Workers, worker: RunningWorker, gate: Gate
) -> None:
    assert asked(worker).active() == []
    result = tasks.hold.delay(str(gate))
    pid = shared.audit.began(result)["pid"]
    (found,) = asked(worker).active()
    assert abs(found.pop("time_start") - time.time()) < 30
    assert found == {
        "id": result.id,
        "name": tasks.hold.name,
        "type": tasks.hold.name,
        "args": [str(gate)],
        "kwargs": {},
        "hostname": f"{worker.name}@here",
        "acknowledged": True,
        "delivery_info": {"exchange": "", "routing_key": "celery", "priority": 0, "redelivered": False},
        "worker_pid": pid,
    }
    assert asked(worker).reserved() == []
    ((state, info),) = asked(worker).query_task(result.id, "nobody's").values()
    assert (state, info["id"], info["worker_pid"]) == ("active", result.id, pid)
    # By node, where it is asked of several.
    assert list(app.control.inspect([f"{worker.name}@here"], timeout=10).active()) == [f"{worker.name}@here"]
    gate.open()
    ended(result)


def test_what_is_taken_and_has_not_begun_is_reserved(worker: RunningWorker, gate: Gate) -> None:
    held, behind = hand_over("celery", tasks.hold, gate, [tasks.noop])
    found = asked(worker).reserved()
    assert [each["id"] for each in found] == [behind[0].id]
    assert found[0]["time_start"] is None
    gate.open()
    ended(held)


def test_what_waits_for_its_time_is_scheduled(worker: RunningWorker) -> None:
    eta = datetime.now(UTC) + timedelta(hours=1)
    result = tasks.echo.apply_async(["later"], eta=eta, priority=3)
    (found,) = asked(worker).scheduled()
    assert (found["eta"], found["priority"]) == (eta.isoformat(), 3)
    assert (found["request"]["id"], found["request"]["args"]) == (result.id, ["later"])
    assert asked(worker).query_task([result.id])[result.id][0] == "scheduled"


def test_a_revoked_id_is_told(worker: RunningWorker) -> None:
    # Of one that waits nothing is left to revoke: it ends at once.
    unborn = new_task_id()
    app.control.revoke(unborn)
    assert unborn in asked(worker).revoked()
    assert unborn in asked(worker).hello("another@host")["revoked"]


def test_registered_tasks_come_with_their_rates_or_what_was_asked_for(worker: RunningWorker) -> None:
    found = asked(worker).registered()
    assert tasks.noop.name in found
    assert not [name for name in found if name.startswith("celery.")]
    assert f"{tasks.noop.name} [name={tasks.noop.name}]" in asked(worker).registered_tasks("name", "_secret")


def test_a_worker_tells_its_counts_queues_settings_and_memory(worker: RunningWorker) -> None:
    ended(tasks.noop.delay())
    ask = asked(worker)
    stats = ask.stats()
    assert stats["total"][tasks.noop.name] >= 1
    assert (stats["pid"], stats["pool"]["max-concurrency"]) == (worker.pid, 1)
    assert stats["pool"]["processes"] == [worker.children(1)[0].pid]
    assert stats["rusage"]["maxrss"] > 0
    assert stats["broker"]["transport"] == "postgresql"
    assert [queue["name"] for queue in ask.active_queues()] == ["celery", "other"]
    assert ask.conf()["imports"] == ["tests.worker_app.commanded"]
    assert ask.conf(with_defaults=True)["worker_enable_remote_control"] is True
    assert "djtasks:" in ask.report()["ok"]
    assert int(ask.clock()["clock"]) < int(ask.clock()["clock"])
    assert ask.ping() == {"ok": "pong"}
    assert ask.memsample().endswith("MB")
    assert "rss (sample)" in ask.memdump()
    assert "draws no pictures" in ask.objgraph()["error"]
    assert ask.call("dump_active") == []


def test_commands_of_a_projects_own_are_answered_and_what_json_cannot_say_is_put_into_words(
    worker: RunningWorker,
) -> None:
    node = f"{worker.name}@here"
    replies = app.control.broadcast("set_level", {"level": 7}, [node], reply=True, timeout=10)
    assert replies == [{node: {"ok": f"{node} is at 7"}}]
    assert asked(worker).call("level") == {"ok": 7, "queues": ["celery", "other"]}
    odd = asked(worker).call("odd", words=["x"])
    assert odd == {"nul": "a\N{REPLACEMENT CHARACTER}b", "nan": "nan", "half": "?", "object": [1, 2], "words": ["x"]}
    assert asked(worker).call("broken") == {"error": "RuntimeError('out of order')"}


@shared_task(name="tests.secretive", sensitive=("password",))
def secretive(gate: str, password: str) -> None:
    """Known here only."""


def test_sensitive_arguments_are_not_told(worker: RunningWorker) -> None:
    secretive.apply_async(["x"], {"password": "hunter2"}, countdown=600)
    (found,) = [each for each in asked(worker).scheduled() if each["request"]["type"] == secretive.name]
    assert found["request"]["kwargs"] == {"password": "********"}


def test_nodes_are_chosen_by_pattern_limit_and_name_and_called_back(worker: RunningWorker) -> None:
    node = f"{worker.name}@here"
    told: list[Any] = []
    assert app.control.inspect(pattern="work*@here", timeout=10, callback=told.append).ping() == {node: {"ok": "pong"}}
    assert told == [{node: {"ok": "pong"}}]
    assert app.control.inspect(pattern=r"worker\d+@", matcher="pcre", timeout=10).ping() is not None
    assert app.control.inspect(pattern="nobody*", timeout=10).ping() is None
    assert app.control.inspect("nobody@here", timeout=10).ping() is None
    assert app.control.inspect(["nobody@here"], timeout=10).active() is None
    assert len(app.control.inspect(limit=1, timeout=10).active()) == 1
    for bad, options in (
        ("destination", {"destination": [1]}),
        ("timeout", {"timeout": float("nan")}),
        ("limit", {"limit": 0}),
        ("pattern", {"pattern": "(", "matcher": "pcre"}),
        ("matcher", {"pattern": "x", "matcher": "sql"}),
    ):
        with pytest.raises((TypeError, ValueError), match=bad):
            app.control.inspect(**options).ping()


def test_two_workers_of_one_name_are_warned_of(worker: RunningWorker, workers: Workers) -> None:
    workers.start("-P", "solo", "-Q", "elsewhere", "-n", f"{worker.name}@here")
    with pytest.warns(DuplicateNodenameWarning, match=worker.name):
        app.control.inspect(timeout=10).ping()
    workers.started[0].stop()


def test_tables_answer_for_workers_that_hang_or_have_just_died_or_are_told_not_to_answer(
    workers: Workers, gate: Gate
) -> None:
    for name in ("frozen", "dead"):
        workers.launch("-P", "threads", "-c", "1", "-l", "INFO", "-Q", name)
    workers.launch("-P", "solo", "-l", "INFO", "-Q", "silent", "-n", "silent@here", WORKER_ENABLE_REMOTE_CONTROL=False)
    frozen, dead, _ = (each.ready() for each in workers.started)
    held = tasks.hold.apply_async([str(gate)], queue="frozen")
    workers.audit.began(held)
    os.kill(frozen.pid, signal.SIGSTOP)
    lost = tasks.hold.apply_async([str(gate)], queue="dead")
    workers.audit.began(lost)
    later = tasks.noop.apply_async(queue="frozen", countdown=600)
    dead.signal(signal.SIGKILL)
    dead.wait()
    ask = app.control.inspect(timeout=0.5)
    assert ask.ping().keys().isdisjoint({f"{frozen.name}@here", f"{dead.name}@here", "silent@here"})
    found = ask.active()
    assert {f"{frozen.name}@here", "silent@here"} <= ask.from_tables
    assert [each["id"] for each in found[f"{frozen.name}@here"]] == [held.id]
    assert found[f"{frozen.name}@here"][0]["acknowledged"]
    # Until another worker has declared it dead.
    if f"{dead.name}@here" in found:
        assert f"{dead.name}@here" in ask.from_tables
    one = asked(frozen, timeout=0.2)
    assert one.reserved() == []
    assert [each["request"]["id"] for each in one.scheduled()] == [later.id]
    assert one.query_task(held.id)[held.id][0] == "active"
    assert [each["name"] for each in one.active_queues()] == ["frozen"]
    assert one.from_tables == {f"{frozen.name}@here"}
    assert one.stats() is None
    os.kill(frozen.pid, signal.SIGKILL)


def test_a_solo_worker_answers_while_it_is_at_a_task_and_is_shut_down_after_it(workers: Workers, gate: Gate) -> None:
    solo = workers.start("-P", "solo", "-Q", "alone")
    held = tasks.hold.apply_async([str(gate)], queue="alone")
    workers.audit.began(held)
    assert asked(solo).ping() == {"ok": "pong"}
    (found,) = asked(solo).active()
    assert (found["id"], found["worker_pid"]) == (held.id, solo.pid)
    assert asked(solo).stats()["pool"]["implementation"].endswith("SoloPool")
    # What needs the worker itself waits for it.
    app.control.add_consumer("more", destination=[f"{solo.name}@here"])
    assert [each["name"] for each in asked(solo).active_queues()] == ["alone"]
    app.control.shutdown([f"{solo.name}@here"])
    solo.says("Got shutdown from remote")
    gate.open()
    assert solo.wait() == 0
    assert ended(held) == "SUCCESS"
