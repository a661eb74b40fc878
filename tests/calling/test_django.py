"""What stands beside Django's own: the JSON views, the manager of results, the database router."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import router
from django.test import Client, override_settings
from django.urls import include, path
from django.utils import timezone

from djtasks import shared_task
from djtasks.ids import new_task_id
from djtasks.models import Message, Result
from djtasks.views import task_info

urlpatterns = [path("tasks/", include("djtasks.urls"))]


@shared_task(name="tests.django.double")
def double(x: Any) -> Any:
    return x * 2


@shared_task(name="tests.django.fail")
def fail() -> None:
    raise ValueError("<b>no</b>")


# -- views --------------------------------------------------------------------------------------------------------


@pytest.fixture
def _views(db: None, settings: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = __name__
    with override_settings(DJTASKS={"TASK_ALWAYS_EAGER": True, "TASK_STORE_EAGER_RESULT": True}):
        yield


def browser(*codenames: str) -> Client:
    """Of somebody with these permissions."""
    user = User.objects.create_user("+".join(codenames) or "nobody")
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="djtasks", codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.usefixtures("_views")
def test_the_views_answer_as_those_of_django_celery_results() -> None:
    client = browser("view_result", "view_payload_result")
    good, bad, unknown = double.delay(4).id, fail.delay().id, new_task_id()
    assert client.get(f"/tasks/{good}/status/").json() == {"task": {"id": good, "status": "SUCCESS", "result": 8}}
    failed = client.get(f"/tasks/{bad}/status/").json()["task"]
    assert (failed["status"], failed["exc"], failed["result"]) == (
        "FAILURE",
        "builtins.ValueError",
        "ValueError('<b>no</b>')",
    )
    assert "raise ValueError" in failed["traceback"]
    assert client.get(f"/tasks/{unknown}/status/").json()["task"]["status"] == "PENDING"
    for task_id, executed in ((good, True), (bad, False), (unknown, False)):
        assert client.get(f"/tasks/{task_id}/done/").json() == {"task": {"id": task_id, "executed": executed}}
    assert "celery.ping" in client.get("/tasks/registered/").json()["regular"]


@pytest.mark.usefixtures("_views")
def test_who_may_not_see_payload_is_told_the_status_alone() -> None:
    task_id = fail.delay().id
    said = browser("view_result").get(f"/tasks/{task_id}/status/").json()
    assert said == {"task": {"id": task_id, "status": "FAILURE"}}


@pytest.mark.usefixtures("_views")
@pytest.mark.parametrize("page", ["{}/status/", "{}/done/", "registered/"])
def test_the_views_need_a_permission_and_are_only_read(page: str) -> None:
    address = "/tasks/" + page.format(new_task_id())
    for client in (Client(), browser("view_message")):
        assert client.get(address).status_code == 403
    may = browser("view_result")
    assert may.get(address).status_code == 200
    assert may.get(address)["Cache-Control"].startswith("max-age=0")
    assert may.post(address).status_code == 405


@pytest.mark.usefixtures("_views")
def test_a_view_of_ones_own_says_what_it_wants() -> None:
    task_id = double.delay("a").id
    assert task_info(task_id) == {"id": task_id, "status": "SUCCESS", "result": "aa"}
    assert task_info(task_id, payload=False) == {"id": task_id, "status": "SUCCESS"}


# -- the manager --------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_manager_deletes_what_has_expired_and_nothing_else() -> None:
    Result.objects.all().delete()
    now = timezone.now()

    def result(age: timedelta | None, **more: Any) -> Result:
        done = None if age is None else now - age
        return Result.objects.create(id=new_task_id(), name="x", queue="q", state="SUCCESS", done=done, **more)

    new, running, letter = result(timedelta()), result(None), result(timedelta(days=9), dead="failed")
    for days in (2, 3, 4):
        result(timedelta(days=days))
    assert Result.objects.delete_expired(timedelta(days=3.5)) == 1
    assert Result.objects.delete_expired(2.5 * 86400) == 1
    assert Result.objects.delete_expired() == 1
    assert {str(row.pk) for row in Result.objects.all()} == {row.pk for row in (new, running, letter)}
    with override_settings(DJTASKS={"RESULT_EXPIRES": None}):
        assert Result.objects.delete_expired() == 0


# -- the router ---------------------------------------------------------------------------------------------------


def test_the_router_sends_tasks_to_their_database_and_says_nothing_of_others() -> None:
    with override_settings(DATABASE_ROUTERS=["djtasks.router.TaskRouter"], DJTASKS={"DATABASE": "other"}):
        assert (router.db_for_read(Result), router.db_for_write(Message)) == ("other", "other")
        assert router.db_for_write(User) == "default"
        assert router.allow_migrate("other", "djtasks")
        assert not router.allow_migrate("default", "djtasks")
        assert router.allow_migrate("default", "auth")
        assert router.allow_relation(Result(), Message())
        assert not router.allow_relation(Result(), User())
        assert router.allow_relation(User(), User())
