"""The view of the terminal: tasks as they come, the newest on top, and what can be asked and done about one of them.

Events are taken in on a thread; everything that is drawn is drawn here. Keys are Celery's.
"""

import sys
import textwrap
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from django.db import connections

from djtasks import commanding, control
from djtasks.events import Receiver, State
from djtasks.events.nodes import Task
from djtasks.exceptions import safe_repr

try:
    import curses
except ImportError:  # pragma: no cover -- Python without the library
    curses = None  # type: ignore[assignment]

#: How often it is drawn, in milliseconds, if no key is pressed.
DRAW_EVERY: Final = 250
KEYS: Final = "j:down k:up i:info t:traceback r:result l:rate limit c:revoke q:quit"
#: Columns, the least width of each, and what is left out first where there is no room.
_UUID, _WORKER, _TIME, _STATE = 36, 20, 8, 8


class NoTerminal(Exception):
    """There is nothing to draw on."""


def watch(*, replay: bool = False, hint: str = "") -> None:
    """Show tasks until `q` is pressed. Raises NoTerminal; OperationalError when the database cannot be reached."""
    if curses is None:
        raise NoTerminal("this Python has no curses: use --dump")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise NoTerminal("this is no terminal: use --dump for lines, or --json")
    view = View(State(), hint)
    ears = _Ears(view, replay)
    ears.start()
    try:
        curses.wrapper(view.run)
    except curses.error as error:
        raise NoTerminal(f"this terminal cannot be drawn on ({error}): look at TERM, or use --dump") from None
    except KeyboardInterrupt:
        pass
    finally:
        ears.receiver.should_stop = True


class _Ears(threading.Thread):
    """Hears events."""

    def __init__(self, view: "View", replay: bool) -> None:
        super().__init__(name="djtasks-events", daemon=True)
        self.view = view
        self.receiver = Receiver(handlers={"*": view.state.event}, replay=replay)

    def run(self) -> None:
        """Until told to stop."""
        try:
            self.receiver.capture()
        except Exception as error:
            self.view.said = safe_repr(error, 500)


class View:
    """What is drawn, and what a key does."""

    def __init__(self, state: State, hint: str = "") -> None:
        self.state = state
        self.hint = hint
        #: The id of the task that is chosen.
        self.chosen: str | None = None
        #: What came of the last thing that was done.
        self.said = ""
        self.keys: dict[str, Callable[[Any], object]] = {
            "i": self.show_info,
            "t": self.show_traceback,
            "r": self.show_result,
            "l": self.limit,
            "c": self.revoke,
        }

    def run(self, screen: Any) -> None:
        """Draw, and do what keys say."""
        _quietly(curses.use_default_colors)
        screen.keypad(True)
        screen.timeout(DRAW_EVERY)
        _quietly(curses.curs_set, 0)
        while True:
            self.draw(screen)
            key = _key(screen)
            if key == "q":
                return
            if key in ("j", "k", "g", "G", "\x06", "\x02"):
                self.move(key, _size(screen)[0])
            elif (act := self.keys.get(key)) is not None:
                act(screen)

    # -- choosing -------------------------------------------------------------------------------------------------

    def rows(self) -> list[tuple[str, Task]]:
        """The tasks, the one last heard of first."""
        return self.state.freeze_while(lambda: list(self.state.tasks_by_time()))

    def task(self) -> Task | None:
        """The one that is chosen."""
        return None if self.chosen is None else self.state.tasks.peek(self.chosen)

    def move(self, key: str, height: int) -> None:
        """Choose another one."""
        ids = [uuid for uuid, _ in self.rows()]
        if not ids:
            return
        page = max(1, height - 8)
        steps = {"j": 1, "k": -1, "\x06": page, "\x02": -page, "g": -len(ids), "G": len(ids)}
        now = ids.index(self.chosen) if self.chosen in ids else (-1 if steps[key] > 0 else 0)
        self.chosen = ids[max(0, min(len(ids) - 1, now + steps[key]))]

    # -- drawing --------------------------------------------------------------------------------------------------

    def draw(self, screen: Any) -> None:
        """The whole of it; a terminal that is too small shows what there is room for."""
        height, width = _size(screen)
        screen.erase()
        rows = self.rows()
        if self.chosen is None and rows:
            self.chosen = rows[0][0]
        put(screen, 0, "djtasks events   " + KEYS, curses.A_DIM)
        put(screen, 1, columns("UUID", "TASK", "WORKER", "TIME", "STATE", width), curses.A_BOLD | curses.A_UNDERLINE)
        room = max(0, height - 6)
        places = [uuid for uuid, _ in rows]
        place = places.index(self.chosen) if self.chosen in places else 0
        top = max(0, place - room + 1)
        for line, (uuid, task) in enumerate(rows[top : top + room]):
            mark = curses.A_STANDOUT if uuid == self.chosen else curses.A_NORMAL
            put(screen, 2 + line, self._row(task, width), mark)
        self._draw_foot(screen, height, width)
        screen.refresh()

    def _row(self, task: Task, width: int) -> str:
        when = "" if task.timestamp is None else f"{datetime.fromtimestamp(task.timestamp):%H:%M:%S}"  # noqa: DTZ006
        worker = task.worker.hostname if task.worker else task.client
        return columns(task.uuid, task.name or "?", worker or "?", when, task.state, width)

    def _draw_foot(self, screen: Any, height: int, width: int) -> None:
        task, alive = self.task(), self.state.alive_workers()
        about = "" if task is None else " ".join(f"{name}={value}" for name, value in task.info().items())
        text = self.hint if not self.state.event_count else about
        put(screen, height - 4, "-" * width, curses.A_DIM)
        put(screen, height - 3, f"Selected: {text}" if task is not None else text)
        put(screen, height - 2, self.said)
        told = f"events: {self.state.event_count} tasks: {len(self.state.tasks)}"
        put(screen, height - 1, f"{told} workers: {len(alive)}/{len(self.state.workers)}", curses.A_BOLD)

    def page(self, screen: Any, title: str, text: str) -> None:
        """Show a text until a key is pressed; j and k move in it."""
        top = 0
        screen.clear()
        while True:
            height, width = _size(screen)
            lines = [part for line in text.splitlines() for part in textwrap.wrap(line, max(1, width - 1)) or [""]]
            room = max(1, height - 2)
            top = max(0, min(top, len(lines) - room))
            screen.erase()
            put(screen, 0, title, curses.A_BOLD)
            for line, part in enumerate(lines[top : top + room]):
                put(screen, 1 + line, part)
            put(screen, height - 1, "any other key: back  j:down k:up", curses.A_DIM)
            screen.refresh()
            key = _key(screen)
            if key in ("j", "k"):
                top += 1 if key == "j" else -1
            elif key:
                screen.clear()
                return

    def show_info(self, screen: Any) -> None:
        """All that is known of the task."""
        if (task := self.task()) is not None:
            known = {name: value for name, value in task.as_dict().items() if value not in (None, [])}
            text = "\n".join(f"{name}: {value}" for name, value in sorted(known.items()) if name != "traceback")
            self.page(screen, f"Task {task.uuid}", text)

    def show_traceback(self, screen: Any) -> None:
        """Where it failed."""
        if (task := self.task()) is not None:
            self.page(screen, f"Traceback of {task.uuid}", task.traceback or "There is none.")

    def show_result(self, screen: Any) -> None:
        """What it returned, or the exception."""
        if (task := self.task()) is not None:
            found = task.exception if task.result is None else task.result
            self.page(screen, f"Result of {task.uuid}", "There is none." if found is None else str(found))

    # -- doing ----------------------------------------------------------------------------------------------------

    def ask(self, screen: Any, question: str) -> str:
        """A line that is typed; "" for none."""
        typed = ""
        while True:
            height, _ = _size(screen)
            put(screen, height - 2, f"{question} {typed}_", curses.A_BOLD, clear=True)
            screen.refresh()
            key = _key(screen)
            if key in ("\n", "\r", "\x1b"):
                return "" if key == "\x1b" else typed.strip()
            typed = typed[:-1] if key in ("\x7f", "\b") else typed + (key if key.isprintable() else "")

    def limit(self, screen: Any) -> None:
        """Set the rate limit of the task's type."""
        if (task := self.task()) is None or task.name is None:
            self.said = "The name of this task is not known."
            return
        if rate := self.ask(screen, f"New rate limit of {task.name} (10/m, 0 for none):"):
            self.do(lambda: commanding.rate_limit(str(task.name), rate, reply=True, timeout=1.0), f"rate limit {rate}")

    def revoke(self, screen: Any) -> None:
        """Revoke the task."""
        if (task := self.task()) is not None and self.ask(screen, f"Revoke {task.uuid}? (y/n)").lower() == "y":
            self.do(lambda: control.revoke(task.uuid), f"revoke {task.uuid}")

    def do(self, work: Callable[[], Any], what: str) -> None:
        """Do it, and say what came of it."""
        try:
            self.said = f"{what}: {safe_repr(work(), 500)}"
        except Exception as error:
            self.said = f"{what}: {safe_repr(error, 500)}"
        finally:
            connections.close_all()


def columns(uuid: str, name: str, worker: str, when: str, state: str, width: int) -> str:
    """A line of the table. What is narrow shows less of the id first, then of the worker."""
    last = f"{when:<{_TIME}} {state:<{_STATE}}"
    room = width - len(last) - 3
    ids = _UUID if room >= _UUID + _WORKER + 20 else 8
    workers = _WORKER if room >= ids + _WORKER + 20 else 0
    names = max(0, room - ids - workers)
    return f"{cut(uuid, ids)} {cut(name, names)} {cut(worker, workers)} {last}"


def cut(text: str, width: int) -> str:
    """Exactly so wide."""
    return f"{text[:width]:<{width}}"


def put(screen: Any, line: int, text: str, mark: int = 0, *, clear: bool = False) -> None:
    """Write a line, as far as there is room for it."""
    height, width = _size(screen)
    if not 0 <= line < height:
        return
    shown = "".join(each if each.isprintable() else "?" for each in text[: max(0, width - 1)])
    if clear:
        shown = cut(shown, max(0, width - 1))
    _quietly(screen.addstr, line, 0, shown, mark)


def _size(screen: Any) -> tuple[int, int]:
    height, width = screen.getmaxyx()
    return height, width


def _key(screen: Any) -> str:
    """The key that was pressed, arrows as the letters that do the same; "" for none."""
    try:
        key = screen.get_wch()
    except curses.error:
        return ""
    if isinstance(key, int):
        moves = {curses.KEY_DOWN: "j", curses.KEY_UP: "k", curses.KEY_ENTER: "i", curses.KEY_BACKSPACE: "\b"}
        moves |= {curses.KEY_NPAGE: "\x06", curses.KEY_PPAGE: "\x02", curses.KEY_HOME: "g", curses.KEY_END: "G"}
        return moves.get(key, "")
    return str(key)


def _quietly(work: Callable[..., object], *arguments: Any) -> None:
    """What a small or a simple terminal cannot do is left out."""
    try:
        work(*arguments)
    except curses.error:
        return
