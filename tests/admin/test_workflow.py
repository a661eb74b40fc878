"""The tree of a workflow on the page of a task."""

import html
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.http import HttpResponse
from django.test import Client

from djtasks.admin import workflow
from djtasks.ids import new_task_id
from djtasks.models import Chord
from tests.admin.conftest import a_message, a_result, address, field, words


def uuid() -> UUID:
    return UUID(new_task_id())


def page(client: Client, row: Any) -> HttpResponse:
    response = client.get(address(row))
    assert response.status_code == 200
    return response


def lines(response: HttpResponse) -> list[tuple[int, str]]:
    """The lines of the tree: how deep, and what they say without ids."""
    found = re.findall(r'<li class="djtasks-depth-(\d+)">(.*?)</li>', response.content.decode(), re.S)
    return [
        (
            int(depth),
            re.sub(r" ?[0-9a-f]{8}-[0-9a-f-]{27}", "", " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())),
        )
        for depth, text in found
    ]


@pytest.fixture(autouse=True)
def _no_chords(db: None) -> None:
    Chord.objects.all().delete()


def test_a_task_that_is_alone_has_no_workflow(admin_client: Client) -> None:
    assert field(page(admin_client, a_result()), "workflow") == "-"
    assert field(page(admin_client, a_message()), "workflow") == "-"


def test_a_member_of_a_group_that_nothing_came_before_names_its_group(admin_client: Client) -> None:
    group = uuid()
    response = page(admin_client, a_result(group_id=group))
    assert lines(response) == [(0, "group"), (1, "tests.add SUCCESS")]
    assert str(group) in response.content.decode()


def test_a_chain_is_a_list_with_states_and_links(admin_client: Client) -> None:
    first = a_result(name="shop.first")
    second = a_result(name="shop.second", root_id=first.pk, parent_id=first.pk, state="FAILURE")
    third = a_message(name="shop.third", root_id=first.pk, parent_id=second.pk)
    fourth = a_message(name="shop.fourth", root_id=first.pk, parent_id=third.pk, owner=5, claim=1)
    for row in (first, second, third, fourth):
        response = page(admin_client, row)
        assert lines(response) == [
            (0, "shop.first SUCCESS"),
            (0, "shop.second FAILURE"),
            (0, "shop.third waiting"),
            (0, "shop.fourth running"),
        ]
        text = response.content.decode()
        assert [address(each) in text for each in (first, second, third, fourth) if each is not row] == [True] * 3
        assert f"<strong>{row.name} {row.pk}</strong>" in text


def test_what_came_of_several_stands_deeper(admin_client: Client) -> None:
    root = a_result(name="shop.root")
    first = a_result(name="shop.a", root_id=root.pk, parent_id=root.pk)
    a_result(name="shop.b", root_id=root.pk, parent_id=root.pk)
    a_result(name="shop.c", root_id=root.pk, parent_id=first.pk)
    assert lines(page(admin_client, root)) == [
        (0, "shop.root SUCCESS"),
        (1, "shop.a SUCCESS"),
        (1, "shop.c SUCCESS"),
        (1, "shop.b SUCCESS"),
    ]


def test_a_chord_that_waits_says_how_far_its_header_is(admin_client: Client) -> None:
    root, group, body = a_result(name="shop.root"), uuid(), uuid()
    a_result(name="shop.part", root_id=root.pk, parent_id=root.pk, group_id=group)
    part = a_message(name="shop.part", root_id=root.pk, parent_id=root.pk, group_id=group, chord=group, part=1)
    Chord.objects.create(
        id=group, size=2, ended=1, body='{"task": "shop.sum"}', body_id=body, root_id=root.pk, failed=0
    )
    response = page(admin_client, part)
    assert lines(response) == [
        (0, "shop.root SUCCESS"),
        (1, "group"),
        (2, "shop.part SUCCESS"),
        (2, "shop.part waiting"),
        (1, "chord: 1 of 2 have ended, one has failed; then shop.sum"),
    ]
    assert str(body) in response.content.decode()


def test_a_chord_without_known_members_is_shown_all_the_same(admin_client: Client) -> None:
    root = a_result()
    a_result(root_id=root.pk, parent_id=root.pk)
    Chord.objects.create(id=uuid(), size=9, body="{}", root_id=root.pk)
    assert lines(page(admin_client, root))[-1] == (0, "chord: 0 of 9 have ended; then -")


def test_a_workflow_of_many_is_cut_and_says_how_many_more(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: Any
) -> None:
    monkeypatch.setattr(workflow, "TASKS_MAX", 5)
    root = a_result()
    members = [a_result(root_id=root.pk, parent_id=root.pk) for _ in range(9)]
    with django_assert_max_num_queries(8):
        response = page(admin_client, members[-1])
    assert len(lines(response)) == 5
    assert f"<strong>tests.add {members[-1].pk}</strong>" in response.content.decode()
    assert "… and 5 more tasks." in words(response)


def test_a_chain_of_hundreds_of_links_is_no_deeper_than_one(admin_client: Client) -> None:
    root = before = a_result()
    for _ in range(300):
        before = a_result(root_id=root.pk, parent_id=before.pk)
    assert lines(page(admin_client, root)) == [(0, "tests.add SUCCESS")] * 301


def test_tasks_that_came_of_each_other_in_a_circle_break_nothing(admin_client: Client) -> None:
    root, other = uuid(), uuid()
    row = a_result(id=root, root_id=root, parent_id=other)
    a_result(id=other, root_id=root, parent_id=root)
    assert len(lines(page(admin_client, row))) == 2


def test_names_in_a_workflow_are_inert(admin_client: Client) -> None:
    root, evil = a_result(), "<script>alert(1)</script>"
    a_message(name=evil, root_id=root.pk, parent_id=root.pk)
    Chord.objects.create(id=uuid(), size=9, body='{"task": "<img src=x>"}', root_id=root.pk)
    text = page(admin_client, root).content.decode()
    assert evil not in text
    assert "<img src=x>" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_who_may_not_see_messages_gets_no_links_to_them(staff: Callable[..., Client]) -> None:
    root = a_result()
    message = a_message(root_id=root.pk, parent_id=root.pk)
    response = page(staff("view_result"), root)
    assert len(lines(response)) == 2
    assert address(message) not in response.content.decode()
