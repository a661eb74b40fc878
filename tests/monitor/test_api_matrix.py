"""Every address of the API, with every method, for everybody: generated from the URL configuration."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, reverse

from djtasks import shared_task
from djtasks.db.connections import open_private
from djtasks.models import Command, Limit, Message, PeriodicTask, Queue, Result, Revocation, Worker
from djtasks.monitor.api import entry, urls, workers
from djtasks.registry import tasks
from tests.admin.conftest import a_message, a_result, a_worker
from tests.storage.rows import empty

METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
VIEWS = ("view_worker", "view_queue", "view_message", "view_result")
OPERATES = (
    *VIEWS,
    "view_payload_message",
    "view_payload_result",
    "change_worker",
    "add_message",
    "revoke_message",
    "terminate_message",
)
TOKENS = {
    "viewer": {"token": "viewer-" + "x" * 30, "permissions": list(VIEWS)},
    "operator": {"token": "operator-" + "y" * 30, "permissions": list(OPERATES)},
    "nobody": {"token": "nobody-" + "z" * 30, "permissions": []},
}
ON = {"MONITOR_API": True, "MONITOR_API_TOKENS": TOKENS}
#: What each address that acts needs to be told.
SAID = {"pool-autoscale": "min=1&max=2", "add-consumer": "queue=q", "cancel-consumer": "queue=q", "timeout": "soft=5",
        "rate-limit": "ratelimit=5/m"}  # fmt: skip
#: Addresses that are no API.
OTHERS = ("metrics", "healthcheck")
Ask = Callable[[str, str], HttpResponse]


@pytest.fixture
def rows(db: None) -> Iterator[dict[str, Any]]:
    """One of each thing that an address can be about."""

    @shared_task(name="tests.asked")
    def asked() -> None: ...

    yield {"worker": a_worker(), "message": a_message(), "result": a_result()}
    tasks.pop("tests.asked", None)


@pytest.fixture(autouse=True)
def _on(configure: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    configure(**ON)
    monkeypatch.setattr(workers, "ANSWER_WITHIN", 0.0)


def with_token(name: str) -> Ask:
    return bearing(str(TOKENS[name]["token"]))


def bearing(token: str) -> Ask:
    return of(Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {token}"}))


def of(client: Client) -> Ask:
    def ask(method: str, url: str) -> HttpResponse:
        more = {"data": "", "content_type": "application/json"} if method == "post" else {}
        answer: HttpResponse = getattr(client, method)(url, **more)
        return answer

    return ask


def views() -> Iterator[tuple[str, URLPattern]]:
    for pattern in urls.urlpatterns:
        assert isinstance(pattern, URLPattern)
        if str(pattern.name) not in OTHERS:
            yield str(pattern.name), pattern


def addresses(rows: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """The name of each address of the API, what answers there, and where it is."""
    for name, pattern in views():
        about = "tests.asked" if "task/" in str(pattern.pattern) else rows["worker"].name
        args = [rows["message"].pk if key == "task_id" else about for key in pattern.pattern.converters]
        if name == "result":
            args = [rows["result"].pk]
        yield name, pattern.callback, reverse(f"djtasks_api:{name}", args=args) + f"?{SAID.get(name, '')}"


def state() -> list[Any]:
    """All that an address could change."""
    models = (Command, Limit, Message, PeriodicTask, Queue, Result, Revocation, Worker)
    return [list(model.objects.order_by("pk").values()) for model in models]


def refused(answer: Any, *statuses: int) -> str:
    """The sentence in a refusal."""
    assert answer.status_code in statuses, (answer.status_code, answer.content)
    assert answer["Content-Type"] == "application/json"
    text = answer.json()["error"]
    assert isinstance(text, str)
    assert len(text) > 10
    return text


def test_every_address_is_flowers(rows: dict[str, Any]) -> None:
    found = {str(pattern.pattern).partition("<")[0].rstrip("/") for _, pattern in views()}
    told = [
        "shutdown",
        "pool/restart",
        "pool/grow",
        "pool/shrink",
        "pool/autoscale",
        "queue/add-consumer",
        "queue/cancel-consumer",
    ]
    verbs = ["types", "info", "apply", "async-apply", "send-task", "result", "abort", "timeout", "rate-limit", "revoke"]
    flowers = {"api/workers", "api/tasks", "api/queues/length", *(f"api/worker/{each}" for each in told)}
    assert found == flowers | {f"api/task/{each}" for each in verbs} | {"api/workers/ask"}


def test_nobody_gets_in_without_a_token_or_a_staff_session(django_user_model: Any, rows: dict[str, Any]) -> None:
    before, someone = state(), Client()
    someone.force_login(django_user_model.objects.create_user("someone"))
    forged = [bearing("forged" * 6), bearing("viewer-" + "x" * 29), bearing("é" * 30)]
    for visitor in (of(Client()), of(someone), *forged):
        for _, _, url in addresses(rows):
            for method in METHODS[:3] if visitor in forged else METHODS:
                answer = visitor(method, url)
                assert answer.status_code == 401, (method, url)
                assert answer["WWW-Authenticate"].startswith("Bearer")
            refused(visitor("post", url), 401)
    for header in ("Basic eDp5", "Bearer", "Bearer ", "bearer " + "x" * 5000, "\\x00"):
        refused(Client().get("/djtasks/api/workers", headers={"Authorization": header}), 401)
    assert state() == before


def test_without_a_permission_nothing_is_shown_and_nothing_done(
    staff: Callable[..., Client], rows: dict[str, Any]
) -> None:
    before = state()
    for visitor in (of(staff()), with_token("nobody")):
        for _, view, url in addresses(rows):
            text = refused(visitor(view.method.lower(), url), 403)
            assert "djtasks." in text
            assert "tests.add" not in text
    assert state() == before


def test_to_see_is_not_to_act(staff: Callable[..., Client], rows: dict[str, Any]) -> None:
    before = state()
    for visitor in (of(staff(*VIEWS)), with_token("viewer")):
        for name, view, url in addresses(rows):
            if view.method == "GET":
                assert visitor("get", url).status_code == 200, url
                assert visitor("head", url).status_code == 200, url
            elif name != "workers-ask":
                assert view.needs
                assert view.needs[0] in refused(visitor("post", url), 403)
    assert state() == before


def test_other_methods_are_refused_and_nothing_changes_on_a_get(admin_client: Client, rows: dict[str, Any]) -> None:
    before = state()
    for visitor in (of(admin_client), with_token("operator")):
        for _, view, url in addresses(rows):
            for method in METHODS:
                if method.upper() != view.method and not (method == "head" and view.method == "GET"):
                    answer = visitor(method, url)
                    assert answer.status_code == 405, (method, url)
                    assert view.method in answer["Allow"]
                elif view.method == "GET":
                    assert visitor(method, url).status_code == 200, url
    assert state() == before


def test_a_session_needs_the_csrf_token_and_a_token_does_not(admin_client: Client, rows: dict[str, Any]) -> None:
    before, strict = state(), Client(enforce_csrf_checks=True)
    strict.cookies = admin_client.cookies
    for _, view, url in addresses(rows):
        if view.method == "POST":
            assert "X-CSRFToken" in refused(strict.post(url), 403)
    assert state() == before
    strict.cookies["csrftoken"] = "a" * 32
    url = reverse("djtasks_api:revoke", args=["no/such task"])
    assert strict.post(url, headers={"X-CSRFToken": "b" * 32}).status_code == 403
    assert strict.post(url, headers={"X-CSRFToken": "a" * 32}).status_code == 200
    strict.logout()


def test_read_only_means_everybody(admin_client: Client, configure: Callable[..., None], rows: dict[str, Any]) -> None:
    configure(**ON, MONITOR_READ_ONLY=True)
    before = state()
    for visitor in (of(admin_client), with_token("operator")):
        for _, view, url in addresses(rows):
            if view.method == "GET":
                assert visitor("get", url).status_code == 200
            else:
                assert "MONITOR_READ_ONLY" in refused(visitor("post", url), 403)
    assert state() == before


def test_it_is_off_until_it_is_turned_on(
    admin_client: Client, configure: Callable[..., None], rows: dict[str, Any]
) -> None:
    configure(MONITOR_API_TOKENS=TOKENS)
    before = state()
    for visitor in (of(admin_client), with_token("operator"), of(Client())):
        for _, _, url in addresses(rows):
            for method in ("get", "post"):
                assert "MONITOR_API to True" in refused(visitor(method, url), 404)
    assert state() == before


@pytest.mark.django_db(transaction=True, available_apps=None)
def test_whoever_may_act_is_let_in_everywhere(admin_client: Client, rows: dict[str, Any]) -> None:
    with open_private("test") as conn:
        for visitor in (of(admin_client), with_token("operator")):
            for name, view, url in addresses(rows):
                address = url + ("&timeout=0" if name == "apply" else "")
                answer = visitor(view.method.lower(), address)
                assert answer.status_code in (200, 202, 404 if name == "abort" else 200), (url, answer.content)
                assert answer["Content-Type"] == "application/json"
                assert answer["Cache-Control"] == "private, no-store"
        assert {each.by for each in Command.objects.all()} == {"superuser", "operator"}
        empty(conn)


def test_no_address_is_called_by_another_name(rows: dict[str, Any]) -> None:
    assert isinstance(entry.Answer({}).data, dict)
    for _, view, _ in addresses(rows):
        assert view.csrf_exempt
        assert view.models or view.needs
