"""The API: what it shows, what it does in the database, and what it says to what makes no sense."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from djtasks import appconf, shared_task
from djtasks.conf import problems, settings
from djtasks.conf.monitor_tokens import digest
from djtasks.db.connections import open_private
from djtasks.models import Message, Queue, Result, Revocation
from djtasks.monitor.api import workers
from djtasks.registry import tasks
from tests.admin.conftest import a_message, a_result, a_worker
from tests.storage.rows import empty

SECRET = "secret-of-the-operator-0123456789"
PERMISSIONS = [
    "view_worker",
    "change_worker",
    "view_queue",
    "view_message",
    "view_result",
    "view_payload_message",
    "view_payload_result",
    "add_message",
    "revoke_message",
    "terminate_message",
]
ON = {"MONITOR_API": True, "MONITOR_API_TOKENS": {"operator": {"token": SECRET, "permissions": PERMISSIONS}}}
#: What is called, revoked and told is so in transactions of its own.
commits = pytest.mark.django_db(transaction=True, available_apps=None)


@pytest.fixture(autouse=True)
def _on(db: None, configure: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The API is on, and there is a task."""
    monkeypatch.setattr(workers, "ANSWER_WITHIN", 0.0)
    configure(**ON)

    @shared_task(name="tests.summed")
    def summed(a: int, b: int = 0) -> int:
        return a + b

    yield
    tasks.pop("tests.summed", None)


@pytest.fixture
def alone(db: None) -> Iterator[None]:
    """What is committed is gone at the end."""
    with open_private("test") as conn:
        empty(conn)
        yield
        empty(conn)


@pytest.fixture
def api() -> Client:
    """A program that has the operator's token."""
    return Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {SECRET}"})


def get(client: Client, path: str, status: int = 200, **query: Any) -> Any:
    answer = client.get(f"/djtasks/api/{path}", query or None)
    assert answer.status_code == status, answer.content
    return answer.json()


def post(client: Client, path: str, body: Any = None, status: int = 200) -> Any:
    text = body if isinstance(body, str | bytes) else json.dumps({} if body is None else body)
    answer = client.post(f"/djtasks/api/{path}", text, content_type="application/json")
    assert answer.status_code == status, answer.content
    return answer.json()


# -- what it shows ------------------------------------------------------------------------------------------------


def test_workers_are_shown_from_their_rows(api: Client) -> None:
    a_worker(state={"running": 1, "load": [0.5]})
    a_worker(incarnation=5, name="late@here", heartbeat=timezone.now() - timedelta(minutes=5))
    a_message(owner=4242, claim=1)
    found = get(api, "workers")
    assert found.keys() == {"celery@here", "late@here"}
    assert found["celery@here"]["active_queues"] == [{"name": "celery"}]
    assert found["celery@here"]["stats"]["pool"] == {"implementation": "prefork", "max-concurrency": 1}
    assert found["celery@here"]["stats"]["total"] == 12
    assert api.get("/djtasks/api/workers?status=1").json() == {"celery@here": True, "late@here": False}
    one = get(api, "workers", workername="celery@here")
    assert [each["name"] for each in one["celery@here"]["active"]] == ["tests.add"]
    assert "no worker 'nobody'" in get(api, "workers", 404, workername="nobody")["error"]


def test_tasks_are_listed_filtered_and_paged_as_in_flower(api: Client) -> None:
    made = [a_message() for _ in range(3)]
    ended = [a_result(name="tests.other", state="FAILURE", worker="w@here", result=b'{"exc_type": "E"}') for _ in "12"]
    found = get(api, "tasks")
    assert [*found] == [str(each.pk) for each in (*reversed(ended), *reversed(made))]
    assert found[str(made[0].pk)]["args"] == "[1, 2]"
    assert found[str(made[0].pk)]["state"] == "PENDING"
    assert found[str(ended[0].pk)]["exception"].startswith("E: ")
    assert [*get(api, "tasks", sort_by="received", limit=2, offset=1)] == [str(each.pk) for each in made[1:]]
    for query in ("taskname=other", "state=FAILURE", "workername=w@here", "search=name:other"):
        assert {*get(api, f"tasks?{query}")} == {str(each.pk) for each in ended}, query
    assert get(api, "tasks", received_start="2099-01-01") == {}
    assert len(get(api, "tasks", received_end="2099-01-01 10:00")) == 5
    assert [*get(api, "tasks", search=str(made[0].pk))] == [str(made[0].pk)]
    for sort, most in (("-received", 5), ("received", 5), ("-ended", 2), ("ended", 2)):
        seen: list[str] = []
        url = f"/djtasks/api/tasks?limit=1&sort_by={sort}"
        while url:
            answer = api.get(url)
            seen += answer.json()
            url = answer.headers.get("Link", "").partition(">")[0].lstrip("<")
        assert len(seen) == len({*seen}) == most, sort


def test_one_task_is_shown_with_what_may_be_seen(api: Client, configure: Callable[..., None]) -> None:
    message = a_message(body=b'[["x-y-z"], {"b": 2}]', content_type="application/json")
    found = get(api, f"task/info/{message.pk}")
    assert (found["uuid"], found["name"], found["args"]) == (str(message.pk), "tests.add", "['x-y-z']")
    hidden = a_message(body=b'[["x-y-z"], {}]', content_type="application/json", headers='{"sensitive": true}')
    assert "x-y-z" not in api.get(f"/djtasks/api/task/info/{hidden.pk}").content.decode()
    result = a_result(worker="w@here", content_type="application/json", traceback="no")
    assert get(api, f"task/info/{result.pk}")["result"] == "3"
    assert get(api, f"task/result/{result.pk}") == {"task-id": str(result.pk), "state": "SUCCESS", "result": 3}
    assert get(api, f"task/result/{message.pk}") == {"task-id": str(message.pk), "state": "PENDING"}
    assert "No task 'who'" in get(api, "task/info/who", 404)["error"]
    assert "No task 'who'" in get(api, "task/result/who", 404)["error"]
    few = {"token": SECRET, "permissions": ["view_message", "view_result"]}
    configure(MONITOR_API=True, MONITOR_API_TOKENS={"few": few})
    for path in (f"task/info/{message.pk}", "tasks", f"task/info/{result.pk}"):
        assert "x-y-z" not in api.get(f"/djtasks/api/{path}").content.decode()
    assert get(api, f"task/result/{result.pk}") == {"task-id": str(result.pk), "state": "SUCCESS"}
    assert "view_payload" in get(api, "tasks", 403, search="args:x")["error"]


def test_queues_and_types_are_listed(api: Client) -> None:
    a_worker(queues=["celery", "slow"])
    a_message(queue="more")
    Queue.objects.create(name="slow", paused=True)
    found = {each["name"]: each for each in get(api, "queues/length")["active_queues"]}
    assert {name: each["messages"] for name, each in found.items()} == {"celery": 0, "slow": 0, "more": 1}
    assert found["slow"]["paused"]
    assert "tests.summed" in get(api, "task/types")["task-types"]


def test_no_address_needs_many_statements(api: Client, admin_client: Client) -> None:
    worker, result = a_worker(), a_result()
    for _ in range(20):
        a_message()
    paths = ("workers", f"workers?workername={worker.name}", "tasks", "tasks?sort_by=-ended", "tasks?search=tests",
             f"task/info/{result.pk}", f"task/result/{result.pk}", "queues/length", "task/types")  # fmt: skip
    for client, own in ((api, 0), (admin_client, 2)):
        for path in paths:
            with CaptureQueriesContext(connection) as seen:
                assert client.get(f"/djtasks/api/{path}").status_code == 200
            assert len(seen) <= own + 4, (path, [each["sql"] for each in seen.captured_queries])


# -- what it does -------------------------------------------------------------------------------------------------


@commits
@pytest.mark.usefixtures("alone")
def test_tasks_are_called(api: Client) -> None:
    told = post(api, "task/async-apply/tests.summed", {"args": [1], "kwargs": {"b": 2}, "queue": "q", "countdown": 9})
    message = Message.objects.get()
    assert told == {"task-id": str(message.pk), "state": "PENDING"}
    assert (message.name, message.queue, message.reason) == ("tests.summed", "q", "eta")
    message.delete()
    # As `curl -d` sends it.
    answer = api.post(
        "/djtasks/api/task/send-task/tests.summed", '{"args": [1]}', content_type="application/x-www-form-urlencoded"
    )
    assert answer.status_code == 200
    assert bytes(Message.objects.get().body).startswith(b"[[1]")
    told = api.post("/djtasks/api/task/apply/tests.summed?timeout=0", '{"args": [1]}', content_type="application/json")
    assert told.status_code == 202
    assert told.json()["state"] == "PENDING"


@commits
@pytest.mark.usefixtures("alone")
def test_a_name_that_is_not_known_here_is_called_only_if_that_is_allowed(
    api: Client, configure: Callable[..., None]
) -> None:
    assert "MONITOR_API_SEND_UNKNOWN" in post(api, "task/send-task/elsewhere.task", status=404)["error"]
    assert not Message.objects.exists()
    configure(**ON, MONITOR_API_SEND_UNKNOWN=True)
    post(api, "task/send-task/elsewhere.task")
    assert Message.objects.get().name == "elsewhere.task"
    for verb in ("apply", "async-apply"):
        assert "no task 'elsewhere.task'" in post(api, f"task/{verb}/elsewhere.task", status=404)["error"]


@commits
@pytest.mark.usefixtures("alone")
def test_tasks_are_revoked_terminated_and_aborted(api: Client) -> None:
    a_worker()
    waits, runs = a_message(), a_message(owner=4242, claim=1)
    assert post(api, f"task/revoke/{waits.pk}")["state"] == "prevented"
    assert Result.objects.get().state == "REVOKED"
    answer = api.post(f"/djtasks/api/task/revoke/{runs.pk}?terminate=true&signal=SIGKILL")
    assert answer.json()["state"] == "signalled"
    row = Revocation.objects.get(task_id=runs.pk)
    assert (row.terminate, row.signal, row.by) == (True, 9, "operator")
    assert "own text" in post(api, f"task/revoke/{quote('my own text')}")["message"]
    assert post(api, f"task/abort/{runs.pk}")["message"].startswith("Aborted")
    assert Result.objects.get(pk=runs.pk).state == "ABORTED"
    assert "nothing was there to stop" in post(api, f"task/abort/{waits.pk}", status=404)["error"]


def test_in_eager_mode_a_task_runs_in_the_request(api: Client, configure: Callable[..., None]) -> None:
    configure(**ON, TASK_ALWAYS_EAGER=True)
    assert post(api, "task/apply/tests.summed", {"args": [1, 2]})["result"] == 3
    assert post(api, "task/apply/tests.summed", {"args": ["x"]})["state"] == "FAILURE"
    assert "task-id" in post(api, "task/async-apply/tests.summed", {"args": [1]})


@commits
@pytest.mark.usefixtures("alone")
def test_to_terminate_needs_its_own_permission(api: Client, configure: Callable[..., None]) -> None:
    message = a_message()
    revoker = {"token": SECRET, "permissions": ["revoke_message"]}
    configure(MONITOR_API=True, MONITOR_API_TOKENS={"revoker": revoker})
    assert "terminate_message" in post(api, f"task/revoke/{message.pk}", {"terminate": True}, 403)["error"]
    assert not Revocation.objects.exists()
    post(api, f"task/revoke/{message.pk}")


@commits
@pytest.mark.usefixtures("alone")
def test_a_worker_that_does_not_answer_in_time_is_said_to(api: Client) -> None:
    a_worker()
    for path in ("worker/pool/grow/celery@here", "worker/queue/add-consumer/celery@here?queue=q"):
        assert "have not answered" in post(api, path, status=202)["message"]
    assert "was told to shut down" in post(api, "worker/shutdown/celery@here")["message"]


# -- tokens -------------------------------------------------------------------------------------------------------


def somebody(token: str) -> Any:
    """What a project may say of a token."""
    if token == "boom" * 5:
        raise LookupError(token)
    if token == "oops" * 5:
        raise AttributeError(token)
    if token == "gone" * 5:
        return User.objects.get(username=token)
    if token == "user" * 5:
        return User.objects.get(username="someone")
    return {"name": "one", "permissions": ["djtasks.view_worker"]} if token == "dict" * 5 else None


def test_a_function_may_say_whose_a_token_is(configure: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    User.objects.create_user("someone", is_superuser=True)
    for said in (somebody, "tests.monitor.test_api.somebody", "tests.monitor.test_api:somebody"):
        configure(MONITOR_API=True, MONITOR_API_TOKENS=said)
        wanted = {"user": 200, "dict": 200, "none": 401, "gone": 401, "boom": 503, "oops": 503}
        for token, status in wanted.items():
            client = Client(headers={"Authorization": f"Bearer {token * 5}"})
            assert client.get("/djtasks/api/workers").status_code == status
    assert not re.search("(boom|oops){2}", caplog.text)
    configure(MONITOR_API=True, MONITOR_API_TOKENS="tests.nowhere.at_all")
    assert Client(headers={"Authorization": "Bearer x"}).get("/djtasks/api/workers").status_code == 503


def test_a_token_can_be_kept_as_its_hash(api: Client, configure: Callable[..., None]) -> None:
    hashed = {"token_sha256": digest(SECRET).upper(), "permissions": ["view_worker"]}
    configure(MONITOR_API=True, MONITOR_API_TOKENS={"hashed": hashed})
    assert get(api, "workers") == {}
    get(api, "tasks", 403)


@commits
@pytest.mark.usefixtures("alone")
def test_tokens_are_shown_nowhere(api: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "djtasks.monitor"):
        post(api, "task/revoke/some")
    assert "operator, by the monitor's API: /djtasks/api/task/revoke/some (200)" in caplog.messages
    Client(headers={"Authorization": f"Bearer {SECRET}x"}).get("/djtasks/api/workers")
    shown = [caplog.text, repr(settings.MONITOR_API_TOKENS), str(appconf.table()), str(appconf.table(True))]
    assert not [each for each in shown if SECRET in each]
    assert appconf.table()["monitor_api_tokens"] == "********"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (SECRET, "a dict of names"),
        ([SECRET], "a dict of names"),
        ({"a": SECRET}, "a dict with token or token_sha256"),
        ({"a": {"token": SECRET}}, "must have permissions"),
        ({"a": {"token": "short", "permissions": []}}, "20 ASCII characters"),
        ({"a": {"token": SECRET + " ", "permissions": []}}, "20 ASCII characters"),
        ({"a": {"token": SECRET, "token_sha256": SECRET, "permissions": []}}, "either"),
        ({"a": {"token_sha256": SECRET, "permissions": []}}, "64 hexadecimal digits"),
        ({"a": {"token": SECRET, "permissions": "view_worker"}}, "a list of texts"),
        ({"a": {"token": SECRET, "permissions": ["view_workers"]}}, "did you mean 'view_worker'?"),
        ({"": {"token": SECRET, "permissions": []}}, "1 to 100 characters"),
        ({"a": {"token": SECRET, "permissions": [], "more": 1}}, "nothing else"),
    ],
)
def test_tokens_that_make_no_sense_are_told_without_them(said: Any, text: str) -> None:
    found = problems({"MONITOR_API_TOKENS": said})
    assert len(found) == 1
    assert text in found[0].text
    assert SECRET not in "".join(map(str, found[0]))


# -- what makes no sense ------------------------------------------------------------------------------------------

HOSTILE = ["\0", "\ud800", "' OR 1=1 --", "<script>", "../../etc/passwd", "x" * 5000, "%s%n", "{{7*7}}", "9" * 400]


@commits
@pytest.mark.usefixtures("alone")
def test_hostile_texts_are_refused_or_mean_nothing(api: Client) -> None:
    a_worker()
    a_message()
    names = [
        *[
            "search",
            "after",
            "sort_by",
            "workername",
            "taskname",
            "state",
            "queue",
            "received_start",
            "received_end",
            "limit",
            "offset",
        ]
    ]
    for text in HOSTILE:
        for name in names:
            url = f"/djtasks/api/tasks?{name}={quote(text, errors='surrogatepass')}"
            answer = api.get(url)
            assert answer.status_code in (200, 400), (url, answer.content)
            assert "error" in answer.json() or answer.status_code == 200
        escaped = quote(text, safe="", errors="surrogatepass")
        for path in ("task/info/", "task/result/"):
            assert api.get(f"/djtasks/api/{path}{escaped}").status_code in (400, 404), text
        for path in ("task/apply/", "task/send-task/", "task/async-apply/", "worker/shutdown/", "worker/pool/grow/"):
            assert api.post(f"/djtasks/api/{path}{escaped}").status_code in (400, 404), (path, text)
        for path in ("worker/queue/add-consumer/celery@here?queue=", "task/rate-limit/t?ratelimit=",
                     "task/revoke/x?signal=", "task/timeout/t?soft=", "worker/pool/grow/celery@here?n="):  # fmt: skip
            answer = api.post(f"/djtasks/api/{path}{escaped}")
            assert answer.status_code in (200, 202, 400), (path, text, answer.content)
    assert Message.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("{", "cannot be read"),
        ("[1]", "a JSON object"),
        ("[" * 100_000, "cannot be read"),
        ('{"a": ' * 100_000, "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        ('{"args": 5}', "args must be an array"),
        ('{"kwargs": []}', "kwargs must be an object"),
        ('{"args": ["x"], "kwargs": {"c": 1}}', "'c'"),
        ("{}", "'a'"),
        ('{"args": [1], "link": {}}', "There is no option 'link'"),
        ('{"args": [1], "serializer": "pickle"}', "There is no option 'serializer'"),
        ('{"args": [1], "using": "other"}', "There is no option 'using'"),
        ('{"args": [1], "eta": "soon"}', "eta must be a time"),
        ('{"args": [1], "eta": 5}', "eta must be a time"),
        ('{"args": [1], "countdown": "x"}', "countdown"),
        ('{"args": [1], "countdown": 1e999}', "countdown"),
        ('{"args": [1], "priority": 1e9}', "priority"),
        ('{"args": [1], "queue": "\\u0000"}', "queue"),
        ('{"args": [1], "queue": ["q"]}', "queue"),
        ('{"args": [1], "task_id": 5}', "task_id"),
        ('{"args": [1], "time_limit": -1}', "time_limit"),
        ('{"args": [1], "expires": "later"}', "expires must be a time"),
        (f'{{"args": [{"9" * 5000}]}}', "cannot be read"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(api: Client, body: Any, text: str) -> None:
    for verb in ("apply", "async-apply", "send-task"):
        if verb == "send-task" and text in ("'a'", "'c'"):
            continue
        assert text in post(api, f"task/{verb}/tests.summed", body, 400)["error"]
    assert not Message.objects.exists()


def test_what_is_too_large_is_refused(api: Client, configure: Callable[..., None]) -> None:
    configure(**ON, MONITOR_API_MAX_BYTES=1000)
    body = json.dumps({"args": ["x" * 2000]})
    assert "MONITOR_API_MAX_BYTES" in post(api, "task/async-apply/tests.summed", body, 413)["error"]
    configure(**ON, PAYLOAD_MAX_BYTES=1000, PAYLOAD_WARN_BYTES=500)
    assert "PAYLOAD_MAX_BYTES" in post(api, "task/async-apply/tests.summed", body, 413)["error"]
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("tasks?limit=100000000", "limit must be a whole number from 1 to 1000"),
        ("tasks?limit=-1", "limit must be"),
        ("tasks?offset=99999999", "offset must be"),
        ("tasks?sort_by=args", "sort_by must be one of"),
        ("tasks?after=x", "There is no such page"),
        ("tasks?sort_by=ended&after=x", "There is no such page"),
        (
            "tasks?sort_by=ended&after=0001-01-01T00:00%2B23:59~0192aaaa-0000-7000-8000-000000000000",
            "There is no such page",
        ),
        ("tasks?sort_by=ended&state=running", "sort it by received"),
        ("tasks?search=nothing:x", "There is no filter"),
        ("tasks?received_start=soon", "is no time"),
        ("workers?status=maybe", "status must be true or false"),
        ("task/result/x?timeout=-1", "timeout must be seconds"),
        ("task/result/x?timeout=nan", "timeout must be"),
        ("task/result/x?timeout=9999", "MONITOR_API_TIMEOUT"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(api: Client, path: str, text: str) -> None:
    answer = api.get(f"/djtasks/api/{path}")
    assert answer.status_code == 400, answer.content
    assert text in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "text", "status"),
    [
        ("worker/pool/grow/celery@here?n=0", "n must be", 400),
        ("worker/pool/shrink/celery@here?n=x", "n must be", 400),
        ("worker/pool/autoscale/celery@here?min=5&max=2", "must not be above", 400),
        ("worker/pool/autoscale/celery@here?min=5", "Say max", 400),
        ("worker/queue/add-consumer/celery@here", "Say queue", 400),
        ("worker/queue/cancel-consumer/celery@here?queue=" + "q" * 201, "200 characters", 400),
        ("worker/shutdown/who@where", "no worker 'who@where'", 404),
        ("task/rate-limit/tests.summed?ratelimit=often", "often", 400),
        ("task/rate-limit/tests.summed?ratelimit=5/m&workername=who", "no worker 'who'", 404),
        ("task/timeout/tests.summed", "Say soft, hard, or both", 400),
        ("task/timeout/tests.summed?soft=9&hard=1", "must not be above", 400),
        ("task/timeout/tests.summed?soft=-1", "soft", 400),
        ("task/revoke/x?terminate=maybe", "terminate must be", 400),
        ("task/revoke/x?signal=SIGNONE", "there is no signal", 400),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(api: Client, path: str, text: str, status: int) -> None:
    a_worker()
    assert text in post(api, path, "", status)["error"]
    assert not Revocation.objects.exists()


def test_no_worker_can_be_told_where_none_is(api: Client) -> None:
    assert "No worker is there" in post(api, "task/rate-limit/tests.summed?ratelimit=5/m", status=404)["error"]
