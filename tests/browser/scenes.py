"""A shop's rows of an hour, for pages that are to show something: the same in tests and in the documentation."""

import math
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.utils import timezone

from djtasks.models import Limit, Message, PeriodicTask, Queue, Result, Sample
from tests.admin.conftest import a_result, new_message, new_result
from tests.worker.running import query

MARKUP = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>{{7*7}}'
MAIL, IMAGE, REPORT, PAY = "shop.tasks.send_mail", "shop.tasks.resize_image", "shop.tasks.report", "shop.tasks.pay"
KEPT = {"body": b"[[1, 2], {}]", "body_content_type": "application/json", "body_content_encoding": ""}


class Scene(NamedTuple):
    """What is there to be looked at."""

    failed: UUID
    letter: UUID
    periodic: int


def furnish(node: str, *, hostile: bool = True) -> Scene:
    """Fill the tables; what waits is in a queue that is paused, so that nobody takes it. Some texts are hostile."""
    Limit.objects.all().delete()
    Sample.objects.all().delete()
    now = timezone.now()
    said = {"paused": True, "since": now, "by": "anna", "note": "the mail server moves"}
    Queue.objects.update_or_create(name="mail", defaults=said)
    _samples(node)
    waiting = [new_message(name=MAIL, queue="mail", priority=4) for _ in range(12)]
    waiting += [
        new_message(name=REPORT, queue="reports", lane=None, reason="eta", eta=now + timedelta(hours=hour + 1))
        for hour in range(4)
    ]
    Message.objects.bulk_create(waiting)
    done: list[Any] = []
    for number in range(40):
        name, state = (IMAGE, "SUCCESS") if number % 3 else (PAY, "SUCCESS" if number % 9 else "FAILURE")
        began = now - timedelta(seconds=number * 2)
        ended = began + timedelta(milliseconds=40 + 13 * (number % 7))
        done.append(new_result(name=name, state=state, worker=node, created=began, started=began, done=ended))
    Result.objects.bulk_create(done)
    failed = a_result(name=PAY, state="FAILURE", worker=node, queue="payments", **KEPT)
    letters = [
        a_result(name=PAY, state="FAILURE", worker=node, queue="payments", dead=dead, retries=3, **KEPT)
        for dead in ("rejected", "crashed", "failed")
    ]
    Limit.objects.create(key="shop.tasks.pay", used=2, most=2)
    Limit.objects.create(key="shop.tasks.send_mail", rate=5.0, next_at=now)
    for name, task, hours in (("nightly report", REPORT, 24), ("thumbnails", IMAGE, 1)):
        PeriodicTask.objects.create(name=name, task=task, kind="interval", every=hours, period="hours")
    row = PeriodicTask.objects.create(name="reminders", task=MAIL, kind="interval", every=10, period="minutes")
    if hostile:
        a_result(name=MARKUP, state="FAILURE", worker=MARKUP, queue=MARKUP, dead="rejected", **KEPT)
        Limit.objects.create(key=MARKUP, used=1, most=4)
        PeriodicTask.objects.create(name=MARKUP, task=MARKUP, kind="interval", every=6, period="hours")
    # How many results there are is an estimate.
    query("ANALYZE djtasks_result")
    return Scene(failed.pk, letters[0].pk, row.pk)


def _samples(node: str) -> None:
    """An hour of a worker and of two queues, minute by minute."""
    minute = timezone.now().replace(second=0, microsecond=0)
    rows = []
    for ago in range(1, 60):
        at, wave = minute - timedelta(minutes=ago), 1 + math.sin(ago / 7)
        runs = int(400 * wave) + 120
        numbers = {"SUCCESS": runs, "FAILURE": runs // 60, "RETRY": runs // 40, "runs": runs, "runtime": runs * 0.08}
        numbers |= {"waited": runs * 0.2 * wave, "le_0.1": runs - 20, "le_1": 20, "pool": 8, "busy": int(4 * wave)}
        rows.append(Sample(at=at, kind="worker", name=node, numbers=numbers))
        for name, size in (("celery", 900), ("mail", 250)):
            depth = {"depth": int(size * wave), "oldest": round(6 * wave, 1)}
            rows.append(Sample(at=at, kind="queue", name=name, numbers=depth))
    Sample.objects.bulk_create(rows)
