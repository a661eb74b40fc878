"""What the tests of the admin of periodic tasks share: rows, forms as a browser sends them, what is said of both."""

from typing import Any
from urllib.parse import urlencode

from django.contrib.admin import site
from django.http import HttpResponse, QueryDict
from django.test import RequestFactory

from djtasks.models import PeriodicTask

LIST = "/admin/djtasks/periodictask/"
PREVIEW = f"{LIST}preview/"
FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
#: A form as it is sent without a script: all fields, of all kinds of schedules.
BLANK = {
    "name": "often",
    "task": "tests.schedules.add",
    "enabled": "on",
    "kind": "interval",
    "args": "[1]",
    "kwargs": "{}",
    "headers": "{}",
    "options": "{}",
    "catch_up": "one",
    "overlap": "allow",
    **dict.fromkeys(FIELDS, "*"),
}


def interval(**fields: Any) -> dict[str, Any]:
    """A form: every 5 minutes, unless said otherwise."""
    return {**BLANK, "every": "5", "period": "minutes", **fields}


def crontab(**fields: Any) -> dict[str, Any]:
    """A form: every minute, unless said otherwise."""
    return {**BLANK, "kind": "crontab", **fields}


def clocked(date: str, time: str = "12:00:00", **fields: Any) -> dict[str, Any]:
    """A form: once, at that time (UTC)."""
    return {**BLANK, "kind": "clocked", "clocked_0": date, "clocked_1": time, **fields}


def solar(**fields: Any) -> dict[str, Any]:
    """A form: at sunset in Paris, unless said otherwise."""
    return {**BLANK, "kind": "solar", "event": "sunset", "latitude": "48.86", "longitude": "2.35", **fields}


def a_periodic_task(**fields: Any) -> PeriodicTask:
    """A row: every 5 minutes, unless said otherwise."""
    values = {"name": "often", "task": "tests.schedules.nothing", "kind": "interval", "every": 5, "period": "minutes"}
    return PeriodicTask.objects.create(**{**values, **fields})


def from_code(name: str = "from code", **fields: Any) -> PeriodicTask:
    """A row as beat writes it: every 30 seconds, says BEAT_SCHEDULE."""
    said = {"kind": "interval", "every": 30, "period": "seconds", "task": "tests.schedules.nothing", **fields}
    row = a_periodic_task(name=name, source="settings", **said)
    columns = {
        field.column: row.__dict__[field.attname]
        for field in PeriodicTask._meta.concrete_fields
        if field.name not in ("id", "name", "source", "said", "overridden", "vanished", "date_changed")
    }
    PeriodicTask.objects.filter(pk=row.pk).update(said=columns)
    row.refresh_from_db()
    return row


def errors(response: HttpResponse) -> dict[str, str]:
    """What the form complains of, by field; nothing was stored."""
    assert response.status_code == 200, response.status_code
    found: Any = response.context["adminform"].form.errors  # type: ignore[attr-defined] # of the test client
    return {name: " ".join(str(text) for text in texts) for name, texts in found.items()}


def checked(form: dict[str, Any]) -> dict[str, list[str]]:
    """What the form says of this, by field, without a page around it."""
    made = site.get_model_admin(PeriodicTask).get_form(RequestFactory().get(LIST))
    return {name: [str(text) for text in texts] for name, texts in made(QueryDict(urlencode(form))).errors.items()}


def names(response: HttpResponse) -> list[str]:
    """The names in a list, in order."""
    found: Any = response.context["cl"].result_list  # type: ignore[attr-defined] # of the test client
    return [row.name for row in found]
