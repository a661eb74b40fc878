"""What a worker is told: rows with an expiry. Each worker obeys one once, and answers with a row of its own.

Only what stands on the panel is obeyed, and only with arguments that fit.
"""

import inspect
import logging
import threading
from collections.abc import Mapping
from typing import Any

import psycopg

from djtasks.conf import settings
from djtasks.db import control
from djtasks.db.connections import LOST
from djtasks.db.control import Command
from djtasks.described import plain
from djtasks.exceptions import safe_repr
from djtasks.panel import Panel, Work
from djtasks.worker import looking as _looking  # noqa: F401
from djtasks.worker import steering as _steering  # noqa: F401
from djtasks.worker.node import NoAnswer, Node

logger = logging.getLogger("djtasks.worker")

#: So many commands are known to have been obeyed; older ones have long expired.
REMEMBERED = 1000
#: The longest text and the largest container of an answer.
LONGEST, MOST = 1_000_000, 10_000


class Commands:
    """Obeys the commands for one worker."""

    def __init__(self, node: Node) -> None:
        self.node = node
        #: The numbers of the commands that are none of this worker's, or not any more.
        self.seen: set[int] = set()
        self._started = False
        #: Held by the thread that obeys: one at a time does.
        self._lock = threading.Lock()

    def obey(self, conn: psycopg.Connection, *, aside: bool = False) -> None:
        """Obey what is new. What was said before this worker first looked was not said to it.

        `aside`: from another thread, while the worker is at a task; what needs the worker is left for it.
        """
        with self._lock:
            found = control.inbox(conn, self.seen)
            first, self._started = not self._started, True
            for command in found:
                info = Panel.info(command.name)
                if aside and info is not None and not info.anywhere:
                    continue
                self.seen.add(command.id)
                if len(self.seen) > REMEMBERED:
                    self.seen.remove(min(self.seen))
                if not first and (command.destination is None or self.node.hostname in command.destination):
                    self._obey(conn, command)

    def start(self, conn: psycopg.Connection) -> None:
        """From now on commands are for this worker, too."""
        if not self._started:
            self.obey(conn)

    def answer_aside(self, conn: psycopg.Connection) -> None:
        """From another thread, while the worker is at a task: answer what can be answered without it."""
        if self._started and control.news(conn, self.seen)[1]:
            self.obey(conn, aside=True)

    def _obey(self, conn: psycopg.Connection, command: Command) -> None:
        if not settings.WORKER_ENABLE_REMOTE_CONTROL:
            return
        node = self.node
        node.conn, node.clock = conn, command.id
        try:
            answer = self.answer(command.name, command.arguments)
        except NoAnswer:
            return
        finally:
            node.conn = None
        control.reply(conn, command.id, node.hostname, answer)

    def answer(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Do it; errors are answers, too. Raises NoAnswer, and what the connection does."""
        work, info = Panel.data.get(name), Panel.info(name)
        if work is None or info is None:
            return {"error": safe_repr(KeyError(name))}
        try:
            _check(name, work, arguments)
            answer = plain(work(self.node, **arguments), LONGEST, MOST)
        except (NoAnswer, *LOST):
            # Whoever obeys has to know that the connection is gone.
            raise
        except (NotImplementedError, TypeError, ValueError) as error:
            # What it cannot be told, which its sender hears; whoever looks for its own mistake turns DEBUG on.
            logger.warning("The command %s was refused: %s", name, error)
            logger.debug("It was raised here", exc_info=True)
            return {"error": safe_repr(error)}
        except Exception as error:
            logger.exception("The command %s failed", name)
            return {"error": safe_repr(error)}
        if info.type == "control":
            logger.info("Command %s %s: %s", name, arguments, answer)
        else:
            logger.debug("Asked for %s", name)
        return answer


def _check(name: str, work: Work, arguments: Mapping[str, Any]) -> None:
    """Raise TypeError, with what it takes, for arguments that do not fit."""
    signature = inspect.signature(work)
    try:
        signature.bind(None, **arguments)
    except TypeError as error:
        own = list(signature.parameters.values())[1:]
        takes = ", ".join(str(each) for each in own) or "no arguments"
        raise TypeError(f"{name}: {error}; it takes {takes}") from None
