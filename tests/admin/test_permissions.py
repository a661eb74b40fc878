"""Who sees what, and that nobody changes anything."""

from collections.abc import Callable

import pytest
from django.test import Client

from djtasks.models import Message, Result, Worker
from tests.admin.conftest import a_message, a_result, a_worker, address, field, words

PAGES = ("message", "result", "worker")


def of(kind: str) -> Message | Result | Worker:
    return {"message": a_message, "result": a_result, "worker": a_worker}[kind]()


@pytest.mark.parametrize("kind", PAGES)
def test_a_superuser_sees_lists_and_rows(admin_client: Client, kind: str) -> None:
    row = of(kind)
    assert words(admin_client.get(address(row, "")))
    assert words(admin_client.get(address(row)))
    assert words(admin_client.get(address(row, "history")))


@pytest.mark.parametrize("kind", PAGES)
def test_the_view_permission_is_enough_to_see_lists_and_rows(staff: Callable[..., Client], kind: str) -> None:
    row, client = of(kind), staff(f"view_{kind}")
    assert words(client.get(address(row, "")))
    assert words(client.get(address(row)))
    assert f"/admin/djtasks/{kind}/" in client.get("/admin/").content.decode()


@pytest.mark.parametrize("kind", PAGES)
def test_staff_without_the_permission_see_nothing(staff: Callable[..., Client], kind: str) -> None:
    row, client = of(kind), staff(*(f"view_{other}" for other in PAGES if other != kind))
    assert client.get(address(row, "")).status_code == 403
    assert client.get(address(row)).status_code == 403
    assert client.get(address(row, "history")).status_code == 403
    assert f"/admin/djtasks/{kind}/" not in client.get("/admin/").content.decode()


@pytest.mark.parametrize("kind", PAGES)
def test_who_is_not_logged_in_is_asked_to(client: Client, kind: str) -> None:
    row = of(kind)
    for page in ("", "change"):
        response = client.get(address(row, page))
        assert response.status_code == 302
        assert response["Location"].startswith("/admin/login/")


@pytest.mark.parametrize("kind", PAGES)
def test_not_even_a_superuser_adds_changes_or_deletes(admin_client: Client, kind: str) -> None:
    row = of(kind)
    before = type(row).objects.values().get()
    assert admin_client.get(f"/admin/djtasks/{kind}/add/").status_code == 403
    assert admin_client.post(f"/admin/djtasks/{kind}/add/", {"name": "x"}).status_code == 403
    assert admin_client.post(address(row), {"name": "x", "_save": "Save"}).status_code == 403
    assert admin_client.get(address(row, "delete")).status_code == 403
    assert admin_client.post(address(row, "delete"), {"post": "yes"}).status_code == 403
    admin_client.post(address(row, ""), {"action": "delete_selected", "_selected_action": row.pk, "index": 0})
    assert type(row).objects.values().get() == before


@pytest.mark.parametrize("kind", PAGES)
def test_the_permissions_to_change_and_delete_give_no_more_than_a_look(staff: Callable[..., Client], kind: str) -> None:
    row, client = of(kind), staff(f"add_{kind}", f"change_{kind}", f"delete_{kind}", f"view_{kind}")
    page = client.get(address(row)).content.decode()
    assert 'name="_save"' not in page
    assert "deletelink" not in page
    assert client.post(address(row), {"name": "x"}).status_code == 403
    assert "delete_selected" not in client.get(address(row, "")).content.decode()


def test_a_link_leads_only_to_what_the_user_may_see(admin_client: Client, staff: Callable[..., Client]) -> None:
    worker, row = a_worker(), a_result(owner=4242, worker="celery@here")
    a_message(id=row.pk)
    for client, links in ((admin_client, 1), (staff("view_result"), 0)):
        page = client.get(address(row))
        assert field(page, "worker_link") == "celery@here"
        assert page.content.decode().count(f'href="{address(worker)}"') == links
        assert page.content.decode().count(f'href="/admin/djtasks/message/{row.pk}/change/"') == links


@pytest.mark.parametrize("lookup", ["body__startswith", "result", "headers__contains", "traceback__regex", "name__gt"])
def test_columns_cannot_be_probed_from_the_address(admin_client: Client, lookup: str) -> None:
    assert admin_client.get("/admin/djtasks/result/", {lookup: "x"}).status_code == 400
