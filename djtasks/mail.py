"""E-mails to ADMINS about tasks that failed, through Django's mail; not too many of them, over all workers."""

import logging
from typing import Final

from django.conf import settings as django_settings
from django.core.mail import EmailMessage, mail_admins

from djtasks import masking
from djtasks.conf import settings
from djtasks.db.connections import borrow
from djtasks.db.throttles import may_speak
from djtasks.exceptions import safe_repr
from djtasks.messages import Claimed, Outcome
from djtasks.payload import headers_of, unpack_call

logger = logging.getLogger("djtasks.worker")

#: Characters of a subject.
SUBJECT_MAX: Final = 200


def send(message: Claimed, outcome: Outcome, hostname: str) -> bool:
    """Tell ADMINS, or TASK_ERROR_EMAILS_TO, that `message` failed on the node `hostname`; whether it was done.

    It is not where the same task failed with the same exception within TASK_ERROR_EMAILS_EVERY seconds, on whatever
    worker. Raises what the database or the mail server make Django raise.
    """
    if outcome.reported is None:
        return False
    kind, error = outcome.reported
    held = 0
    if settings.TASK_ERROR_EMAILS_EVERY:
        found = may_speak(borrow(), f"mail {message.name} {kind}"[:1000], settings.TASK_ERROR_EMAILS_EVERY)
        if found is None:
            return False
        held = found
    said = headers_of(message.headers)
    task_id = said.get("task_id", message.id)
    subject = " ".join(f"[{message.name}@{hostname}] Error: Task {message.name} ({task_id}): {error}".split())
    if len(subject) > SUBJECT_MAX:
        subject = subject[: SUBJECT_MAX - 1] + "…"
    body = _body(message, outcome, hostname, str(task_id), held)
    if settings.TASK_ERROR_EMAILS_TO is None:
        mail_admins(subject, body)
    else:
        prefixed = f"{django_settings.EMAIL_SUBJECT_PREFIX}{subject}"
        EmailMessage(prefixed, body, django_settings.SERVER_EMAIL, list(settings.TASK_ERROR_EMAILS_TO)).send()
    return True


def _body(message: Claimed, outcome: Outcome, hostname: str, task_id: str, held: int) -> str:
    args, kwargs = _arguments(message)
    lines = [
        f"Task {message.name} ({task_id}) failed on {hostname}.",
        "",
        f"Exception: {'' if outcome.reported is None else outcome.reported[1]}",
        f"Arguments: {args}",
        f"Keyword arguments: {kwargs}",
        f"Queue: {message.queue}",
        f"Retries: {message.retries}",
    ]
    if held:
        lines += ["", f"It failed like this {held} times more since the last e-mail about it."]
    lines += ["", outcome.traceback or "There is no traceback."]
    return "\n".join(lines) + "\n"


def _arguments(message: Claimed) -> tuple[str, str]:
    """The arguments as text: what the caller wants to be shown, and nothing that is sensitive."""
    said = headers_of(message.headers)
    try:
        args, kwargs = unpack_call(
            message.body, message.content_type, message.content_encoding, message.name, message.id, message.headers
        )
    except Exception as error:
        # A serializer of the project's own may raise anything.
        shown = why = f"cannot be read: {'' if 'sensitive' in said else safe_repr(error, 200)}"
    else:
        shown, why = masking.shown(said.get("sensitive"), args, kwargs)
    return str(said.get("argsrepr") or shown), str(said.get("kwargsrepr") or why)
