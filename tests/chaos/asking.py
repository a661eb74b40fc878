"""Somebody who asks the workers things, over and over: `python -m tests.chaos.asking WORKERS [--steer]`.

Begins at the first line of standard input and ends with it. Then prints, as JSON, each question with how long all the
answers took (seconds), and how many workers answered.
"""

import json
import sys
import threading
import time

import django

from djtasks import app

#: How long an answer is waited for, in seconds: it is to come far sooner.
PATIENCE = 10.0
QUESTIONS = ("ping", "active", "stats", "active_queues", "reserved")


def main() -> None:
    """Ask until told to stop."""
    django.setup()
    halt = threading.Event()
    sys.stdin.readline()
    threading.Thread(target=lambda: (sys.stdin.read(), halt.set()), daemon=True).start()
    asked: list[tuple[str, float, int]] = []
    workers = int(sys.argv[1])

    def ask(name: str, answers: object, began: float) -> None:
        asked.append((name, time.monotonic() - began, len(answers) if isinstance(answers, dict | list) else 0))

    while not halt.is_set():
        looking = app.control.inspect(timeout=PATIENCE, limit=workers)
        for name in QUESTIONS:
            began = time.monotonic()
            ask(name, getattr(looking, name)(), began)
        if "--steer" in sys.argv:
            for name in ("add_consumer", "cancel_consumer"):
                began = time.monotonic()
                answers = getattr(app.control, name)("chaos-aside", reply=True, timeout=PATIENCE, limit=workers)
                ask(name, answers, began)
        halt.wait(0.1)
    print(json.dumps(asked))


if __name__ == "__main__":
    main()
