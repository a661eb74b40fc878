"""An app that writes down which signals its process sends, or that it sends none; and that keeps mails in a folder."""

import json
import os
from typing import Any

from django.apps import AppConfig
from django.conf import settings

from djtasks import signals
from djtasks.signals import Signal

NAMES = {each: name for name, each in vars(signals).items() if isinstance(each, Signal)}


def write(event: str, **more: Any) -> None:
    """Append a line to the audit."""
    line = {"event": event, "pid": os.getpid(), **more}
    descriptor = os.open(os.environ["AUDIT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, json.dumps(line, default=repr).encode() + b"\n")
    finally:
        os.close(descriptor)


def hear(signal: Signal, sender: Any, **arguments: Any) -> None:
    """Write down what was sent."""
    request = arguments.get("request")
    message = arguments.get("message")
    write(
        NAMES[signal],
        id=arguments.get("task_id") or getattr(request or message, "id", None),
        sender=sender if isinstance(sender, str) else getattr(sender, "name", None) or type(sender).__name__,
        keys=sorted(arguments),
        values={key: each for key, each in arguments.items() if isinstance(each, str | int | bool | None | dict)},
        exception=repr(arguments.get("exception") or arguments.get("exc")),
        request=request
        and {
            key: getattr(request, key)
            for key in ("id", "task_id", "name", "task_name", "args", "kwargs", "hostname", "headers", "retries")
            if hasattr(request, key)
        },
    )
    if os.environ["SIGNALS"] == "raise":
        raise LookupError(f"the receiver of {NAMES[signal]} is broken")
    if signal is signals.celeryd_init:
        arguments["options"]["concurrency"] = 1
    if signal is signals.celeryd_after_setup:
        arguments["instance"].add_queue("more")


def count(self: Signal, sender: Any, **arguments: Any) -> list[Any]:
    """Write down that a signal was sent to nobody."""
    write("sent", signal=NAMES[self])
    return []


class SignalsConfig(AppConfig):
    """Connects the receivers."""

    name = "tests.signals_app"

    def ready(self) -> None:
        if mails := os.environ.get("MAILS"):
            settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
            settings.EMAIL_FILE_PATH = mails
            settings.ADMINS = [("Ann", "ann@example.org")]
        if os.environ.get("SIGNALS") == "count":
            Signal.send = Signal.send_robust = count  # type: ignore[method-assign]
        elif os.environ.get("SIGNALS"):
            for signal, name in NAMES.items():
                if not name.startswith(("setup_logging", "import_modules")):
                    signal.connect(hear, weak=False)
