"""The page of the revocations: what holds, and nothing to change it with."""

from collections.abc import Callable, Iterator

import pytest
from django.test import Client

from djtasks import control
from djtasks.ids import as_task_id
from djtasks.models import Revocation

URL = "/admin/djtasks/revocation/"

pytestmark = pytest.mark.django_db(transaction=True, available_apps=None)


@pytest.fixture(autouse=True)
def _no_revocations() -> Iterator[None]:
    yield
    Revocation.objects.all().delete()


def test_it_shows_what_is_revoked_and_how(admin_client: Client) -> None:
    control.revoke("tomorrow", terminate=True)
    control.revoke("a workflow", workflow=True)
    control.revoke_by_stamped_headers({"tenant": "<b>x</b>"})
    page = admin_client.get(URL).content.decode()
    assert f"task {as_task_id('tomorrow')}" in page
    assert f"workflow {as_task_id('a workflow')}" in page
    assert "stamp tenant=&quot;&lt;b&gt;x&lt;/b&gt;&quot;" in page
    row = Revocation.objects.get(task_id=as_task_id("tomorrow"))
    assert admin_client.get(f"{URL}{row.pk}/change/").status_code == 200


def test_nobody_adds_changes_or_deletes_one_there(admin_client: Client, staff: Callable[..., Client]) -> None:
    control.revoke("tomorrow")
    row = Revocation.objects.get()
    assert admin_client.get(f"{URL}add/").status_code == 403
    assert admin_client.post(f"{URL}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert staff().get(URL).status_code == 403
    assert staff("view_revocation").get(URL).status_code == 200
    assert Revocation.objects.count() == 1
