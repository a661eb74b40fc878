"""What a schedule means, in words, and when its next runs are: on the page of a periodic task, as one types."""

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from django.forms import ModelForm
from django.http import JsonResponse, QueryDict
from django.utils import timezone
from django.utils.dateformat import format as formatted
from django.utils.html import format_html, format_html_join
from django.utils.timesince import timeuntil
from django.utils.timezone import get_current_timezone

from djtasks import periodic
from djtasks.admin.schedule_forms import PREVIEWED, signature_of
from djtasks.admin.schedule_lists import tick_of
from djtasks.exceptions import ImproperlyConfigured
from djtasks.models import PeriodicTask
from djtasks.periodic import Entry, schedule_of, upcoming

#: How many runs are shown.
RUNS: Final = 5
#: What a schedule raises that cannot be read; the calendar has an end, too.
UNREADABLE: Final = (ValueError, TypeError, OverflowError, ImproperlyConfigured)


class Run(NamedTuple):
    """One run to come."""

    #: As ISO 8601, in UTC.
    at: str
    #: As people read it, in the zone of the schedule.
    text: str
    #: How far away it is.
    away: str


class Preview(NamedTuple):
    """What is said of a schedule; all of it empty for one that cannot be read yet."""

    words: str = ""
    runs: tuple[Run, ...] = ()
    note: str = ""


#: What is said of what is not a schedule yet.
INCOMPLETE: Final = Preview(note="The next runs are shown here as soon as the schedule is complete.")


def words_of(task: PeriodicTask) -> str:
    """The schedule of a row in words; of one that cannot be read, why."""
    try:
        return periodic.words(task.entry())
    except UNREADABLE as error:
        return f"unreadable: {error}"


def preview(task: PeriodicTask, stored: PeriodicTask | None = None) -> Preview:
    """What is to be said of a periodic task with these columns; `stored` is the row when they are the row's own."""
    entry = task.entry()
    now = timezone.now()
    try:
        words = periodic.words(entry)
        runs = _upcoming(entry, stored, now)
        zone = schedule_of(entry).tz if task.kind == PeriodicTask.Kind.CRONTAB else get_current_timezone()
        # The fractions of a second in which an interval happens to count are of no use to a reader.
        exact = entry.period == "microseconds"
        shown = tuple(_run(each if exact else each.replace(microsecond=0), now, zone) for each in runs)
    except UNREADABLE as error:
        return Preview(note=str(error))
    return Preview(words, shown, _note(entry, bool(runs)))


def _upcoming(entry: Entry, stored: PeriodicTask | None, now: datetime) -> list[datetime]:
    """The next runs; of a row that beat has planned, from there on: an interval goes on from its last run."""
    first = tick_of(stored).next_run_at if stored is not None and not tick_of(stored).stale else None
    if first is None or first <= now:
        return upcoming(entry, now, RUNS)
    return [first] if entry.one_off else [first, *upcoming(entry, first, RUNS - 1, first)]


def _run(at: datetime, now: datetime, zone: Any) -> Run:
    local = at.astimezone(zone)
    text = formatted(local, "D Y-m-d H:i:s.u T" if local.microsecond else "D Y-m-d H:i:s T")
    return Run(at.isoformat(), text, _away(at - now))


def _away(span: timedelta) -> str:
    seconds = round(span.total_seconds())
    if abs(seconds) < 60:
        return f"in {seconds} s"
    reference = datetime(1, 1, 1)  # noqa: DTZ001 -- a length of time is all that is asked for
    return f"in {timeuntil(reference + timedelta(seconds=seconds), reference)}"


def _note(entry: Entry, runs: bool) -> str:
    if not runs:
        return "It does not run again."
    notes = ["It runs once."] if entry.one_off else []
    if not entry.enabled:
        notes.append("It is disabled: nothing runs before it is enabled.")
    return " ".join(notes)


def panel(task: Any, url: str) -> str:
    """The preview of a row, as it stands on its page when that is made."""
    stored = task if task is not None and task.pk else None
    said = preview(task, stored) if stored is not None else INCOMPLETE
    runs = format_html_join(
        "", '<li><time datetime="{}">{}</time> <span class="djtasks-away">{}</span></li>', said.runs
    )
    return format_html(
        '<div class="djtasks-schedule" data-url="{}" aria-live="polite"><p class="djtasks-words">{}</p>'
        '<ol class="djtasks-runs">{}</ol><p class="djtasks-note">{}</p></div>',
        f"{url}?of={stored.pk}&" if stored is not None else f"{url}?",
        said.words,
        runs,
        said.note,
    )


def answer(typed: QueryDict, form_class: "type[ModelForm[Any]]", stored: PeriodicTask | None) -> JsonResponse:
    """The same for what is typed, with what is wrong with it, as JSON."""
    form = form_class(typed, instance=stored)
    before = [getattr(stored, name) for name in PREVIEWED] if stored is not None else None
    errors = {name: [str(each) for each in form.errors[name]] for name in PREVIEWED if name in form.errors}
    task = form.instance
    same = before == [getattr(task, name) for name in PREVIEWED]
    said = INCOMPLETE if errors else preview(task, stored if same else None)
    warnings = periodic.warnings(task.entry())
    return JsonResponse(
        {
            "words": said.words,
            "runs": [each._asdict() for each in said.runs],
            "note": said.note,
            "errors": errors,
            "task": {"warning": warnings.get("task", ""), "takes": signature_of(task.task)},
        }
    )
