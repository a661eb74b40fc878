"""The producer: a process that enqueues at a steady pace, in all modes, and writes down what became of each call.

A line of its ledger is `event serial id name mode time`. The events: `try` before the call; `accepted` once the row is
committed; `dropped` when the transaction was rolled back on purpose, so that it must never run; `unsure` when an error
left open which of the two it is.
"""

import argparse
import itertools
import logging
import os
import random
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django
from django.db import Error, connection, transaction

from djtasks.exceptions import DjtasksError
from djtasks.outbox import IMMEDIATELY, IN_TRANSACTION, ON_COMMIT
from djtasks.registry import import_default_modules, tasks

logger = logging.getLogger("chaos.producer")

#: How long tasks take, in seconds, and how many of a hundred take so long: most are over at once.
SECONDS = {(0.0, 0.0): 70, (0.005, 0.02): 20, (0.05, 0.15): 8, (0.3, 0.5): 2}
NAMES = {"early": 40, "late": 40, "early_again": 5, "late_again": 5, "early_tracked": 5, "late_silent": 5}
#: How many are enqueued at a time, now and then, and when asked to: those keep all children busy for a moment.
BULK, RUSH = 100, 1500
#: How many large ones are enqueued when asked to, and how many characters each of those carries.
LARGE, LARGE_SIZE = 4, 14_000_000
#: How many slow ones are: each worker gets one, and has a child left for others.
SLOW = 2
#: How long the tasks of a flood take, in seconds, and where they go.
FLOOD_SECONDS, FLOODED = 0.01, "flooded"
#: The most that a delayed task waits, in seconds.
DELAY = 1.5


class OnPurpose(Exception):
    """Rolls a transaction back."""


class Ledger:
    """What became of each call."""

    def __init__(self, path: Path, first: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._serials = itertools.count(first)

    def write(self, event: str, call: "Call", mode: str) -> None:
        """Add a line."""
        line = f"{event} {call.serial} {call.id or '-'} {call.name} {mode} {time.time():.6f}\n"
        os.write(self._file, line.encode())

    def call(self, mode: str, name: str | None = None) -> "Call":
        """A call that is about to be made."""
        call = Call(next(self._serials), name or random.choices(list(NAMES), list(NAMES.values()))[0])
        self.write("try", call, mode)
        return call

    @contextmanager
    def outcome(self, calls: list["Call"], mode: str, dropped: list["Call"]) -> Iterator[None]:
        """Write down what becomes of these calls, and of those that are dropped on purpose."""
        event = "accepted"
        try:
            yield
        except OnPurpose:
            calls, dropped = [], [*dropped, *calls]
        except (Error, DjtasksError) as error:
            logger.warning("%s: %s", type(error).__name__, str(error).strip())
            event = "unsure"
        for call in calls:
            self.write(event if call.id else "unsure", call, mode)
        for call in dropped:
            self.write("dropped", call, mode)


class Call:
    """One call of a task."""

    def __init__(self, serial: int, name: str) -> None:
        self.serial = serial
        self.name = name
        self.id = ""

    def make(self, seconds: float | None = None, **options: Any) -> None:
        """Make it. Its id is known once it returns."""
        if seconds is None:
            seconds = random.uniform(*random.choices(list(SECONDS), list(SECONDS.values()))[0])
        self.id = task_named(self.name).apply_async((self.serial, seconds), **options).id


def task_named(name: str) -> Any:
    """One of the chaos tasks."""
    return tasks["chaos." + name]


class Producer:
    """Makes calls of all kinds."""

    def __init__(self, ledger: Ledger, rate: float) -> None:
        self.ledger = ledger
        self.rate = rate
        self.halt = threading.Event()
        #: What is to be done next, besides the usual.
        self.wanted: list[str] = []
        #: How to call, and how often of a hundred times.
        self.ways: dict[Callable[[], int], int] = {
            self.at_once: 40,
            self.named: 5,
            self.delayed: 10,
            self.on_commit: 15,
            self.in_transaction: 15,
            self.immediately: 10,
            self.bulk: 2,
        }

    def run(self, seconds: float) -> None:
        """Call until told to stop, `rate` times a second on average."""
        began = time.monotonic()
        made = 0
        while not self.halt.is_set() and time.monotonic() - began < seconds:
            connection.close_if_unusable_or_obsolete()
            while self.wanted:
                self.obey(*self.wanted.pop(0).split())
            made += random.choices(list(self.ways), list(self.ways.values()))[0]()
            # What an outage held up is not made up for.
            made = max(made, int((time.monotonic() - began) * self.rate) - 10)
            self.halt.wait(max(0.0, began + made / self.rate - time.monotonic()))

    def hold(self) -> None:
        """Keep a transaction open that has enqueued a task, until told to stop."""
        call = self.ledger.call(IN_TRANSACTION, "late")
        with self.ledger.outcome([call], IN_TRANSACTION, []), transaction.atomic():
            call.make(enqueue=IN_TRANSACTION)
            self.halt.wait()

    def at_once(self) -> int:
        """Outside of a transaction."""
        call = self.ledger.call(ON_COMMIT)
        with self.ledger.outcome([call], ON_COMMIT, []):
            call.make()
        return 1

    def named(self) -> int:
        """Under an id of the caller's own."""
        call = self.ledger.call(ON_COMMIT)
        with self.ledger.outcome([call], ON_COMMIT, []):
            call.make(task_id=str(uuid.uuid4()))
        return 1

    def delayed(self) -> int:
        """For later."""
        call = self.ledger.call("delayed")
        with self.ledger.outcome([call], "delayed", []):
            call.make(countdown=random.uniform(0.1, DELAY))
        return 1

    def on_commit(self) -> int:
        """In a transaction, one call in a savepoint that is rolled back; a fifth of them is rolled back as a whole."""
        calls = [self.ledger.call(ON_COMMIT) for _ in range(3)]
        with self.ledger.outcome(calls[:2], ON_COMMIT, calls[2:]), transaction.atomic():
            calls[0].make()
            self._savepoint(calls[2], ON_COMMIT)
            calls[1].make()
            # When a rollback to a savepoint fails, Django rolls all of it back later, and tells nobody.
            if connection.needs_rollback or random.random() < 0.2:
                raise OnPurpose
        return 3

    def in_transaction(self) -> int:
        """The same, with rows that are part of the transaction."""
        calls = [self.ledger.call(IN_TRANSACTION) for _ in range(3)]
        with self.ledger.outcome(calls[:2], IN_TRANSACTION, calls[2:]), transaction.atomic():
            calls[0].make(enqueue=IN_TRANSACTION)
            self._savepoint(calls[2], IN_TRANSACTION)
            calls[1].make(enqueue=IN_TRANSACTION)
            if random.random() < 0.2:
                raise OnPurpose
        return 3

    def _savepoint(self, call: Call, mode: str) -> None:
        try:
            with transaction.atomic():
                call.make(enqueue=mode)
                raise OnPurpose
        except OnPurpose:
            return

    def immediately(self) -> int:
        """In a transaction, but not of it: half of the transactions are rolled back, which changes nothing."""
        call = self.ledger.call(IMMEDIATELY)
        try:
            with transaction.atomic():
                with self.ledger.outcome([call], IMMEDIATELY, []):
                    call.make(enqueue=IMMEDIATELY)
                if random.random() < 0.5:
                    raise OnPurpose
        except OnPurpose:
            return 1
        except Error as error:
            logger.warning("%s: %s", type(error).__name__, str(error).strip())
            if not call.id:
                self.ledger.write("unsure", call, IMMEDIATELY)
        return 1

    def listen(self) -> None:
        """Take orders from standard input, until it ends: then nobody wants any calls any more."""
        for line in sys.stdin:
            self.wanted.append(line)
        self.halt.set()

    def obey(self, order: str, seconds: str = "0") -> None:
        """«rush»: very many calls; «large»: a few that carry much; «slow»: a few late ones that take so long.

        «flood», «leak», «hog», with a number: so many of one queue, or that keep memory, or want more than there is.
        """
        if order == "rush":
            self.bulk(RUSH)
        elif order == "large":
            self.bulk(LARGE, os.urandom(LARGE_SIZE // 2).hex())
        elif order == "flood":
            self.many(("early", "late"), int(seconds), "flood", FLOOD_SECONDS, queue=FLOODED)
        elif order == "leak":
            self.many(("early_leak", "late_leak"), int(seconds))
        elif order == "hog":
            self.many(("late_hog",), int(seconds))
        else:
            for _ in range(SLOW):
                call = self.ledger.call("slow", "late_slow")
                with self.ledger.outcome([call], "slow", []):
                    call.make(float(seconds))

    def bulk(self, count: int = BULK, payload: str = "") -> int:
        """Many that are over at once."""
        return self.many(("early", "late"), count, payload=payload)

    def many(
        self,
        names: Sequence[str],
        count: int,
        mode: str = "bulk",
        seconds: float = 0.0,
        payload: str = "",
        **options: Any,
    ) -> int:
        """So many of these tasks, which take so long each, with one statement a name."""
        calls = [self.ledger.call(mode, random.choice(names)) for _ in range(count)]
        for name in names:
            same = [call for call in calls if call.name == name]
            arguments = (((call.serial, seconds, payload), {}) for call in same)
            with self.ledger.outcome(same, mode, []):
                for call, result in zip(same, task_named(name).bulk_apply_async(arguments, **options), strict=True):
                    call.id = result.id
        return count


def main() -> None:
    """Enqueue until TERM, or until the time is over."""
    parser = argparse.ArgumentParser()
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--hold", action="store_true", help="keep a transaction open meanwhile")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s")
    django.setup()
    import_default_modules()
    producer = Producer(Ledger(options.ledger, options.first), options.rate)
    signal.signal(signal.SIGTERM, lambda *_: producer.halt.set())
    threading.Thread(target=producer.listen, daemon=True).start()
    holder = threading.Thread(target=producer.hold)
    if options.hold:
        holder.start()
    producer.run(options.seconds)
    producer.halt.set()
    if options.hold:
        holder.join()


if __name__ == "__main__":
    main()
