"""What is known of workers and tasks, from events in whatever order they come."""

import time
from typing import Any

import pytest

from djtasks.events import State

NOW = time.time()


def event(type_: str, number: int = 0, **fields: Any) -> dict[str, Any]:
    base = {"type": type_, "hostname": "w1@host", "timestamp": NOW + number, "local_received": NOW + number}
    return {**base, "clock": number, "pid": 7, "utcoffset": 0, **fields}


def life(uuid: str, start: int = 0, **fields: Any) -> list[dict[str, Any]]:
    return [
        event("task-sent", start, uuid=uuid, name="add", args="(1,)", kwargs="{}", hostname="gen1@web", queue="q"),
        event(
            "task-received", start + 1, uuid=uuid, name="add", args="(1,)", kwargs="{}", retries=0, eta=None, **fields
        ),
        event("task-started", start + 2, uuid=uuid),
        event("task-succeeded", start + 3, uuid=uuid, result="'ok'", runtime=0.5),
    ]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (2, 0, 3, 1)])
def test_a_task_ends_up_the_same_whatever_came_first(order: tuple[int, ...]) -> None:
    state, events = State(), life("t1")
    for place in order:
        state.event(events[place])
    task = state.tasks["t1"]
    assert (task.state, task.name, task.args, task.result, task.runtime) == ("SUCCESS", "add", "(1,)", "'ok'", 0.5)
    assert (task.sent, task.received, task.started, task.succeeded) == (NOW, NOW + 1, NOW + 2, NOW + 3)
    assert task.timestamp == NOW + 3
    assert task.ready
    assert task.worker is not None
    assert (task.worker.hostname, task.client) == ("w1@host", "gen1@web")
    assert task.info() == {"args": "(1,)", "kwargs": "{}", "retries": 0, "result": "'ok'", "runtime": 0.5}
    assert state.event_count == 4
    assert state.task_count == 1


def test_a_retry_begins_anew() -> None:
    state = State()
    for each in (
        *life("t1")[:3],
        event("task-retried", 3, uuid="t1", exception="ValueError()", traceback="..."),
        event("task-received", 4, uuid="t1", name="add", args="()", kwargs="{}", retries=1),
    ):
        state.event(each)
    task = state.tasks["t1"]
    assert (task.state, task.retries, task.exception) == ("RECEIVED", 1, "ValueError()")


def test_an_event_of_ones_own_is_a_state() -> None:
    state = State()
    state.event(event("task-started", 1, uuid="t1"))
    state.event(event("task-progress", 2, uuid="t1", step=3))
    task = state.tasks["t1"]
    assert (task.state, task.step) == ("PROGRESS", 3)  # type: ignore[attr-defined]
    assert state.event(event("other-thing")) is None
    state.handlers["other"] = lambda subject, event: subject
    assert state.event(event("other-thing")) == ("thing", "thing")


def test_tasks_are_found_by_time_by_type_and_by_worker() -> None:
    state = State()
    for number, (uuid, name, node) in enumerate((("a", "add", "w1"), ("b", "mul", "w2"), ("c", "add", "w2"))):
        state.event(event("task-received", number, uuid=uuid, name=name, hostname=node))
    assert [uuid for uuid, _ in state.tasks_by_time()] == ["c", "b", "a"]
    assert [uuid for uuid, _ in state.tasks_by_timestamp(limit=2, reverse=False)] == ["a", "b"]
    assert [uuid for uuid, _ in state.tasks_by_type("add")] == ["c", "a"]
    assert [uuid for uuid, _ in state.tasks_by_worker("w2", limit=1)] == ["c"]
    assert {task.uuid for task in state.tasks_by_type["add"]} == {"a", "c"}
    assert state.task_types() == ["add", "mul"]
    assert [uuid for uuid, _ in state.itertasks(limit=2)] == ["a", "b"]


def test_a_worker_that_is_not_heard_of_is_gone() -> None:
    state, joined, left = State(), [], []
    state.on_node_join = lambda worker: joined.append(worker.hostname)
    state.event(event("worker-online", 0, freq=500, sw_ident="djtasks", active=0))
    state.event(event("worker-heartbeat", 1, freq=500, active=2, processed=9, loadavg=[0.1, 0.2, 0.3]))
    worker = state.workers["w1@host"]
    assert worker.heartbeat_expires == NOW + 1 + 1000
    assert (worker.alive, worker.active, worker.processed, worker.freq) == (True, 2, 9, 500)
    assert (worker.id, worker.status_string, joined) == ("w1@host.7", "ONLINE", ["w1@host"])
    assert state.alive_workers() == [worker]

    state.event(event("worker-heartbeat", -60, hostname="w2@host", freq=5))
    assert state.workers["w2@host"].status_string == "OFFLINE"
    state.event(event("worker-offline", 2))
    assert not worker.alive
    assert state.alive_workers() == []
    state.on_node_leave = lambda worker: left.append(worker.hostname)
    state.event(event("worker-offline", 3))
    assert (left, "w1@host" in state.workers) == (["w1@host"], False)


def drift(state: State) -> None:
    for number in range(2):
        state.event(event("worker-heartbeat", number, local_received=NOW + number + 100))


def test_a_clock_that_is_wrong_is_warned_of_once() -> None:
    state = State()
    with pytest.warns(UserWarning, match="The clocks of w1@host and of this host differ by 100 seconds") as said:
        drift(state)
    assert len(said) == 1


def test_no_more_is_kept_than_may_be() -> None:
    state = State(max_workers_in_memory=2, max_tasks_in_memory=3)
    for number in range(10):
        state.event(event("task-received", number, uuid=f"t{number}", name="add", hostname=f"w{number}"))
    assert state.tasks.keys() == ["t7", "t8", "t9"]
    assert state.workers.keys() == ["w8", "w9"]
    assert State().max_tasks_in_memory == 10000
    assert State().max_workers_in_memory == 5000


def test_what_has_ended_is_forgotten_and_what_runs_is_kept() -> None:
    state = State()
    for each in (*life("done"), *life("running")[:3]):
        state.event(each)
    assert state.freeze_while(lambda more: [*state.tasks.keys(), more], "x", clear_after=True) == [
        "done",
        "running",
        "x",
    ]
    assert state.tasks.keys() == ["running"]
    assert (state.workers.keys(), state.event_count) == ([], 0)
    state.clear(ready=False)
    assert state.tasks.keys() == []


def test_families_are_put_together_in_any_order() -> None:
    state = State()
    state.event(event("task-received", 1, uuid="child", name="add", parent_id="root", root_id="root"))
    state.event(event("task-received", 0, uuid="root", name="add", root_id="root", parent_id=None))
    root, child = state.tasks["root"], state.tasks["child"]
    assert (child.parent, child.root, list(root.children)) == (root, root, [child])
    assert root.as_dict()["children"] == ["child"]
    assert child.as_dict()["parent"] == "root"


def test_no_field_of_an_event_covers_up_what_a_task_does() -> None:
    state = State()
    state.event(event("task-received", 1, uuid="t1", info="nonsense", state="NONSENSE", ready=True))
    task = state.tasks["t1"]
    assert (task.state, task.ready, task.info()) == ("RECEIVED", False, {})
