"""The admin's lists and the monitor's pages, opened as a browser does."""

import statistics
import time

from django.contrib.auth import get_user_model
from django.db import connection
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
    messages, results = (reverse(f"admin:djtasks_{model}_changelist") for model in ("message", "result"))
    return time_of(client, messages), time_of(client, results)


def monitor_pages() -> dict[str, str]:
    """The addresses of the monitor's pages, by name; `task` is one of an ended task, if there is one."""
    names = ("overview", "workers", "queues", "tasks", "schedules", "limits", "letters")
    found = {name: reverse(f"djtasks_monitor:{name}") for name in names}
    tasks = found["tasks"]
    found |= {
        "tasks, failed": f"{tasks}?q=state:FAILURE",
        "tasks, by name": f"{tasks}?q=name:noop",
        "tasks, by a name that none has": f"{tasks}?q=name:nosuchtask",
        "tasks, last ended first": f"{tasks}?sort=-ended",
    }
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM djtasks_result ORDER BY id DESC LIMIT 1")
        if (last := cursor.fetchone()) is not None:
            found["task"] = reverse("djtasks_monitor:task", args=last)
    return found


def time_of(client: Client, path: str, *, live: bool = False) -> float:
    """How long a page takes, or its live part, in seconds: the median of some."""
    times = []
    for number in range(TIMES + 1):
        # What is kept of a live part for a moment is kept for its address.
        more = f"{'&' if '?' in path else '?'}live=1&time={number}" if live else ""
        began = time.perf_counter()
        response = client.get(path + more)
        times.append(time.perf_counter() - began)
        assert response.status_code == 200, response
    # The first one compiles templates.
    return statistics.median(times[1:])
