"""What waits for Celery's workers in Redis is moved here: each message once, whatever happens in between."""

import json
import os
import pickle
import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from celery import Celery
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import override_settings

from djtasks import shared_task
from djtasks.admin.payload import headers
from djtasks.cli import import_queue
from djtasks.cli.celery_messages import Refused, read
from djtasks.cli.import_queue import Mover, keys_of
from djtasks.models import Message, Result
from djtasks.payload import unpack_call
from tests.waits import wait_until

pytestmark = pytest.mark.django_db
Command = Callable[..., tuple[int, str]]
NAME = "tests.cli.add"


@shared_task(name=NAME)
def add(x: int, y: int = 0) -> int:
    return x + y


def call_of(row: Message) -> Any:
    return unpack_call(bytes(row.body), row.content_type, row.content_encoding)


def left(client: redis.Redis) -> int:
    """How many messages are in Redis, wherever."""
    keys = [key for key in client.keys("*") if client.type(key) == b"list"]
    return sum(int(client.llen(key)) for key in keys) + int(client.hlen("unacked"))


def move(command: Command, url: str, *more: str) -> tuple[int, str]:
    return command("import_celery_queue", "--url", url, *more)


def test_messages_of_a_real_celery_are_moved(
    celery: Celery, client: redis.Redis, redis_url: str, djtasks_command: Command
) -> None:
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    sent = [
        celery.send_task(NAME, [1], {"y": 2}),
        celery.send_task(NAME, [later], eta=later, expires=later + timedelta(hours=1), retries=2),
        celery.send_task(NAME, [3], time_limit=30, soft_time_limit=20, headers={"tenant": "a"}, task_id="my own id"),
    ]
    assert move(djtasks_command, redis_url, "--drain") == (
        0,
        "3 enqueued here, 0 here already, 0 refused.\n",
    )
    assert left(client) == 0
    first, second, third = Message.objects.order_by("position")
    assert [str(first.pk), str(second.pk)] == [sent[0].id, sent[1].id]
    assert (first.name, first.queue, first.lane, call_of(first)) == (NAME, "celery", "celery", ([1], {"y": 2}))
    assert (second.eta, second.expires, second.retries) == (later, later + timedelta(hours=1), 2)
    assert (second.lane, second.reason, call_of(second)[0]) == (None, "eta", [later])
    said = headers(third.headers)
    assert said["task_id"] == "my own id"
    assert (said["timelimit"], said["headers"]) == ([30, 20], {"tenant": "a"})


def test_the_order_of_celerys_priorities_is_kept(
    celery: Celery, client: redis.Redis, redis_url: str, djtasks_command: Command
) -> None:
    for priority in (9, 0, 3):
        celery.send_task(NAME, [priority], priority=priority)
    assert len(client.keys("celery*")) == 3
    move(djtasks_command, redis_url, "--drain")
    taken = Message.objects.order_by("-priority", "position")
    assert [call_of(row)[0] for row in taken] == [[0], [3], [9]]
    assert left(client) == 0


def test_a_copy_leaves_them_there_and_a_drain_after_it_doubles_none(
    celery: Celery, client: redis.Redis, redis_url: str, djtasks_command: Command
) -> None:
    for number in range(3):
        celery.send_task(NAME, [number])
    code, said = move(djtasks_command, redis_url)
    assert (code, left(client), Message.objects.count()) == (0, 3, 3)
    assert "All of them are still in Redis" in said
    Message.objects.all().delete()  # they have ended here, and left no result
    assert "0 enqueued here, 3 here already" in move(djtasks_command, redis_url, "--drain")[1]
    assert (left(client), Message.objects.count()) == (0, 0)


def test_a_dry_run_does_nothing(celery: Celery, client: redis.Redis, redis_url: str, djtasks_command: Command) -> None:
    celery.send_task(NAME, [1])
    assert "1 would be enqueued here" in move(djtasks_command, redis_url, "--drain", "--dry-run")[1]
    assert (left(client), Message.objects.count()) == (1, 0)


def test_what_a_crash_has_left_half_way_is_neither_lost_nor_doubled(
    celery: Celery, client: redis.Redis, redis_url: str, djtasks_command: Command
) -> None:
    for number in range(4):
        celery.send_task(NAME, [number])
    # Taken out of the queue by an earlier run, two of them also written: then it died.
    holding = "djtasks:moving:celery"
    taken: list[Any] = [client.rpoplpush("celery", holding) for _ in range(3)]
    Mover(client, print, drain=True, dry_run=False)._write(taken[:2], "celery")
    assert Message.objects.count() == 2
    assert "2 enqueued here, 2 here already" in move(djtasks_command, redis_url, "--drain")[1]
    assert sorted(call_of(row)[0][0] for row in Message.objects.all()) == [0, 1, 2, 3]
    assert left(client) == 0


def test_nothing_leaves_redis_before_it_is_committed_here(
    celery: Celery, client: redis.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch, djtasks_command: Command
) -> None:
    celery.send_task(NAME, [1])

    def lost(*_: Any, **__: Any) -> None:
        raise OSError("the database is gone")

    monkeypatch.setattr(import_queue.outbox, "enqueue_many", lost)
    with pytest.raises(OSError, match="gone"):
        move(djtasks_command, redis_url, "--drain")
    assert left(client) == 1
    monkeypatch.undo()
    assert "1 enqueued here" in move(djtasks_command, redis_url, "--drain")[1]


@pytest.mark.django_db(transaction=True)
def test_a_drain_that_is_killed_again_and_again_moves_every_message_once(
    celery: Celery, client: redis.Redis, redis_url: str, database_url: str, djtasks_command: Command
) -> None:
    celery.send_task(NAME, [1])
    raw: Any = client.rpop("celery")
    one = json.loads(raw)
    ids = [str(uuid.uuid4()) for _ in range(2500)]
    for task_id in ids:
        one["headers"]["id"] = one["properties"]["correlation_id"] = task_id
        client.lpush("celery", json.dumps(one))
    command = [sys.executable, "manage.py", "djtasks", "import_celery_queue", "--url", redis_url, "--drain"]
    # Once when it has taken something out of the queue, and once when it has written something.
    for moves in (lambda: int(client.llen("celery")) < len(ids), Message.objects.exists):
        process = subprocess.Popen(command, env={**os.environ, "DATABASE_URL": database_url})
        try:
            wait_until(moves, "it moves")
        finally:
            process.kill()
            process.wait()
    move(djtasks_command, redis_url, "--drain")
    assert left(client) == 0
    assert sorted(str(pk) for pk in Message.objects.values_list("pk", flat=True)) == sorted(ids)


def test_more_than_a_batch_is_moved_in_its_order(
    celery: Celery, client: redis.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch, djtasks_command: Command
) -> None:
    monkeypatch.setattr(import_queue, "BATCH", 4)
    for number in range(11):
        celery.send_task(NAME, [number])
    move(djtasks_command, redis_url)
    assert [call_of(row)[0][0] for row in Message.objects.order_by("position")] == list(range(11))
    Message.objects.all().delete()
    assert "11 here already" in move(djtasks_command, redis_url, "--drain")[1]


def test_what_cannot_be_read_is_told_and_stays(
    celery: Celery, client: redis.Redis, redis_url: str, djtasks_command: Command
) -> None:
    celery.conf.accept_content = ["json", "pickle"]
    celery.send_task(NAME, [1], serializer="pickle", task_id="00000000-0000-0000-0000-000000000001")
    client.lpush("celery", "no JSON", '{"body": 5}', "[]")
    celery.send_task(NAME, [2])
    code, said = move(djtasks_command, redis_url, "--drain")
    assert code == 1
    assert "1 enqueued here, 0 here already, 4 refused." in said
    assert f"refused {NAME}[00000000-0000-0000-0000-000000000001]: its arguments cannot be read" in said
    assert left(client) == 4
    assert Message.objects.count() == 1


def test_pickle_is_read_only_where_it_is_accepted(
    celery: Celery, client: redis.Redis, redis_url: str, djtasks_command: Command
) -> None:
    celery.send_task(NAME, [{1, 2}], serializer="pickle")
    with override_settings(DJTASKS={"ACCEPT_CONTENT": ["json", "pickle"], "TASK_SERIALIZER": "pickle"}):
        assert "1 enqueued here" in move(djtasks_command, redis_url, "--drain")[1]
        assert call_of(Message.objects.get())[0] == [{1, 2}]


def test_a_refused_pickle_is_never_loaded(client: redis.Redis, redis_url: str, djtasks_command: Command) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (exec, ("raise SystemExit('it was loaded')",))

    raw = {"task": NAME, "id": "x"}
    body = pickle.dumps(([Bomb()], {}, {})).hex()
    client.lpush(
        "celery",
        f'{{"body": "{body}", "content-type": "application/x-python-serialize", "headers": {raw!r}}}'.replace("'", '"'),
    )
    assert move(djtasks_command, redis_url, "--drain")[0] == 1
    assert left(client) == 1


@pytest.mark.parametrize("compression", ["gzip", "bzip2"])
def test_compressed_messages_are_read(
    celery: Celery, redis_url: str, djtasks_command: Command, compression: str
) -> None:
    celery.send_task(NAME, ["x" * 500], compression=compression)
    move(djtasks_command, redis_url, "--drain")
    assert call_of(Message.objects.get())[0] == ["x" * 500]


def test_messages_of_the_first_protocol_are_read(celery: Celery, redis_url: str, djtasks_command: Command) -> None:
    celery.conf.task_protocol = 1
    sent = celery.send_task(NAME, [1], {"y": 2})
    move(djtasks_command, redis_url, "--drain")
    row = Message.objects.get()
    assert (str(row.pk), row.name, call_of(row)) == (sent.id, NAME, ([1], {"y": 2}))


def test_links_and_chains_come_along_and_parts_of_chords_do_not(
    celery: Celery, redis_url: str, djtasks_command: Command
) -> None:
    one, two, three = (celery.signature(NAME, args=[number], app=celery) for number in (1, 2, 3))
    celery.send_task(NAME, [0], link=one, link_error=two, chain=[three])
    celery.send_task(NAME, [9], chord=one)
    code, said = move(djtasks_command, redis_url, "--drain")
    assert code == 1
    assert "it is a part of a chord" in said
    found = headers(Message.objects.get().headers)
    assert [found[key][0]["args"] for key in ("callbacks", "errbacks", "chain")] == [[1], [2], [3]]


def test_what_a_worker_of_celerys_holds_is_moved_on_demand(
    celery: Celery, client: redis.Redis, redis_url: str, djtasks_command: Command
) -> None:
    celery.send_task(NAME, [1])
    with celery.connection_for_read() as conn:
        queue = celery.amqp.queues["celery"](conn.default_channel)
        assert queue.get() is not None
        wait_until(lambda: client.hlen("unacked"), "the message is held")
        assert "0 enqueued here" in move(djtasks_command, redis_url, "--drain")[1]
        assert "1 enqueued here" in move(djtasks_command, redis_url, "--drain", "--unacked")[1]
        assert (client.hlen("unacked"), client.zcard("unacked_index")) == (0, 0)
        conn.default_channel.qos._delivered.clear()
    assert call_of(Message.objects.get())[0] == [1]


def test_a_queue_may_have_another_name_and_a_prefix(
    celery: Celery, client: redis.Redis, redis_url: str, djtasks_command: Command
) -> None:
    celery.conf.broker_transport_options = {"global_keyprefix": "shop:"}
    celery.send_task(NAME, [1], queue="mail")
    assert client.llen("shop:mail") == 1
    move(djtasks_command, redis_url, "mail", "--into", "letters", "--prefix", "shop:", "--drain")
    assert Message.objects.get().queue == "letters"
    assert left(client) == 0


def test_a_unique_task_that_is_there_already_does_not_stop_the_others(
    celery: Celery, client: redis.Redis, redis_url: str, djtasks_command: Command
) -> None:
    @shared_task(name="tests.cli.unique", unique=True, on_conflict="raise")
    def unique(x: int) -> None: ...

    for number in (1, 1, 2):
        celery.send_task("tests.cli.unique", [number])
    code, said = move(djtasks_command, redis_url, "--drain")
    assert (code, Message.objects.count(), left(client)) == (1, 2, 1)
    assert "2 enqueued here, 0 here already, 1 refused." in said


def test_a_server_that_does_not_answer_is_an_error_that_says_so() -> None:
    with pytest.raises(CommandError, match="Redis does not answer"):
        call_command("djtasks", "import_celery_queue", "--url", "redis://127.0.0.1:1/0")
    with pytest.raises(CommandError, match="Redis does not answer"):
        call_command("djtasks", "import_celery_queue", "--url", "ftp://x")


def test_without_the_client_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_queue, "redis", None)
    with pytest.raises(CommandError, match=r"pip install 'djtasks\[redis\]'"):
        call_command("djtasks", "import_celery_queue", "--url", "redis://127.0.0.1:1/0")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b'{"body": null}',
        b'{"body": "W10=", "headers": 5, "properties": 5}',
        b'{"body": "W10=", "headers": {"task": 5, "id": []}, "content-type": "application/json"}',
        b'{"body": "{}", "headers": {"task": "x", "id": "y"}, "content-type": "application/json"}',
        b'{"body": "[1, 2, 3]", "headers": {"task": "x", "id": "y"}, "content-type": "application/json"}',
        b'{"body": "!", "properties": {"body_encoding": "base64"}, "content-type": "application/json"}',
        b'{"body": "x", "headers": {"compression": "none such"}, "content-type": "application/json"}',
    ],
)
def test_what_is_no_message_is_refused(raw: bytes) -> None:
    with pytest.raises(Refused):
        read(raw)


def test_the_lists_of_a_queue_are_kombus() -> None:
    assert keys_of("mail")[:2] == ["mail", "mail\x06\x161"]
    assert not Result.objects.exists()
