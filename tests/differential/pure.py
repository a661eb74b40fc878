"""What needs no worker and must be the same: signatures, states, errors at the call, eager runs."""

import json
from collections.abc import Callable
from typing import Any

from tests.differential.cases import (
    add,
    again,
    app,
    exceptions,
    fail,
    forever,
    hooked,
    maybe_signature,
    signature,
    states,
)

Fact = Callable[[], Any]


def _error(function: Callable[[], Any]) -> str:
    try:
        function()
    except BaseException as error:
        return type(error).__name__
    return "nothing"


def _dict(made: Any) -> Any:
    return json.loads(json.dumps(dict(made)))


def _linked() -> Any:
    made = add.s(1)
    made.link(add.s(2))
    made.link(add.s(2))
    made.link_error(add.si(3))
    return _dict(made)


def _eager(task: Any, *args: Any, **kwargs: Any) -> Any:
    done = task.apply(args, kwargs)
    value = done.get(propagate=False)
    shown = [type(value).__name__, [str(each) for each in value.args]] if isinstance(value, BaseException) else value
    return [str(done.state), shown, done.ready(), done.successful(), done.failed()]


_STATES = ("SUCCESS", "FAILURE", "PROGRESS", "REVOKED", "STARTED", "RECEIVED", "REJECTED", "RETRY", "PENDING")

FACTS: dict[str, Fact] = {
    # Signatures.
    "s": lambda: _dict(add.s(1, y=2)),
    "si": lambda: _dict(add.si(1)),
    "signature": lambda: _dict(add.signature((1,), {"y": 2}, countdown=5, queue="slow")),
    "by name": lambda: _dict(signature("cases.add", args=(1,), kwargs={"y": 2}, immutable=True)),
    "repr": lambda: [repr(add.s(1, 2)), repr(add.s("a", y="b")), repr(add.si())],
    "clone": lambda: _dict(add.s(2, y=3).set(queue="slow").clone((1,), {"y": 4}, priority=5)),
    "clone of an immutable one": lambda: _dict(add.si(2).set(queue="slow").clone((1,), {"y": 4}, queue="fast")),
    "clone of a stamped one": lambda: _dict(
        add.s().set(stamped_headers=["tenant"], tenant=1).clone(tenant=2, stamped_headers=[])
    ),
    "set": lambda: _dict(add.s(1).set(immutable=True, countdown=3)),
    "replace": lambda: _dict(add.s(1, y=2).set(queue="slow").replace(args=(5,), kwargs={}, options={})),
    "linked": _linked,
    "on_error": lambda: _dict(add.s(1).on_error(add.s(2))),
    "flattened": lambda: [repr(each) for each in add.s(1).set(link=[add.s(2).set(link=[add.s(3)])]).flatten_links()],
    "round trip": lambda: _dict(maybe_signature(_dict(add.s(1).set(link=[add.s(2)])))),
    "called": lambda: add.s(2)(1),
    "called by name": lambda: add.s(y=2)(1),
    "reprcall": lambda: add.si(1).reprcall(0, y=2),
    "id": lambda: [add.s(1).set(task_id="x").id, add.s(1).id if "task_id" in add.s(1).options else None],
    "frozen": lambda: (lambda made: made.freeze("x", root_id="r", parent_id="p").id == made.id == "x")(add.s(1)),
    # States.
    "order": lambda: [[states.state(one) < other for other in _STATES] for one in _STATES],
    "sets": lambda: [
        sorted(map(str, each))
        for each in (states.READY_STATES, states.UNREADY_STATES, states.EXCEPTION_STATES, states.PROPAGATE_STATES)
    ],
    "all": lambda: sorted(map(str, states.ALL_STATES)),
    # What is refused at the call.
    "wrong arguments": lambda: [
        _error(lambda: add.delay()),
        _error(lambda: add.delay(1, z=2)),
        _error(lambda: add.delay(1, 2, 3)),
        _error(lambda: add.apply_async(1)),
        _error(lambda: add.apply_async((1,), 2)),
        _error(lambda: again.delay(1, 2, 3)),
    ],
    "not registered": lambda: [_error(lambda: app.tasks["cases.nothing"]), _error(lambda: signature("cases.x")())],
    "retry outside": lambda: [_error(lambda: forever.retry()), _error(lambda: forever.retry(exc=KeyError("x")))],
    "run outside": lambda: [add(1, 2), _error(lambda: fail("x")), add.run(1, 2), add.name, add.__name__],
    "retry as text": lambda: [
        str(exceptions.Retry("because")),
        exceptions.Retry(when=5).humanize(),
        str(exceptions.Retry(exc=KeyError("x"), when=5)),
    ],
    # Eager runs.
    "eager": lambda: [_eager(add, 1, 2), _eager(fail, "x"), _eager(hooked, 1)],
    "eager retry": lambda: [_eager(forever, True), _eager(forever, False)],
}
