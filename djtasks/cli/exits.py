"""How a command ends that cannot do what it was asked for, with the exit codes of Celery's commands."""

from djtasks.exceptions import ImproperlyConfigured

EX_OK, EX_FAILURE = 0, 1
#: What was asked for makes no sense.
EX_USAGE = 64
#: What it was asked of is not there, or is not well.
EX_UNAVAILABLE = 69


class Refusal(ImproperlyConfigured):
    """A sentence for whoever called the command, and its exit code."""

    code = EX_FAILURE


class Usage(Refusal):
    """What was asked for makes no sense."""

    code = EX_USAGE


class Unavailable(Refusal):
    """What it was asked of is not there."""

    code = EX_UNAVAILABLE
