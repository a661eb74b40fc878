"""Queues of one worker alone, and broadcast queues: their names, and how they are declared."""

from types import SimpleNamespace

import pytest
from django.test import override_settings

from djtasks import Broadcast, Exchange, Queue, worker_direct
from djtasks.conf import settings
from djtasks.exceptions import ImproperlyConfigured, QueueNotFound
from djtasks.queuenames import is_broadcast, is_own, with_own
from djtasks.routing import known_queues, route
from djtasks.worker.options import WorkerOptions, consumed_queues

#: What kombu.common.Broadcast("news") looks like.
KOMBUS = SimpleNamespace(name="bcast.1f0a", alias="news", exchange=SimpleNamespace(name="news", type="fanout"))


@pytest.mark.parametrize(
    "declared",
    [
        ["celery", Broadcast("news")],
        ["celery", Broadcast(alias="news", name="other")],
        ["celery", KOMBUS],
        {"celery": {}, "news": {"broadcast": True}},
    ],
)
def test_a_broadcast_queue_is_declared_as_celery_has_it_or_in_a_dict(declared: object) -> None:
    with override_settings(DJTASKS={"TASK_QUEUES": declared}):
        assert known_queues() == ("celery", "news")
        assert is_broadcast("news")
        assert not is_broadcast("celery")
        assert with_own(known_queues(), "w1@host") == ("celery", "news", "news.w1@host")
        routes = {"tasks.reload": {"queue": "news", "exchange": "news"}}
        with override_settings(DJTASKS={"TASK_QUEUES": declared, "TASK_ROUTES": routes}):
            assert route("tasks.reload", (), {}, {}) == ("news", 0)
            assert route("tasks.other", (), {}, {"queue": Broadcast("news")}) == ("news", 0)


def test_a_queue_that_is_bound_to_an_exchange_of_the_type_fanout_is_shared_as_in_celery() -> None:
    with override_settings(DJTASKS={"TASK_QUEUES": [Queue("news", Exchange("news", type="fanout"))]}):
        assert not is_broadcast("news")


def test_with_worker_direct_each_worker_has_a_queue_of_its_own() -> None:
    queue = worker_direct("w1@host")
    assert (queue.name, str(queue.exchange), queue.routing_key) == ("w1@host.dq", "C.dq2", "w1@host")
    assert worker_direct(queue) is queue
    assert with_own(["celery"], "w1@host") == ("celery",)
    with override_settings(DJTASKS={"WORKER_DIRECT": True, "TASK_ROUTES": {"tasks.here": {"queue": queue}}}):
        assert settings.WORKER_DIRECT
        assert with_own(["celery"], "w1@host") == ("celery", "w1@host.dq")
        assert with_own(["w1@host.dq"], "w1@host") == ("w1@host.dq",)
        assert route("tasks.here", (), {}, {}) == ("w1@host.dq", 0)
        assert WorkerOptions(("celery",), "w1@host").whole().queues == ("celery", "w1@host.dq")


def test_queues_of_one_worker_need_not_be_declared() -> None:
    said = {"TASK_CREATE_MISSING_QUEUES": False, "TASK_QUEUES": ["celery", Broadcast("news")]}
    with override_settings(DJTASKS={**said, "WORKER_DIRECT": True}):
        for queue in ("w1@host.dq", "news.w1@host"):
            assert is_own(queue)
            assert route("tasks.any", (), {}, {"queue": queue})[0] == queue
            assert consumed_queues([queue], []) == (queue,)
    with override_settings(DJTASKS=said), pytest.raises(QueueNotFound, match=r"'w1@host.dq' is not in TASK_QUEUES"):
        route("tasks.any", (), {}, {"queue": worker_direct("w1@host")})


def test_what_can_be_no_queue_of_one_worker_is_refused_with_a_sentence() -> None:
    with pytest.raises(TypeError, match=r"worker_direct\(\) needs the name of a node, not 7"):
        worker_direct(7)
    with pytest.raises(TypeError, match=r"Broadcast\(\) needs a name"):
        Broadcast()
    with (
        override_settings(DJTASKS={"WORKER_DIRECT": True}),
        pytest.raises(ImproperlyConfigured, match="a queue of this worker's own .*; give it a shorter name"),
    ):
        WorkerOptions(("celery",), f"w1@{'x' * 200}").whole()
