"""Workers: who is there, and what each can be told."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from djtasks import commanding
from djtasks.conf import settings
from djtasks.db import monitor
from djtasks.db.connections import borrow
from djtasks.exceptions import safe_repr
from djtasks.inspecting import Inspect
from djtasks.monitor.api.entry import Answer, Asked, answers, storable
from djtasks.monitor.respond import Problem

#: Seconds in which a worker is expected to answer.
ANSWER_WITHIN: Final = 2.0
#: What workers are asked, as flower does.
QUESTIONS: Final = ("stats", "active_queues", "registered", "scheduled", "active", "reserved", "revoked", "conf")
#: So many tasks of one worker are listed.
ACTIVE_MAX: Final = 200


@answers("GET", "worker")
def workers(asked: Asked) -> Answer:
    """`{name: {"status": true, "stats": {…}, "active_queues": [{"name": …}], …}}`, from the tables; no worker is asked.

    With `status=1` `{name: true}`; with `workername=` that one, and what it holds.
    """
    found = monitor.workers(borrow())
    name = asked.text("workername")
    if name:
        found = [row for row in found if row["name"] == name]
        if not found:
            raise Problem(_unknown(name), 404)
    lives = {row["name"]: False for row in found}
    for row in found:
        lives[row["name"]] |= row["age"] < settings.WORKER_DEAD_AFTER
    if asked.flag("status"):
        return Answer(lives)
    told = {row["name"]: _shown(row) for row in found}
    if name and asked.sees("message"):
        told[name]["active"] = [each for row in found for each in _active(row)]
    return Answer(told)


def _unknown(name: str) -> str:
    return f"There is no worker {safe_repr(name, 200)}: GET api/workers lists those that there are."


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    said: Mapping[str, Any] = row["state"] if isinstance(row["state"], dict) else {}
    counters = row["counters"] if isinstance(row["counters"], dict) else {}
    queues = row["queues"] if isinstance(row["queues"], list) else []
    stats = {
        "pid": row["pid"],
        "pool": {"implementation": row["pool"], "max-concurrency": row["concurrency"]},
        "counters": counters,
        "total": sum(number for number in counters.values() if isinstance(number, int | float)),
        "rusage": said.get("rusage"),
        "started": row["started"],
    }
    return {
        "status": row["age"] < settings.WORKER_DEAD_AFTER,
        "idle": row["idle"],
        "host": row["host"],
        "heartbeat_age": row["age"],
        "active_queues": [{"name": str(each)} for each in queues],
        "running": said.get("running"),
        "prefetched": said.get("prefetched"),
        "loadavg": said.get("load"),
        "stats": stats,
        "state": said,
    }


def _active(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    queues = [str(each) for each in row["queues"] if "\0" not in str(each)] if isinstance(row["queues"], list) else []
    held = monitor.active(borrow(), int(row["incarnation"]), queues[: monitor.MOST], ACTIVE_MAX)
    return [each._asdict() for each in held]


@answers("POST", "worker")
def ask(asked: Asked) -> Answer:
    """What workers themselves answer to flower's eight questions: `{name: {question: answer}}`."""
    name = asked.text("workername")
    nodes = Inspect([name] if name else None, timeout=ANSWER_WITHIN, by=asked.by.name)
    told: dict[str, dict[str, Any]] = {}
    for question in QUESTIONS:
        for node, said in (getattr(nodes, question)() or {}).items():
            told.setdefault(node, {})[question] = _without_payload(asked, said)
    if name and name not in told:
        raise Problem(_unknown(name), 404)
    return Answer(told)


def _without_payload(asked: Asked, said: Any) -> Any:
    """An answer without arguments, for those who may not see them."""
    if asked.by.may("view_payload_message"):
        return said
    if isinstance(said, dict):
        return {key: _without_payload(asked, each) for key, each in said.items() if key not in ("args", "kwargs")}
    return [_without_payload(asked, each) for each in said] if isinstance(said, list) else said


# -- what a worker is told ------------------------------------------------------------------------------------------


def tell(asked: Asked, name: str, send: Callable[..., Any], **given: Any) -> Answer:
    """Tell one worker, or all where `name` is empty, and say what was answered. Raises Problem."""
    storable("workername", name)
    names = [row["name"] for row in monitor.workers(borrow()) if row["age"] < settings.WORKER_DEAD_AFTER]
    if name and name not in names:
        raise Problem(_unknown(name), 404)
    if not names:
        raise Problem("No worker is there that could be told: start one.", 404)
    replies = send is not commanding.shutdown
    options: dict[str, Any] = {"reply": True, "timeout": ANSWER_WITHIN} if replies else {}
    if name:
        options["destination"] = [name]
    try:
        said = send(**given, **options, by=asked.by.name)
    except (TypeError, ValueError) as error:
        raise Problem(f"{error}.") from None
    if not replies:
        return Answer({"message": f"{name!r} was told to shut down."})
    return _told(said or [], len([each for each in names if each == name]) if name else len(names))


def _told(said: list[dict[str, Any]], asked: int) -> Answer:
    good: dict[str, str] = {}
    bad: dict[str, str] = {}
    for each in said:
        for node, text in each.items():
            fine = isinstance(text, dict) and "ok" in text
            shown = text.get("ok" if fine else "error", text) if isinstance(text, dict) else text
            (good if fine else bad)[node] = str(shown)
    if bad:
        text = "; ".join(f"{node}: {why}" for node, why in sorted(bad.items()))
        return Answer({"error": f"Refused by {text}.", "workers": good}, 409)
    if len(said) < asked:
        text = f"{asked - len(said)} of {asked} have not answered within {ANSWER_WITHIN:g} s"
        return Answer(
            {"message": f"{text}. They obey as soon as they can, within half a minute.", "workers": good}, 202
        )
    text = "; ".join(f"{node}: {found}" for node, found in sorted(good.items()))
    return Answer({"message": text, "workers": good})


_TELLS: Final = answers("POST", needs=("change_worker",))


@_TELLS
def shutdown(asked: Asked, name: str) -> Answer:
    """It ends what it runs, and stops."""
    return tell(asked, name, commanding.shutdown)


@_TELLS
def pool_restart(asked: Asked, name: str) -> Answer:
    """The processes of its pool are replaced."""
    return tell(asked, name, commanding.pool_restart)


@_TELLS
def pool_grow(asked: Asked, name: str) -> Answer:
    """It runs `n` more tasks at a time."""
    return tell(asked, name, commanding.pool_grow, n=asked.whole("n", 1, 1, commanding.MOST_SLOTS))


@_TELLS
def pool_shrink(asked: Asked, name: str) -> Answer:
    """It runs `n` tasks less at a time."""
    return tell(asked, name, commanding.pool_shrink, n=asked.whole("n", 1, 1, commanding.MOST_SLOTS))


@_TELLS
def pool_autoscale(asked: Asked, name: str) -> Answer:
    """Its pool is to be between `min` and `max`."""
    asked.wanted("min")
    asked.wanted("max")
    least, most = asked.whole("min", 0, 0, commanding.MOST_SLOTS), asked.whole("max", 1, 1, commanding.MOST_SLOTS)
    return tell(asked, name, commanding.autoscale, min=least, max=most)


@_TELLS
def add_consumer(asked: Asked, name: str) -> Answer:
    """It takes from `queue`, too."""
    return tell(asked, name, commanding.add_consumer, queue=asked.wanted("queue"))


@_TELLS
def cancel_consumer(asked: Asked, name: str) -> Answer:
    """It takes nothing more from `queue`."""
    return tell(asked, name, commanding.cancel_consumer, queue=asked.wanted("queue"))


@_TELLS
def timeout(asked: Asked, name: str) -> Answer:
    """Set the limits `soft` and `hard` of a task's runs, with `workername` or all workers."""
    soft, hard = asked.seconds("soft"), asked.seconds("hard")
    if soft is None and hard is None:
        raise Problem("Say soft, hard, or both: seconds that a run may take.")
    return tell(asked, asked.text("workername"), commanding.time_limit, task_name=known(name), soft=soft, hard=hard)


@_TELLS
def rate_limit(asked: Asked, name: str) -> Answer:
    """Set the `ratelimit` of a task, with `workername` or all workers."""
    rate = asked.wanted("ratelimit")
    return tell(asked, asked.text("workername"), commanding.rate_limit, task_name=known(name), rate_limit=rate)


def known(name: str) -> str:
    """The name of a task, as it stands in an address; workers say whether there is one. Raises Problem."""
    return storable("the task's name", name)
