"""Sensitive arguments, and a caller's own words for its arguments, in the admin."""

import json
from typing import Any

import pytest
from django.test import Client

from djtasks import shared_task
from djtasks.masking import MASK
from djtasks.registry import tasks
from tests.admin.conftest import a_message, a_result, address, words

SECRET = "4111-1111-1111-1111"
SENSITIVE = [[1], ["card"], None]


def text(client: Client, row: Any) -> str:
    """The page of a row as people read it, and as browsers get it."""
    response = client.get(address(row))
    assert response.status_code == 200
    return words(response) + response.content.decode()


def headers(**said: Any) -> str:
    return json.dumps(said)


@pytest.mark.parametrize("sensitive", [SENSITIVE, True, [[], ["card"], 1], "nonsense"])
@pytest.mark.parametrize("make", [a_message, a_result])
def test_what_a_message_calls_sensitive_is_hidden(admin_client: Client, make: Any, sensitive: Any) -> None:
    body = json.dumps([["ann", SECRET], {"card": SECRET}]).encode()
    more = {} if make is a_message else {"body_content_type": "application/json", "body_content_encoding": ""}
    found = text(admin_client, make(body=body, headers=headers(sensitive=sensitive), **more))
    assert SECRET not in found
    assert MASK in found


@pytest.mark.parametrize("body", [f'"{SECRET}"', f'[["{SECRET}"', f'{{"card": "{SECRET}"}}', f'[1, 2, "{SECRET}"]'])
def test_a_body_that_cannot_be_read_is_not_shown_where_something_is_sensitive(admin_client: Client, body: str) -> None:
    assert SECRET not in text(admin_client, a_message(body=body.encode(), headers=headers(sensitive=SENSITIVE)))


def test_headers_that_cannot_be_read_and_speak_of_something_sensitive_hide_everything(admin_client: Client) -> None:
    body = json.dumps([["ann", SECRET], {}]).encode()
    assert SECRET not in text(admin_client, a_message(body=body, headers='{"sensitive": [[1], ["card"], null]'))


def test_the_callers_own_words_stand_in_the_place_of_the_arguments(admin_client: Client) -> None:
    body = json.dumps([["ann", SECRET], {"x": SECRET}]).encode()
    found = text(admin_client, a_message(body=body, headers=headers(argsrepr="('ann', …)", kwargsrepr="{…}")))
    assert SECRET not in found
    assert "('ann', …)" in found


def test_sensitive_arguments_of_what_is_to_follow_are_hidden(admin_client: Client) -> None:
    @shared_task(name="tests.follow", sensitive=("card",))
    def follow(user: str, card: str) -> None: ...

    try:
        link = {"task": "tests.follow", "args": ["ann"], "kwargs": {"card": SECRET}, "options": {}}
        found = text(admin_client, a_message(headers=headers(callbacks=[link, "odd", {"task": 3}])))
    finally:
        del tasks["tests.follow"]
    assert SECRET not in found
    assert "ann" in found
