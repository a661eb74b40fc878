"""The form of a periodic task: one schedule, that of its kind; a task, by name; arguments that fit it."""

from collections.abc import Iterator, Mapping
from inspect import signature
from typing import Any, Final
from zoneinfo import available_timezones

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import ProhibitNullCharactersValidator
from django.utils.text import Truncator

from djtasks.admin.schedule_fields import JsonField, Suggesting, storable
from djtasks.admin.text import label
from djtasks.conf import settings
from djtasks.models import PeriodicTask
from djtasks.registry import tasks
from djtasks.schedules.sun import EVENTS

#: The fields of each kind of schedule, and what they hold when it is of another kind.
SCHEDULES: Final[Mapping[str, Mapping[str, Any]]] = {
    "interval": {"every": None, "period": "", "relative": False},
    "crontab": {
        **dict.fromkeys(("minute", "hour", "day_of_month", "month_of_year", "day_of_week"), "*"),
        "timezone": "",
    },
    "clocked": {"clocked": None},
    "solar": {"event": "", "latitude": None, "longitude": None},
}
#: What the preview reads, and says something of.
PREVIEWED: Final = (
    "kind",
    *(name for fields in SCHEDULES.values() for name in fields),
    *("start_time", "expires", "expire_seconds"),
)


def signature_of(name: str) -> str:
    """What the task of this name takes, for reading; empty for one that is not registered here."""
    task = tasks.get(name)
    try:
        return "" if task is None else Truncator(f"{label(name)}{signature(task.run)}").chars(200)
    except (TypeError, ValueError):
        # What is written in C may have none.
        return ""


def _names() -> Iterator[tuple[str, str]]:
    return ((name, signature_of(name)) for name in tasks.names())


def _zones() -> Iterator[tuple[str, str]]:
    return ((name, "") for name in sorted(available_timezones()))


def _events() -> list[tuple[str, str]]:
    return [("", "---------"), *((name, name.replace("_", " ")) for name in EVENTS)]


class PeriodicTaskForm(forms.ModelForm):  # type: ignore[type-arg] # generic in the stubs only
    """Adds and edits one periodic task. What is wrong stands at the field where it can be put right."""

    args = JsonField(list, widget=forms.Textarea({"rows": 2, "spellcheck": "false"}), label="Arguments")
    kwargs = JsonField(dict, widget=forms.Textarea({"rows": 2, "spellcheck": "false"}), label="Named arguments")
    headers = JsonField(dict, widget=forms.Textarea({"rows": 2, "spellcheck": "false"}))
    options = JsonField(dict, widget=forms.Textarea({"rows": 2, "spellcheck": "false"}), label="Other options")
    event = forms.ChoiceField(choices=_events, required=False)

    class Meta:
        model = PeriodicTask
        fields = "__all__"
        labels = {"timezone": "Time zone", "clocked": "At"}  # noqa: RUF012
        widgets = {  # noqa: RUF012
            "name": forms.TextInput,
            "task": Suggesting(_names, {"placeholder": "shop.tasks.send_receipt"}),
            "timezone": Suggesting(_zones, {"placeholder": "the setting TIMEZONE"}),
            "description": forms.Textarea({"rows": 2}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What is asked of the database while checking is asked of the right one.
        self.instance._state.db = settings.DATABASE
        shown = not self.is_bound or self.add_initial_prefix("enabled") in self.data
        if self.instance.pk is not None and "enabled" in self.fields and shown:
            # Beat switches off what has run once: only who changes it here switches it on again.
            self.fields["enabled"].show_hidden_initial = True
        for field in self.fields.values():
            if isinstance(field, forms.CharField) and not isinstance(field, forms.JSONField):
                own = [each for each in field.validators if not isinstance(each, ProhibitNullCharactersValidator)]
                field.validators = [*own, storable]

    def clean(self) -> dict[str, Any]:
        """Leave the fields of one schedule only; what is filled in of another is an error."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        kind = str(cleaned.get("kind"))
        if kind in SCHEDULES:
            for other, fields in SCHEDULES.items():
                for name in fields if other != kind else ():
                    self._leave_out(name, kind)
        if kind == PeriodicTask.Kind.CLOCKED:
            cleaned["one_off"] = True
        return cleaned

    def _leave_out(self, name: str, kind: str) -> None:
        """Empty a field of another kind of schedule; raise nothing, but note what has been typed into it."""
        empty = next(fields[name] for fields in SCHEDULES.values() if name in fields)
        found = self.cleaned_data.get(name, empty)
        if name in self.changed_data and found != empty and found not in ("", None, False):
            self.add_error(name, f"This is not of the kind “{kind}”: leave it empty, or choose its kind.")
            return
        self.cleaned_data[name] = empty
        # Django leaves alone what a browser did not send.
        setattr(self.instance, name, empty)

    def _update_errors(self, errors: ValidationError) -> None:
        """Of what the model finds, leave out what is at fault because its field could not be read."""
        found = {name: texts for name, texts in errors.error_dict.items() if name not in self.errors}
        if found:
            super()._update_errors(ValidationError(found))  # type: ignore[misc] # not in the stubs

    def validate_unique(self) -> None:
        """As Django's, in the database of tasks."""
        name = self.cleaned_data.get("name")
        others = PeriodicTask.objects.using(settings.DATABASE).exclude(pk=self.instance.pk)
        if name and others.filter(name=name).exists():
            self.add_error("name", ValidationError("There is a periodic task of this name.", "unique"))

    def validate_constraints(self) -> None:
        """They say less than what has been said by now."""
        if not self.errors:
            super().validate_constraints()
