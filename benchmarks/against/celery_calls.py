"""The callers on Celery's side: `python -m benchmarks.against.celery_calls single 1000`; tells JSON lines."""

# mypy: disable-error-code="import-not-found, import-untyped"

import random
import sys
import time
from importlib.metadata import version

from celery import chain, chord, group

from benchmarks.against.celery_app import app, collect, noop, stamp
from benchmarks.output import tell_answer, tell_progress
from benchmarks.payload import PAYLOAD

#: The id of the task that is the body of a chord.
BODY = "benchmarks-body"
TIMEOUT = 600


def single(count: int) -> None:
    """Enqueue one by one: delay() in a loop."""
    noop.delay(PAYLOAD)
    began = time.perf_counter()
    for done in range(count):
        noop.delay(PAYLOAD)
        if not done % 100:
            tell_progress(done)
    tell_answer(seconds=time.perf_counter() - began)


def loop(count: int) -> None:
    """Enqueue in bulk as far as Celery can: a loop over one producer that is taken from the pool once."""
    began = time.perf_counter()
    with app.producer_or_acquire() as producer:
        for done in range(count):
            noop.apply_async((PAYLOAD,), producer=producer)
            if not done % 100:
                tell_progress(done)
    tell_answer(seconds=time.perf_counter() - began)


def grouped(count: int) -> None:
    """Enqueue in bulk as a group."""
    began = time.perf_counter()
    group(noop.s(PAYLOAD) for _ in range(count)).apply_async()
    tell_answer(seconds=time.perf_counter() - began)


def chained(count: int) -> None:
    """A chain: from just before its call to its last result."""
    began = time.perf_counter()
    chain(noop.si(PAYLOAD) for _ in range(count)).apply_async().get(timeout=TIMEOUT)
    tell_answer(seconds=time.perf_counter() - began)


def chorded(count: int) -> None:
    """Send a chord."""
    chord([stamp.s(PAYLOAD) for _ in range(count)])(collect.s().set(task_id=BODY))
    tell_answer()


def body(_: int) -> None:
    """What the body of the chord has returned."""
    tell_answer(**app.AsyncResult(BODY).get(timeout=TIMEOUT))


def pickup(count: int, warm_up: int, least: float, most: float) -> None:
    """How long idle workers take, as `benchmarks.phases.pickup` measures it."""
    called = []
    for done in range(warm_up + count):
        time.sleep(random.uniform(least, most))
        at = time.time()
        called.append((stamp.delay(PAYLOAD), at))
        tell_progress(done)
    seconds = [result.get(timeout=30) - at for result, at in called]
    tell_answer(latencies=seconds[warm_up:])


def ready(count: int) -> None:
    """Wait until so many workers answer."""
    while len(app.control.ping(timeout=0.2)) < count:
        tell_progress(0)
    tell_answer()


def versions() -> None:
    """Of what is compared."""
    tell_answer(**{name: version(name) for name in ("celery", "kombu", "billiard", "redis")})


#: What takes one amount.
VERBS = {
    "single": single,
    "loop": loop,
    "group": grouped,
    "ready": ready,
    "chain": chained,
    "chord": chorded,
    "body": body,
}


def main(verb: str, *amounts: str) -> None:
    """Do one of these."""
    if verb == "versions":
        versions()
    elif verb == "pickup":
        pickup(int(amounts[0]), int(amounts[1]), float(amounts[2]), float(amounts[3]))
    else:
        VERBS[verb](int(amounts[0]))


if __name__ == "__main__":
    main(*sys.argv[1:])
