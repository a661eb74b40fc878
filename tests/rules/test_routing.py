"""Where a call goes, and how urgent it is."""

import re
from typing import Any

import pytest
from django.conf import LazySettings
from hypothesis import given
from hypothesis import strategies as st

from djtasks import current
from djtasks.conf import load
from djtasks.exceptions import ImproperlyConfigured, QueueNotFound
from djtasks.messages import Claimed
from djtasks.routing import Exchange, Queue, checked_priority, compile_routes, known_queues, route, unknown_keys


class Task:
    """As much of a task as routing looks at."""

    def __init__(self, queue: Any = None, priority: int | None = None, routing_key: str | None = None) -> None:
        self.queue, self.priority, self.routing_key = queue, priority, routing_key


def where(name: str = "shop.tasks.pay", task: Any = None, **options: Any) -> str:
    return route(name, (), {}, options, task)[0]


def how_urgent(name: str = "shop.tasks.pay", task: Any = None, **options: Any) -> int:
    return route(name, (), {}, options, task)[1]


# Routers that dotted names find.


def by_first_argument(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **more: Any) -> Any:
    return {"queue": args[0]} if args else None


class OldRouter:
    def route_for_task(self, task: str, args: Any = None, kwargs: Any = None) -> Any:
        return "old" if task.startswith("shop.") else None


class NewRouter:
    def __call__(self, name: str, args: Any, kwargs: Any, options: Any, task: Any = None) -> Any:
        return {"queue": "new", "priority": 7}


def test_a_call_that_nothing_routes_goes_to_the_default_queue_with_the_default_priority(settings: LazySettings) -> None:
    settings.DJTASKS = {}
    assert route("x", (), {}, {}) == ("celery", 0)
    settings.DJTASKS = {"TASK_DEFAULT_QUEUE": "main", "TASK_DEFAULT_PRIORITY": 5}
    assert route("x", (), {}, {}) == ("main", 5)


def test_the_call_beats_the_task_which_beats_the_routes_which_beat_the_default(settings: LazySettings) -> None:
    settings.DJTASKS = {"TASK_ROUTES": {"shop.*": {"queue": "routed", "priority": 3}}, "TASK_DEFAULT_PRIORITY": 1}
    task = Task("own", 2)
    assert route("shop.x", (), {}, {"queue": "called", "priority": 4}, task) == ("called", 4)
    assert route("shop.x", (), {}, {}, task) == ("own", 2)
    assert route("shop.x", (), {}, {}, Task()) == ("routed", 3)
    assert route("other.x", (), {}, {}, Task()) == ("celery", 1)


def test_queue_and_priority_may_come_from_different_places(settings: LazySettings) -> None:
    settings.DJTASKS = {"TASK_ROUTES": {"shop.*": {"queue": "routed", "priority": 3}}}
    assert route("shop.x", (), {}, {"queue": "called"}) == ("called", 3)
    assert route("shop.x", (), {}, {"priority": 9}) == ("routed", 9)


@pytest.mark.parametrize(
    ("routes", "queue"),
    [
        ({"shop.tasks.pay": "exact"}, "exact"),
        ({"shop.tasks.pay": {"queue": "exact"}}, "exact"),
        ({"shop.*": "glob"}, "glob"),
        ({"*": "any"}, "any"),
        ({"*.pay": "end"}, "end"),
        ({re.compile(r"shop\..*pay"): "regex"}, "regex"),
        ({re.compile(r"tasks"): "no match at the start"}, "celery"),
        ({"shop.*": "glob", "shop.tasks.pay": "exact"}, "exact"),
        ([("shop.*", "first"), ("shop.tasks.*", "second")], "first"),
        ((("other.*", "first"), ("shop.*", {"queue": "second"})), "second"),
        (([("other.*", "first"), ("shop.*", {"queue": "nested"})],), "nested"),
        ([{"other.*": "first"}, {"shop.*": "second"}], "second"),
        (f"{__name__}.NewRouter", "new"),
        (f"{__name__}:NewRouter", "new"),
        ([f"{__name__}.by_first_argument", f"{__name__}.OldRouter"], "old"),
        (OldRouter(), "old"),
        (OldRouter, "old"),
        (NewRouter(), "new"),
        ([lambda name, *args, **kwargs: None, {"shop.tasks.pay": "later"}], "later"),
        ([lambda name, *args, **kwargs: {}, {"shop.tasks.pay": "never asked"}], "celery"),
        ([], "celery"),
        ({}, "celery"),
    ],
)
def test_routes_are_read_in_every_form_that_celery_takes(settings: LazySettings, routes: Any, queue: str) -> None:
    settings.DJTASKS = {"TASK_ROUTES": routes}
    assert where() == queue


def test_a_router_sees_the_call(settings: LazySettings) -> None:
    seen: list[Any] = []
    settings.DJTASKS = {"TASK_ROUTES": lambda *args, **kwargs: seen.append((args, kwargs))}
    task = Task()
    route("shop.x", (1,), {"a": 2}, {"priority": 3}, task)
    assert seen == [(("shop.x", (1,), {"a": 2}, {"priority": 3}), {"task": task})]


def test_a_router_by_its_arguments_routes_by_them(settings: LazySettings) -> None:
    settings.DJTASKS = {"TASK_ROUTES": [by_first_argument]}
    assert route("x", ("red",), {}, {})[0] == "red"
    assert route("x", (), {}, {})[0] == "celery"


def test_a_router_is_not_asked_when_the_call_says_everything(settings: LazySettings) -> None:
    settings.DJTASKS = {"TASK_ROUTES": lambda *args, **kwargs: pytest.fail("asked")}
    assert route("x", (), {}, {"queue": "q", "priority": 1}) == ("q", 1)


def test_routes_are_compiled_once_and_again_when_the_settings_change(settings: LazySettings) -> None:
    made: list[object] = []

    class Router(NewRouter):
        def __init__(self) -> None:
            made.append(self)

    settings.DJTASKS = {"TASK_ROUTES": Router}
    assert (where(), where(), len(made)) == ("new", "new", 1)
    settings.DJTASKS = {"TASK_ROUTES": {"*": "changed"}}
    assert where() == "changed"


def test_what_a_router_raises_reaches_the_caller(settings: LazySettings) -> None:
    settings.DJTASKS = {"TASK_ROUTES": by_first_argument}
    with pytest.raises(TypeError):
        route("x", 5, {}, {})


@pytest.mark.parametrize("routes", ["no.such.module.Router", [("a", 5)], [("a",)], ["nothere"], [5]])
def test_routes_that_make_no_sense_are_a_configuration_error(settings: LazySettings, routes: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="TASK_ROUTES"):
        compile_routes(routes)


def test_an_answer_that_is_no_route_is_a_configuration_error(settings: LazySettings) -> None:
    settings.DJTASKS = {"TASK_ROUTES": lambda *args, **kwargs: 5}
    with pytest.raises(ImproperlyConfigured, match="must return a queue, a dict or None"):
        where()


def test_a_key_that_says_nothing_in_a_route_is_found_with_the_one_that_was_meant() -> None:
    assert unknown_keys({"a": {"queue": "x", "routing-key": "x"}}) == [("routing-key", "routing_key")]
    assert unknown_keys([("a", {"que": "x"}), {"b": {"zzz": 1}}]) == [("que", "queue"), ("zzz", None)]
    assert unknown_keys([[("a", {"que": "x"})]]) == [("que", "queue")]
    assert unknown_keys({"a": "x"}) == unknown_keys(None) == unknown_keys(by_first_argument) == []


# -- queues -------------------------------------------------------------------------------------------------------


def test_a_queue_may_be_an_object_with_a_name(settings: LazySettings) -> None:
    settings.DJTASKS = {}
    assert where(queue=Queue("fast")) == "fast"
    assert where(task=Task(queue=Queue("own"))) == "own"


@pytest.mark.parametrize("queue", [5, b"q", "", "q" * 201, "a\0b", ["q"]])
def test_a_queue_that_can_be_no_queue_is_a_value_error(settings: LazySettings, queue: Any) -> None:
    settings.DJTASKS = {}
    with pytest.raises(ValueError, match="queue must be"):
        where(queue=queue)


def test_queues_may_have_any_name_of_up_to_two_hundred_characters(settings: LazySettings) -> None:
    settings.DJTASKS = {}
    for name in ("é" * 200, "with blank", "日本"):
        assert where(queue=name) == name


def test_queues_are_made_by_being_named(settings: LazySettings) -> None:
    settings.DJTASKS = {"TASK_QUEUES": ["celery", "fast"]}
    assert where(queue="new") == "new"


def test_a_queue_that_is_not_declared_is_refused_when_missing_ones_are_not_made(settings: LazySettings) -> None:
    settings.DJTASKS = {"TASK_QUEUES": ["celery", "fast"], "TASK_CREATE_MISSING_QUEUES": False}
    assert where(queue="fast") == "fast"
    assert where() == "celery"
    with pytest.raises(QueueNotFound, match="queue 'fats' is not in TASK_QUEUES; did you mean 'fast'"):
        where(queue="fats")


def test_only_the_default_queue_is_declared_when_none_is(settings: LazySettings) -> None:
    settings.DJTASKS = {"TASK_CREATE_MISSING_QUEUES": False}
    assert where(queue="celery") == "celery"
    with pytest.raises(QueueNotFound):
        where(queue="other")


def test_a_worker_that_is_not_told_takes_from_the_declared_queues(settings: LazySettings) -> None:
    settings.DJTASKS = {"TASK_DEFAULT_QUEUE": "main"}
    assert known_queues() == ("main",)
    settings.DJTASKS = {"TASK_QUEUES": [Queue("a"), "b"]}
    assert known_queues() == ("a", "b")


def test_queue_objects_are_read_from_the_settings_with_their_keys() -> None:
    read = load({"TASK_QUEUES": [Queue("a", routing_key="a.#", queue_arguments={"x-max-priority": 10}), "b"]})
    assert read.TASK_QUEUES == {"a": {"routing_key": "a.#", "queue_arguments": {"x-max-priority": 10}}, "b": {}}


def test_a_list_of_queues_and_exchanges_can_stay_as_celery_had_it() -> None:
    feeds = Queue("feeds", Exchange("media", type="topic", durable=True), routing_key="feed.#", durable=True)
    read = load({"TASK_QUEUES": [feeds, Queue("celery", routing_key="celery")]})
    assert list(read.TASK_QUEUES or {}) == ["feeds", "celery"]
    assert feeds == Queue("feeds", feeds.exchange, "feed.#")
    assert str(feeds.exchange) == "media"


@pytest.mark.parametrize(
    ("key", "queue"),
    [
        ("direct", "by_key"),
        ("plain", "plain"),
        ("feed", "feeds"),
        ("feed.import", "feeds"),
        ("feed.import.rss", "feeds"),
        ("feeder", "feeder"),
        ("video.big.convert", "videos"),
        ("video.convert", "video.convert"),
        ("anything.at.all.urgent", "urgents"),
        ("urgent", "urgents"),
    ],
)
def test_a_routing_key_leads_to_the_queue_that_has_it(settings: LazySettings, key: str, queue: str) -> None:
    settings.DJTASKS = {
        "TASK_QUEUES": {
            "by_key": {"routing_key": "direct"},
            "plain": {},
            "feeds": {"routing_key": "feed.#"},
            "videos": {"routing_key": "video.*.convert"},
            "urgents": {"routing_key": "#.urgent"},
        }
    }
    assert where(routing_key=key) == queue
    assert where(task=Task(routing_key=key)) == queue
    assert where(queue="named", routing_key=key) == "named"


def test_a_route_may_give_a_routing_key(settings: LazySettings) -> None:
    settings.DJTASKS = {"TASK_QUEUES": {"a": {"routing_key": "k"}}, "TASK_ROUTES": {"*": {"routing_key": "k"}}}
    assert where() == "a"


# -- priorities ---------------------------------------------------------------------------------------------------


@given(st.integers(-32768, 32767))
def test_any_small_number_is_a_priority(priority: int) -> None:
    assert checked_priority(priority) == priority


@pytest.mark.parametrize("priority", [-32769, 32768, 10**30, 1.5, "1", True, b"1"])
def test_what_is_no_priority_is_a_value_error_that_names_the_range(settings: LazySettings, priority: Any) -> None:
    settings.DJTASKS = {}
    with pytest.raises(ValueError, match="from -32768 to 32767"):
        how_urgent(priority=priority)


def test_a_priority_of_zero_is_a_priority(settings: LazySettings) -> None:
    settings.DJTASKS = {"TASK_DEFAULT_PRIORITY": 5}
    assert how_urgent(priority=0) == 0
    assert how_urgent(task=Task(priority=0)) == 0


@pytest.fixture
def inside_a_task_of_priority_eight() -> Any:
    message = Claimed(1, "i", "n", "q", 8, 0, 0, False, b"", "application/json", "", None, None, None, 0.0, False)
    info = {"priority": message.priority}
    frame = current.Frame(None, current.Context(called_directly=False, delivery_info=info), message)
    current.push(frame)
    yield
    current.pop(frame)


@pytest.mark.usefixtures("inside_a_task_of_priority_eight")
def test_a_task_called_by_a_task_takes_its_priority_only_where_that_is_set(settings: LazySettings) -> None:
    settings.DJTASKS = {"TASK_ROUTES": {"*": {"priority": 3}}}
    assert how_urgent() == 3
    settings.DJTASKS = {"TASK_DEFAULT_PRIORITY": 3, "TASK_INHERIT_PARENT_PRIORITY": True}
    assert how_urgent() == 8
    assert how_urgent(priority=1) == 1
    assert how_urgent(task=Task(priority=2)) == 2


@pytest.mark.usefixtures("inside_a_task_of_priority_eight")
def test_what_a_route_says_comes_before_the_priority_of_the_task_that_calls(settings: LazySettings) -> None:
    settings.DJTASKS = {"TASK_ROUTES": {"*": {"priority": 3}}, "TASK_INHERIT_PARENT_PRIORITY": True}
    assert how_urgent() == 3
    settings.DJTASKS = {"TASK_ROUTES": {"*": {"queue": "slow"}}, "TASK_INHERIT_PARENT_PRIORITY": True}
    assert how_urgent() == 8


def test_a_task_called_by_no_task_inherits_no_priority(settings: LazySettings) -> None:
    settings.DJTASKS = {"TASK_INHERIT_PARENT_PRIORITY": True}
    assert how_urgent() == 0
