"""How one comes to the monitor, and that its addresses stand in nobody's way."""

from collections.abc import Callable
from uuid import UUID

import pytest
from django.test import Client, override_settings

from djtasks.ids import as_task_id
from djtasks.monitor import urls
from tests.admin.conftest import a_result, a_worker
from tests.monitor.conftest import to, words


def test_the_admin_has_a_link_for_those_who_may_see_something(
    admin_client: Client, staff: Callable[..., Client]
) -> None:
    for client in (admin_client, staff("view_worker"), staff("view_result")):
        assert "/admin/djtasks/monitor/" in client.get("/admin/").content.decode()
        answer = client.get("/admin/djtasks/monitor/")
        assert (answer.status_code, answer["Location"]) == (302, to("overview"))
    nobody = staff("view_revocation")
    assert "/admin/djtasks/monitor/" not in nobody.get("/admin/").content.decode()
    assert nobody.get("/admin/djtasks/monitor/").status_code == 403


@pytest.mark.parametrize("name", ["queues", "workers", "tasks", "limits", "schedules", "dead-letters", "registered"])
def test_the_json_views_of_a_task_that_is_called_like_a_page_stay_what_they_are(
    admin_client: Client, name: str
) -> None:
    a_result(id=UUID(as_task_id(name)))
    assert admin_client.get(f"/djtasks/{name}/done/").json() == {"task": {"id": name, "executed": True}}
    assert admin_client.get(f"/djtasks/{name}/status/").json()["task"]["status"] == "SUCCESS"
    assert "regular" in admin_client.get("/djtasks/registered/").json()


def test_no_address_of_a_page_is_one_of_the_json_views() -> None:
    for each in urls.urlpatterns:
        parts = [part for part in str(each.pattern).split("/") if part]
        assert len(parts) != 2 or parts[1] not in ("done", "status", "<str:name>", "<slug:name>")


def test_each_page_links_to_those_that_the_user_may_see(staff: Callable[..., Client]) -> None:
    page = staff("view_worker").get(to("workers")).content.decode()
    assert f'href="{to("workers")}" aria-current="page"' in page
    assert f'href="{to("tasks")}"' not in page
    assert f'href="{to("letters")}"' not in page


def test_the_theme_is_what_the_cookie_says_and_nothing_else(admin_client: Client) -> None:
    for cookie, theme in (("dark", ' data-theme="dark"'), ("light", ' data-theme="light"'), ('"><b>', "")):
        admin_client.cookies["djtasks_theme"] = cookie
        page = admin_client.get(to("limits")).content.decode()
        assert f'dir="ltr"{theme}>' in page


def test_the_policy_names_the_host_of_static_files(admin_client: Client) -> None:
    with override_settings(STATIC_URL="https://files.example.org/s/"):
        policy = admin_client.get(to("limits"))["Content-Security-Policy"]
    assert "script-src 'self' https://files.example.org;" in policy
    assert "unsafe" not in policy


def test_what_is_written_is_in_the_language_of_the_reader(admin_client: Client) -> None:
    a_worker()
    page = admin_client.get(to("workers"), headers={"Accept-Language": "ar"})
    assert words(page)


def test_a_page_asks_for_news_as_often_as_the_setting_says(
    admin_client: Client, configure: Callable[..., None]
) -> None:
    configure(MONITOR_REFRESH=7.5)
    page = admin_client.get(to("tasks"), {"q": 'a"b', "col": ["name", "state"]}).content.decode()
    assert 'hx-trigger="every 7.5s, djtasks:wake"' in page
    assert 'hx-get="/djtasks/tasks/?q=a%22b&amp;col=name&amp;col=state&amp;live=1"' in page
