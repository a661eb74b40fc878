"""What the tests of the admin share: users with and without permissions, rows, and pages as people read them."""

import html
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import Permission, User
from django.http import HttpResponse
from django.test import Client, override_settings
from django.utils import timezone

from djtasks.ids import new_task_id
from djtasks.models import Message, Result, Worker


@pytest.fixture(autouse=True)
def _empty_tables(db: None) -> None:
    """No row of ours at the start, whatever other tests have committed."""
    for model in (Message, Result, Worker):
        model.objects.all().delete()


@pytest.fixture
def admin_client(db: None) -> Client:
    """A superuser's browser. No password is ever hashed, which takes longer than a page."""
    client = Client()
    client.force_login(User.objects.create_superuser("superuser"))
    return client


@pytest.fixture
def staff() -> Callable[..., Client]:
    """A browser of someone who may enter the admin, with these permissions: `staff("view_result")`."""

    def enter(*codenames: str) -> Client:
        user = User.objects.create_user(f"staff of {', '.join(codenames)}", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(content_type__app_label="djtasks", codename__in=codenames))
        client = Client()
        client.force_login(user)
        return client

    return enter


def a_message(**fields: Any) -> Message:
    """A message that may run now, unless said otherwise."""
    made = new_message(**fields)
    made.save(force_insert=True)
    return made


def a_result(**fields: Any) -> Result:
    """The result of a success, unless said otherwise."""
    made = new_result(**fields)
    made.save(force_insert=True)
    return made


def new_message(**fields: Any) -> Message:
    """A message that is not stored yet."""
    queue = fields.get("queue", "celery")
    values = {"id": UUID(new_task_id()), "name": "tests.add", "queue": queue, "body": b"[[1, 2], {}]"}
    return Message(**{**values, "lane": queue, **fields})


def new_result(**fields: Any) -> Result:
    """A result that is not stored yet."""
    now = timezone.now()
    values = {"id": UUID(new_task_id()), "name": "tests.add", "queue": "celery", "state": "SUCCESS", "result": b"3"}
    return Result(**{**values, "created": now, "started": now, "done": now, **fields})


def a_worker(**fields: Any) -> Worker:
    """The row of a worker that lives."""
    values = {
        "incarnation": 4242,
        "name": "celery@here",
        "host": "here",
        "pid": 1,
        "boot_id": "",
        "pid_namespace": "",
        "pid_started": "",
        "pool": "prefork",
        "queues": ["celery"],
        "counters": {"SUCCESS": 12},
    }
    return Worker.objects.create(**{**values, **fields})


def address(row: Any, page: str = "change") -> str:
    """The address of a row's page; with page="" of the list it is in."""
    name = row._meta.model_name
    return f"/admin/djtasks/{name}/{row.pk}/{page}/" if page else f"/admin/djtasks/{name}/"


def words(response: HttpResponse) -> str:
    """A page without its markup, on one line."""
    assert response.status_code == 200, response
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", response.content.decode())).split())


def field(response: HttpResponse, name: str) -> str:
    """What a field on the page of one row shows, without its markup."""
    found = re.search(
        rf'class="form-row[^"]* field-{name}[ "].*?<div class="readonly">(.*?)</div>', response.content.decode(), re.S
    )
    assert found, f"there is no field {name!r}"
    return html.unescape(re.sub(r"<[^>]*>", "", found[1])).strip()


def listed(response: HttpResponse) -> list[str]:
    """The ids in a list, in order."""
    return re.findall(r'<td class="field-id">([^<]*)</td>', response.content.decode())


def paging(response: HttpResponse) -> dict[str, str]:
    """The links below a list, by their text."""
    found = re.search(r'<p class="paginator">(.*?)</p>', response.content.decode(), re.S)
    assert found
    return {
        text.strip("«‹› "): html.unescape(href)
        for href, text in re.findall(r'<a href="([^"]*)"[^>]*>([^<]*)', found[1])
    }


def below(response: HttpResponse) -> str:
    """What stands below a list, without its links."""
    found = re.search(r'<p class="paginator">(.*?)</p>', response.content.decode(), re.S)
    assert found
    return " ".join(re.sub(r"<a.*?</a>", "", found[1]).split())


@pytest.fixture
def configure() -> Iterator[Callable[..., None]]:
    """`configure(ACCEPT_CONTENT=["pickle"])` puts these settings in force for the rest of the test."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(override_settings(DJTASKS=settings))
