"""What is asked for before something is done."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from djtasks import ratelimits
from djtasks.calls import check_limit
from djtasks.commanding import MOST_SLOTS
from djtasks.conf.kinds import QUEUE_NAME_MAX, Unfit, is_storable, queue_name


class Storable(forms.CharField):
    """A text that a column of the database can hold."""

    def clean(self, value: Any) -> Any:
        """Raise ValidationError for one that none can."""
        found = super().clean(value)
        if not is_storable(found):
            raise forms.ValidationError(_("This text has characters that cannot be stored."))
        return found


class NoteForm(forms.Form):
    """Why, for others to read."""

    note = Storable(label=_("Note"), max_length=500, required=False)


class SlotsForm(forms.Form):
    """How many places."""

    n = forms.IntegerField(label=_("How many"), min_value=1, max_value=MOST_SLOTS, initial=1)


class AutoscaleForm(forms.Form):
    """Between how many places a pool is to stay."""

    min = forms.IntegerField(label=_("At least"), min_value=0, max_value=MOST_SLOTS, initial=1)
    max = forms.IntegerField(label=_("At most"), min_value=1, max_value=MOST_SLOTS, initial=10)

    def clean(self) -> dict[str, Any]:
        """Raise ValidationError for a least number above the greatest."""
        found = super().clean() or {}
        if found.get("min", 0) > found.get("max", MOST_SLOTS):
            raise forms.ValidationError(_("The least number is above the greatest."))
        return found


class QueueForm(forms.Form):
    """A queue."""

    queue = forms.CharField(label=_("Queue"), max_length=QUEUE_NAME_MAX, strip=False)

    def clean_queue(self) -> str:
        """Raise ValidationError for what is no name of a queue."""
        name: str = self.cleaned_data["queue"]
        try:
            return queue_name(name)
        except Unfit as error:
            raise forms.ValidationError(_("A queue %s.") % error) from None


class TaskForm(forms.Form):
    """A task."""

    task_name = Storable(label=_("Task"), max_length=200)


class RateForm(TaskForm):
    """How often a worker may start a task."""

    rate_limit = Storable(
        label=_("Rate"), max_length=50, required=False, help_text=_("As 10/s, 10/m or 10/h; empty for any number.")
    )

    def clean_rate_limit(self) -> str | None:
        """Raise ValidationError for what is no rate."""
        text: str = self.cleaned_data["rate_limit"]
        try:
            ratelimits.parse(text)
        except (TypeError, ValueError) as error:
            raise forms.ValidationError(str(error)) from None
        return text or None


class TimesForm(TaskForm):
    """How long a task may take."""

    soft = forms.FloatField(label=_("Soft limit, in seconds"), required=False)
    hard = forms.FloatField(label=_("Hard limit, in seconds"), required=False)

    def clean(self) -> dict[str, Any]:
        """Raise ValidationError for what can be no limit."""
        found = super().clean() or {}
        soft, hard = found.get("soft"), found.get("hard")
        try:
            check_limit(soft, "soft")
            check_limit(hard, "hard")
        except (TypeError, ValueError) as error:
            raise forms.ValidationError(str(error)) from None
        if soft is not None and hard is not None and soft > hard:
            raise forms.ValidationError(_("The soft limit is above the hard one."))
        return found
