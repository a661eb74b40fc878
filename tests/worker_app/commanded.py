"""Commands of a project's own."""

from typing import Any

from djtasks.panel import inspect_command
from djtasks.worker.control import control_command

_level = {"now": 1}


@control_command(args=[("level", int)], signature="<level>", alias="lvl")
def set_level(state: Any, level: int) -> dict[str, Any]:
    """Set how loud it is."""
    _level["now"] = level
    return {"ok": f"{state.hostname} is at {level}"}


@inspect_command
def level(state: Any) -> dict[str, Any]:
    """How loud it is."""
    return {"ok": _level["now"], "queues": state.consumer.claimer.lanes.names}


@inspect_command(variadic="words")
def odd(state: Any, words: Any = ()) -> Any:
    """What JSON has no word for."""
    return {"nul": "a\0b", "nan": float("nan"), "half": "\ud800", "object": {1, 2}, "words": list(words)}


@inspect_command()
def broken(state: Any) -> None:
    """Fail."""
    raise RuntimeError("out of order")
