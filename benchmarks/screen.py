"""What is shown while it is measured, on stderr: the tables alone go to stdout."""

import sys
import time

#: Seconds between two lines of progress where there is no terminal to draw over.
PAUSE = 2.0


class Screen:
    """The progress of one phase after another."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._title = ""
        self._shown_at = 0.0
        self._open = False

    def say(self, text: str) -> None:
        """A line of its own."""
        self._end_line()
        print(text, file=sys.stderr, flush=True)

    def start(self, title: str) -> None:
        """A phase begins."""
        self._title = title
        self._shown_at = time.monotonic()
        if self._terminal:
            self._draw("…")
        else:
            self.say(f"{title} …")

    def show(self, done: int, total: int) -> None:
        """So much of it is done."""
        now = time.monotonic()
        if now - self._shown_at < (0.1 if self._terminal else PAUSE) or not total:
            return
        self._shown_at = now
        text = f"{done:,} of {total:,} ({100 * done // total} %)"
        if self._terminal:
            self._draw(text)
        else:
            self.say(f"{self._title}: {text}")

    def finish(self, text: str) -> None:
        """The phase has ended like that."""
        if self._terminal:
            self._draw(text)
            self._end_line()
        else:
            self.say(f"{self._title}: {text}")

    def _draw(self, text: str) -> None:
        self._open = True
        print(f"\r\033[K{self._title}: {text}", end="", file=sys.stderr, flush=True)

    def _end_line(self) -> None:
        if self._open:
            print(file=sys.stderr, flush=True)
        self._open = False
