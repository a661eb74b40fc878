"""What a worker can be told to do: one function each, and what it answers.

A command is a row with an expiry. Each worker obeys it once, and answers with a row of its own.
"""

import logging
from collections.abc import Callable
from typing import Any

import psycopg

from djtasks import ratelimits
from djtasks.calls import check_limit
from djtasks.db import control
from djtasks.exceptions import safe_repr
from djtasks.registry import tasks

logger = logging.getLogger("djtasks.worker")

#: So many commands are known to have been obeyed; older ones have long expired.
REMEMBERED = 1000
Answer = dict[str, Any]


class Commands:
    """Obeys the commands for one worker."""

    def __init__(self, name: str, set_rate: Callable[[str, Any], None]) -> None:
        self.name = name
        #: Sets how many runs of a task are started in a time; takes Celery's strings.
        self.set_rate = set_rate
        #: The numbers of the commands that are none of this worker's, or not any more.
        self.seen: set[int] = set()
        self._started = False
        self.known: dict[str, Callable[..., Answer]] = {
            "ping": self.ping,
            "rate_limit": self.rate_limit,
            "time_limit": self.time_limit,
        }

    def obey(self, conn: psycopg.Connection) -> None:
        """Obey what is new. What was said before this worker first looked was not said to it."""
        found = control.inbox(conn, self.seen)
        first, self._started = not self._started, True
        for command in found:
            self.seen.add(command.id)
            if len(self.seen) > REMEMBERED:
                self.seen.remove(min(self.seen))
            if not first and (command.destination is None or self.name in command.destination):
                control.reply(conn, command.id, self.name, self.answer(command.name, command.arguments))

    def start(self, conn: psycopg.Connection) -> None:
        """From now on commands are for this worker, too."""
        if not self._started:
            self.obey(conn)

    def answer(self, name: str, arguments: dict[str, Any]) -> Answer:
        """Do it; errors are answers, too."""
        work = self.known.get(name)
        if work is None:
            return {"error": f"unknown command {name!r}"}
        try:
            answer = work(**arguments)
        except Exception as error:
            logger.exception("The command %s failed", name)
            return {"error": safe_repr(error)}
        logger.info("Command %s %s: %s", name, arguments, answer)
        return answer

    def ping(self) -> Answer:
        """Say that the worker is there."""
        return {"ok": "pong"}

    def time_limit(self, task_name: str, soft: float | None = None, hard: float | None = None) -> Answer:
        """Set a task's own limits, until this worker ends."""
        task = tasks.get(task_name)
        if task is None:
            return {"error": "unknown task"}
        check_limit(soft, "soft")
        check_limit(hard, "hard")
        task.soft_time_limit, task.time_limit = soft, hard
        return {"ok": "time limits set successfully"}

    def rate_limit(self, task_name: str, rate_limit: Any) -> Answer:
        """Set how many runs of a task this worker starts in a time, until it ends."""
        try:
            rate = ratelimits.parse(rate_limit)
        except (TypeError, ValueError) as error:
            return {"error": f"Invalid rate limit string: {error!r}"}
        if task_name not in tasks:
            return {"error": "unknown task"}
        self.set_rate(task_name, rate_limit)
        return {"ok": "rate limit disabled successfully" if rate is None else "new rate limit set successfully"}
