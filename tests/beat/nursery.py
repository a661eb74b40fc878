"""Five beats in processes of their own, one of which is killed every few milliseconds, and another one made.

`python -m tests.beat.nursery TASKS SEED`; prints how many were killed.
"""

import os
import random
import signal
import sys
import time

import django

from djtasks.db.connections import open_private

BEATS = 5
#: Seconds after which it is enough, however few tasks there are.
PATIENCE = 30.0
#: How many are killed at the least.
KILLS = 10


def born() -> int:
    """Make a process in which a beat runs; its pid."""
    if child := os.fork():
        return child
    from djtasks.beat.service import Beat  # noqa: PLC0415 -- Django is set up by now

    try:
        Beat().run()
    finally:
        os._exit(1)


def main(wanted: int, seed: int) -> None:
    """Make and kill beats, ten at the least, until they have sent so many tasks."""
    dice = random.Random(seed)
    beats = [born() for _ in range(BEATS)]
    conn = open_private("nursery")
    until, killed, sent = time.monotonic() + PATIENCE, 0, 0
    while (sent < wanted or killed < KILLS) and time.monotonic() < until:
        time.sleep(dice.uniform(0.02, 0.3))
        victim = beats.pop(dice.randrange(BEATS))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        killed += 1
        beats.append(born())
        found = conn.execute("SELECT sum(total_run_count) FROM djtasks_tick").fetchone()
        sent = int(found[0] or 0) if found else 0
    for beat in beats:
        os.kill(beat, signal.SIGKILL)
        os.waitpid(beat, 0)
    print(killed)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")
    django.setup()
    main(int(sys.argv[1]), int(sys.argv[2]))
