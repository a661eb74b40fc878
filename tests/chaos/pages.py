"""The admin's lists, opened as a browser does."""

import statistics
import time

from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

TIMES = 5


def visitor() -> Client:
    """A superuser who has logged in."""
    user, _ = get_user_model().objects.get_or_create(username="growth", is_staff=True, is_superuser=True)
    client = Client(SERVER_NAME="localhost")
    client.force_login(user)
    return client


def page_times(client: Client) -> tuple[float, float]:
    """How long the list of messages and that of results take, in seconds."""
    return _time(client, "message"), _time(client, "result")


def _time(client: Client, model: str) -> float:
    times = []
    for _ in range(TIMES + 1):
        began = time.perf_counter()
        response = client.get(reverse(f"admin:djtasks_{model}_changelist"))
        times.append(time.perf_counter() - began)
        assert response.status_code == 200, response
    # The first one compiles templates.
    return statistics.median(times[1:])
