"""Numbers and times as the monitor's pages write them."""

from datetime import UTC, datetime, timedelta

from django.utils.formats import number_format
from django.utils.translation import gettext as _

from djtasks.admin.text import duration, moment


def count(number: float, most: int | None = None) -> str:
    """A whole number; one that was counted no further than `most` as "10,000+"."""
    if most is not None and number > most:
        return f"{number_format(most, 0, use_l10n=True, force_grouping=True)}+"
    return number_format(round(number), 0, use_l10n=True, force_grouping=True)


def rate(number: float) -> str:
    """So many a second."""
    return number_format(number, 0 if number >= 100 else 1 if number >= 10 else 2, force_grouping=True)


def span(seconds: float | None) -> str:
    """A length of time; nothing as a dash."""
    return "–" if seconds is None else duration(timedelta(seconds=max(0.0, seconds)))


def at(seconds: float | None) -> str:
    """A time in seconds since the epoch, in the current zone."""
    return "–" if seconds is None else moment(datetime.fromtimestamp(seconds, UTC))


def ago(seconds: float | None) -> str:
    """How long ago."""
    return "–" if seconds is None else _("%s ago") % span(seconds)


def about(number: int) -> str:
    """What the server's statistics know: two digits of it."""
    power = max(0, len(str(number)) - 2)
    return _("about %s") % count(round(number, -power)) if power else count(number)
