"""Five beats in processes of their own, one of which is killed every few milliseconds, and another one made.

`python -m tests.beat.nursery SECONDS SEED`; prints how many were killed.
"""

import os
import random
import signal
import sys
import time

import django

BEATS = 5


def born() -> int:
    """Make a process in which a beat runs; its pid."""
    if child := os.fork():
        return child
    from djtasks.beat.service import Beat  # noqa: PLC0415 -- Django is set up by now

    try:
        Beat().run()
    finally:
        os._exit(1)


def main(seconds: float, seed: int) -> None:
    """Make and kill beats for so long."""
    dice = random.Random(seed)
    beats = [born() for _ in range(BEATS)]
    until, killed = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        time.sleep(dice.uniform(0.02, 0.25))
        victim = beats.pop(dice.randrange(BEATS))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        killed += 1
        beats.append(born())
    for beat in beats:
        os.kill(beat, signal.SIGKILL)
        os.waitpid(beat, 0)
    print(killed)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")
    django.setup()
    main(float(sys.argv[1]), int(sys.argv[2]))
