"""Tasks and calls that must mean the same in Celery and here. Read in a process of its own by `run.py`.

Which of the two it is, the environment says: what is imported has the same names in both.
"""

import importlib
import os
from collections.abc import Callable
from typing import Any

LIBRARY = os.environ["DIFFERENTIAL"]
_lib = importlib.import_module(LIBRARY)
exceptions = importlib.import_module(f"{LIBRARY}.exceptions")
states = importlib.import_module(f"{LIBRARY}.states")
Task: Any = _lib.Task
signature: Any = _lib.signature
maybe_signature: Any = importlib.import_module("celery.canvas" if LIBRARY == "celery" else "djtasks").maybe_signature
app: Any = _lib.Celery("cases", broker="memory://", backend="cache+memory://")

#: What hooks and tasks were told, in order.
told: list[Any] = []


def around(method: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        told.append(("around", list(args[1:])))
        return method(*args, **kwargs)

    return wrapped


app.conf.update(
    task_annotations={
        "cases.annotated": {"max_retries": 1, "priority": 3},
        "cases.wrapped": {"@__call__": around},
        "*": {"default_retry_delay": 0},
    }
)


class Hooked(Task):
    """Every handler, with what it is told."""

    abstract = True

    def before_start(self, task_id: Any, args: Any, kwargs: Any) -> None:
        told.append(("before_start", self.name, list(args), kwargs))

    def on_success(self, retval: Any, task_id: Any, args: Any, kwargs: Any) -> None:
        told.append(("on_success", self.name, retval, list(args), kwargs))

    def on_failure(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        told.append(("on_failure", self.name, type(exc).__name__, list(args), kwargs))

    def on_retry(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        told.append(("on_retry", self.name, type(exc).__name__, list(args), kwargs))

    def after_return(self, status: Any, retval: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        shown = type(retval).__name__ if isinstance(retval, BaseException) else retval
        told.append(("after_return", self.name, str(status), shown, list(args), kwargs, einfo is None))


class Own(Exception):
    """An exception of the module's own."""


@app.task(name="cases.add")
def add(x: Any, y: Any = 0) -> Any:
    return x + y


@app.task(name="cases.fail")
def fail(*args: Any) -> None:
    raise ValueError(*args)


@app.task(name="cases.own", throws=(Own,))
def own() -> None:
    raise Own("mine", 5)


@app.task(name="cases.ignore")
def ignore() -> None:
    raise exceptions.Ignore


@app.task(name="cases.reject")
def reject() -> None:
    raise exceptions.Reject("no", requeue=False)


@app.task(name="cases.hooked", base=Hooked)
def hooked(x: Any = 0) -> Any:
    if x == "fail":
        raise KeyError(x)
    return x


@app.task(name="cases.hooked_retry", base=Hooked, bind=True)
def hooked_retry(self: Any) -> int:
    if self.request.retries < 2:
        raise self.retry(exc=OSError("again"), countdown=0)
    return int(self.request.retries)


@app.task(name="cases.forever", base=Hooked, bind=True, max_retries=2)
def forever(self: Any, with_exc: bool) -> None:
    told.append(("run", self.request.retries))
    raise self.retry(exc=OSError("at last") if with_exc else None, countdown=0)


@app.task(name="cases.annotated", bind=True)
def annotated(self: Any) -> None:
    told.append(("options", self.max_retries, self.priority, self.default_retry_delay))
    raise self.retry(countdown=0)


@app.task(name="cases.wrapped")
def wrapped(x: Any) -> Any:
    return x


@app.task(name="cases.auto", autoretry_for=(OSError,), dont_autoretry_for=(FileNotFoundError,), max_retries=2)
def auto(kind: str) -> None:
    told.append(("auto", kind))
    raise {"os": OSError, "missing": FileNotFoundError, "value": ValueError}[kind](kind)


@app.task(name="cases.auto_then_well", bind=True, autoretry_for=(OSError,), retry_kwargs={"max_retries": 5})
def auto_then_well(self: Any) -> int:
    if self.request.retries < 4:
        raise OSError
    return int(self.request.retries)


@app.task(name="cases.again", bind=True)
def again(self: Any, a: Any, b: Any = 0, *, c: Any = 0, how: Any = None) -> Any:
    if self.request.retries == 0:
        raise self.retry(countdown=0, **how)
    return [a, b, c, how]


@app.task(name="cases.raised_by_hand", bind=True)
def raised_by_hand(self: Any) -> Any:
    told.append(("run", self.request.retries))
    raise exceptions.Ignore


@app.task(name="cases.request", bind=True)
def request(self: Any, *args: Any, **kwargs: Any) -> Any:
    said = self.request
    return {
        "task": said.task,
        "args": list(said.args),
        "kwargs": said.kwargs,
        "retries": said.retries,
        "is_eager": said.is_eager,
        "called_directly": said.called_directly,
        "is_root": said.root_id == said.id == said.correlation_id,
        "parent": said.parent_id,
        "group": [said.group, said.group_index],
        "limits": [list(said.timelimit or (None, None)), said.time_limit, said.soft_time_limit],
        "headers": {key: value for key, value in (said.headers or {}).items() if key == "tenant"},
        "tenant": said.get("tenant"),
        "shadow": said.shadow,
        "chain": said.chain,
        "chord": said.chord,
        "links": [len(said.callbacks or ()), len(said.errbacks or ())],
        "queue": said.delivery_info["routing_key"],
        "redelivered": bool(said.delivery_info["redelivered"]),
        "stamps": [list(said.stamped_headers or ()), said.stamps or {}],
        "children": len(said.children),
        "nothing": said.get("nothing", "none"),
    }


@app.task(name="cases.direct", bind=True)
def direct(self: Any) -> Any:
    inner = request_of_call(1)
    return [inner, self.request.called_directly, bool(app.current_task.name == self.name)]


@app.task(name="cases.request_of_call", bind=True)
def request_of_call(self: Any, x: Any) -> Any:
    return [self.request.called_directly, list(self.request.args or ()), self.request.retries, self.request.id]


@app.task(name="cases.progress", bind=True)
def progress(self: Any) -> Any:
    self.update_state(state="PROGRESS", meta={"done": 1})
    return self.AsyncResult(self.request.id).id == self.request.id


@app.task(name="cases.unencodable")
def unencodable() -> Any:
    return object()


@app.task(name="cases.starting", base=Hooked)
def starting() -> None: ...


@app.task(name="cases.note", ignore_result=True)
def note(*args: Any) -> None:
    told.append(("note", list(args)))


@app.task(name="cases.errback", ignore_result=True)
def errback(request: Any, exc: Any, traceback: Any) -> None:
    told.append(("errback", request.task, list(request.args), type(exc).__name__, "Error" in str(traceback)))


@app.task(name="cases.old_errback", bind=True, ignore_result=True)
def old_errback(self: Any, task_id: str) -> None:
    told.append(("old errback", task_id == self.request.parent_id, self.request.root_id == task_id))


@app.task(name="cases.successor", bind=True, ignore_result=True)
def successor(self: Any, x: Any) -> None:
    told.append(("successor", x, self.request.parent_id is not None, self.request.parent_id == self.request.root_id))


@app.task(name="cases.parent", bind=True)
def parent(self: Any) -> Any:
    add.delay(1, 2)
    add.apply_async((1, 2), add_to_parent=False)
    return len(self.request.children)


#: Name, task, args, kwargs, options. In this order, one at a time.
CALLS: list[tuple[str, Any, tuple[Any, ...], dict[str, Any], dict[str, Any]]] = [
    ("add", add, (1, 2), {}, {}),
    ("by name", add, (1,), {"y": 2}, {}),
    ("text", add, ("a", "ü"), {}, {}),
    ("wrong type", add, (1, "x"), {}, {}),
    ("fail", fail, ("broken", 5), {}, {}),
    ("fail with nothing", fail, (), {}, {}),
    ("expected", own, (), {}, {}),
    ("ignored result", add, (1, 2), {}, {"ignore_result": True}),
    ("reject", reject, (), {}, {}),
    ("hooks of a success", hooked, (1,), {}, {}),
    ("hooks of a failure", hooked, ("fail",), {}, {}),
    ("hooks of a retry", hooked_retry, (), {}, {}),
    ("retried too often with an exception", forever, (True,), {}, {}),
    ("retried too often without one", forever, (False,), {}, {}),
    ("annotated", annotated, (), {}, {}),
    ("wrapped", wrapped, (3,), {}, {}),
    ("autoretry", auto, ("os",), {}, {}),
    ("autoretry not for this", auto, ("missing",), {}, {}),
    ("autoretry not for that", auto, ("value",), {}, {}),
    ("autoretry until well", auto_then_well, (), {}, {}),
    ("new args over names", again, (), {"a": 1, "b": 2, "how": {"args": [5]}}, {}),
    ("new args over all names", again, (), {"a": 1, "b": 2, "c": 3, "how": {"args": [5, 6]}}, {}),
    ("new names over args", again, (1, 2), {"how": {}}, {}),
    ("new names beside args", again, (1, 2), {"how": {"kwargs": {"b": 9, "c": 3}}}, {}),
    ("all new", again, (1, 2), {"how": {"args": [7], "kwargs": {"c": 4}}}, {}),
    ("request", request, (1, [2]), {"x": None}, {}),
    (
        *("request with options", request, (), {}),
        {"headers": {"tenant": 5}, "shadow": "other", "time_limit": 60, "soft_time_limit": 30, "queue": "celery"},
    ),
    ("request with stamps", request, (), {}, {"stamped_headers": ["tenant"], "tenant": "x"}),
    ("request of a group", request, (), {}, {"group_id": "g", "group_index": 2}),
    ("a call inside", direct, (), {}, {}),
    ("progress", progress, (), {}, {}),
    ("expired", add, (1, 2), {}, {"expires": -5}),
    ("not encodable", unencodable, (), {}, {}),
    ("children", parent, (), {}, {}),
    ("link", add, (1, 2), {}, {"link": note.s(10)}),
    ("links", add, (1, 2), {}, {"link": [note.s(1), note.si(2), successor.s()], "link_error": errback.s()}),
    ("link of a link", add, (1, 2), {}, {"link": add.s(3).set(link=note.s())}),
    ("link of a retried task", auto_then_well, (), {}, {"link": note.s()}),
    ("errback", fail, ("x",), {}, {"link_error": errback.s(), "link": note.s()}),
    ("errback of the old style", fail, ("x",), {}, {"link_error": [old_errback.s()]}),
    ("errback of a retried task", forever, (True,), {}, {"link_error": errback.s()}),
    ("request with links", request, (), {}, {"link": [note.si(1)], "link_error": note.si(2)}),
]
#: How often a task that is linked tells something, where it is told at all.
TELLING = {
    "link": 1,
    "links": 3,
    "link of a link": 1,
    "link of a retried task": 1,
    "errback": 1,
    "errback of the old style": 1,
    "errback of a retried task": 11,
    "request with links": 1,
}
