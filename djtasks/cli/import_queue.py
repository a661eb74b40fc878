"""`djtasks import_celery_queue`: what waits for Celery's workers in Redis is enqueued here.

A copy leaves the messages there; `--drain` moves them. They are moved through a list of our own beside the queue, in
which no worker of Celery's looks: first there, then here, and only when they are committed here out of Redis. Every id
that was written is remembered in the same transaction, so that whoever repeats it after a crash doubles nothing.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from django.db import transaction

from djtasks import outbox
from djtasks.cli.celery_messages import Refused, message_of
from djtasks.conf import settings
from djtasks.db import imports
from djtasks.db.connections import borrow
from djtasks.delivery import Posting
from djtasks.exceptions import DjtasksError, ImproperlyConfigured
from djtasks.messages import Message
from djtasks.registry import import_default_modules

try:
    import redis
except ImportError:  # the extra is not installed
    redis = None  # type: ignore[assignment]

HELP = "Enqueue here what waits for Celery's workers in a Redis list."
#: kombu's: between the name of a queue and a priority.
SEPARATOR = "\x06\x16"
BATCH = 500
#: So many refused messages are named.
NAMED = 20
WRITTEN, KNOWN, REFUSED = "enqueued here", "here already", "refused"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    add = parser.add_argument
    add("queues", nargs="*", metavar="QUEUE", help="Celery's queues (default: TASK_DEFAULT_QUEUE)")
    add("--url", required=True, metavar="URL", help="the broker: redis://host:6379/0, rediss://… or unix://…")
    add("--into", metavar="QUEUE", help="the queue here (default: the same name)")
    add("--drain", action="store_true", help="take them out of Redis, each once it is committed here")
    add("--unacked", action="store_true", help="also what Celery's workers hold: those with an eta. Stop them first")
    add("--prefix", default="", metavar="TEXT", help="Celery's global_keyprefix")
    add("--dry-run", action="store_true", help="say what would be done, and do nothing")


def run(given: Mapping[str, Any], say: Callable[[str], Any]) -> int:
    """Import; returns 1 when something was refused. Raises ImproperlyConfigured."""
    if redis is None:
        raise ImproperlyConfigured("import_celery_queue needs the client of Redis: pip install 'djtasks[redis]'")
    import_default_modules()
    client = _connected(given["url"])
    mover = Mover(client, say, drain=bool(given.get("drain")), dry_run=bool(given.get("dry_run")))
    prefix = given.get("prefix") or ""
    for queue in given.get("queues") or [settings.TASK_DEFAULT_QUEUE]:
        into = given.get("into") or queue
        for key in keys_of(prefix + queue):
            mover.move(key, into)
        if given.get("unacked"):
            mover.move_unacked(prefix, queue, into)
    return mover.report()


def keys_of(queue: str) -> list[str]:
    """The lists of a queue: that of each priority, the most urgent first."""
    return [queue, *(f"{queue}{SEPARATOR}{priority}" for priority in range(1, 10))]


def _connected(url: str) -> Any:
    try:
        client = redis.Redis.from_url(url)
        client.ping()
    except (redis.RedisError, ValueError, OSError) as error:
        raise ImproperlyConfigured(f"--url: Redis does not answer: {error}") from error
    return client


class Held(NamedTuple):
    """A message that a worker of Celery's has not acknowledged."""

    tag: bytes
    raw: bytes


class Mover:
    """Moves, or copies, and counts."""

    def __init__(self, client: Any, say: Callable[[str], Any], *, drain: bool, dry_run: bool) -> None:
        self.client = client
        self.say = say
        self.drain = drain and not dry_run
        self.dry_run = dry_run
        self.counts: Counter[str] = Counter()

    def move(self, key: str, into: str) -> None:
        """All that waits in one list."""
        if not self.drain:
            for part in self._read(key):
                self._write(part, into)
            return
        holding = f"djtasks:moving:{key}"
        left = int(self.client.llen(key))
        while True:
            with self.client.pipeline() as pipe:
                for _ in range(min(BATCH, left)):
                    pipe.rpoplpush(key, holding)
                left -= min(BATCH, left)
                pipe.execute()
            if not self._empty(holding, key, into) and not left:
                return

    def _empty(self, holding: str, key: str, into: str) -> bool:
        """Write what is in our own list, and take it out; what is refused goes back to the end of the queue."""
        with self.client.pipeline() as pipe:
            pipe.watch(holding)
            part = list(reversed(pipe.lrange(holding, 0, -1)))
            if not part:
                return False
            refused = self._write(part, into)
            pipe.multi()
            if refused:
                pipe.lpush(key, *refused)
            pipe.delete(holding)
            try:
                pipe.execute()
            except redis.WatchError:
                # Somebody else moves, too: what is here is known by its id.
                self.say(f"  {holding!r} has changed meanwhile; looking again")
            return True

    def _read(self, key: str) -> Iterator[list[bytes]]:
        """What is in a list, the oldest first; the right end is where Celery takes."""
        length = int(self.client.llen(key))
        for start in range(0, length, BATCH):
            found = self.client.lrange(key, -(start + BATCH), -(start + 1))
            yield list(reversed(found[-min(BATCH, length - start) :]))

    def move_unacked(self, prefix: str, queue: str, into: str) -> None:
        """What Celery's workers have taken and not acknowledged."""
        key, index = f"{prefix}unacked", f"{prefix}unacked_index"
        part: list[Held] = []
        for tag, value in self.client.hscan_iter(key):
            try:
                raw, _, routing_key = json.loads(value)
                fits, text = routing_key == queue, json.dumps(raw)
            except (ValueError, TypeError):
                continue
            if fits:
                part.append(Held(tag, text.encode()))
        for start in range(0, len(part), BATCH):
            batch = part[start : start + BATCH]
            refused = set(self._write([held.raw for held in batch], into))
            if self.drain and (tags := [held.tag for held in batch if held.raw not in refused]):
                with self.client.pipeline() as pipe:
                    pipe.hdel(key, *tags)
                    pipe.zrem(index, *tags)
                    pipe.execute()

    # -- here -----------------------------------------------------------------------------------------------------

    def _write(self, part: Sequence[bytes], into: str) -> list[bytes]:
        """Enqueue these in one transaction; returns those that were refused."""
        made: list[tuple[bytes, Message]] = []
        refused: list[bytes] = []
        for raw in part:
            try:
                made.append((raw, message_of(raw, into)))
            except Refused as error:
                self._refuse(error)
                refused.append(raw)
        if self.dry_run:
            self.counts[WRITTEN] += len(made)
            return refused
        try:
            self._enqueue([message for _, message in made])
        except DjtasksError:
            refused += self._one_by_one(made)
        return refused

    def _enqueue(self, messages: Sequence[Message]) -> None:
        conn = borrow()
        with transaction.atomic(using=conn.alias):
            new = imports.note_imported(conn, [message.id for message in messages])
            fresh = {message.id: message for message in messages if message.id in new}
            outbox.enqueue_many(fresh.values(), mode=outbox.IN_TRANSACTION, posting=Posting())
        self.counts[WRITTEN] += len(fresh)
        self.counts[KNOWN] += len(messages) - len(fresh)

    def _one_by_one(self, made: Sequence[tuple[bytes, Message]]) -> list[bytes]:
        """After an error in the batch: only the message at fault is refused."""
        refused = []
        for raw, message in made:
            try:
                self._enqueue([message])
            except DjtasksError as error:
                self._refuse(Refused(str(error), message.id, message.name))
                refused.append(raw)
        return refused

    def _refuse(self, error: Refused) -> None:
        self.counts[REFUSED] += 1
        if self.counts[REFUSED] <= NAMED:
            self.say(f"  refused {error.name}[{error.task_id}]: {error}")

    def report(self) -> int:
        """Say what was done; 1 when something was refused."""
        would = "would be " if self.dry_run else ""
        said = self.counts
        self.say(f"{said[WRITTEN]:,} {would}{WRITTEN}, {said[KNOWN]:,} {KNOWN}, {said[REFUSED]:,} {REFUSED}.")
        if said[REFUSED]:
            self.say("What is refused stays in Redis.")
        if not self.drain and not self.dry_run and said[WRITTEN]:
            self.say("All of them are still in Redis: --drain takes them out before a worker of Celery's runs them.")
        return 1 if said[REFUSED] else 0
