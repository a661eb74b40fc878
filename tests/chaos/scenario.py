"""What a scenario is, and what several of them ask."""

import time
from collections.abc import Callable
from typing import NamedTuple

from tests.chaos.site import Ground

#: How much of the workers' file is looked at for what runs at this moment, in bytes.
TAIL = 20_000


class Scenario(NamedTuple):
    """A scenario: its name on the command line, its title in the table, and itself."""

    name: str
    title: str
    run: Callable[[Ground], None]
    #: Is part of the tests.
    essential: bool = True


def running(ground: Ground) -> list[int]:
    """The processes in which a task runs at this moment, each as often as there are tasks."""
    if not ground.workers.audit.path.exists():
        return []
    with ground.workers.audit.path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - TAIL))
        lines = [line.split() for line in file.read().decode().splitlines()[1:]]
    ended = {words[1] for words in lines if words[0] == "end" and len(words) == 3}
    return [int(words[5]) for words in lines if words[0] == "begin" and len(words) == 9 and words[7] not in ended]


def slowly(condition: Callable[[], object], seconds: float) -> Callable[[], object]:
    """A condition that is asked only every so many seconds, because asking does something."""
    due = 0.0

    def ask() -> object:
        nonlocal due
        if time.monotonic() < due:
            return None
        due = time.monotonic() + seconds
        return condition()

    return ask
