"""`djtasks control`: tell workers something."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from djtasks import broadcasting, commanding, control
from djtasks.cli import remote
from djtasks.cli.exits import EX_OK, Unavailable, Usage
from djtasks.cli.output import Say
from djtasks.db.connections import open_private

HELP = "Tell workers what to do. Who said it is written down; `djtasks control --list` says what can be told."
#: What holds for all workers, and for those to come: it needs none that answers.
REVOKING = {
    "revoke id1 [id2 …]": "Let tasks not run.",
    "terminate <signal> id1 [id2 …]": "Let tasks not run, and end those that do.",
    "revoke_by_stamped_headers key=value …": "Let tasks not run that have one of these stamps.",
}
_NAMES = [text.split()[0] for text in REVOKING]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Celery's options."""
    remote.add_command(parser)


def run(given: Mapping[str, Any], say: Say) -> int:
    """Tell them. Raises Usage for what cannot be told, Unavailable when nobody answers."""
    if given.get("list"):
        say(remote.listed("control", REVOKING))
        return EX_OK
    command = remote.chosen(given, "control", _NAMES)
    words = given["arguments"]
    if command in _NAMES:
        return _revoke(command, words, given, say)
    arguments = remote.arguments_of(command, words)
    destination = remote.meant(given)
    if command == "shutdown":
        return _shut_down(destination, given, say)
    with remote.refusing():
        replies = _told(command, arguments, destination=destination, reply=True, timeout=given["timeout"])
    if not replies:
        raise Unavailable(remote.NOBODY)
    answers = broadcasting.flatten_reply(replies)
    if not remote.said(replies, given, say):
        remote.tell(answers, say)
    return remote.code_of(answers)


def _told(command: str, arguments: Mapping[str, Any], **options: Any) -> Any:
    """By the function of that name, which checks the arguments; or as it is."""
    function = getattr(commanding, command, None)
    if function is None:
        return control.broadcast(command, arguments, **options)
    try:
        return function(**arguments, **options)
    except TypeError as error:
        raise Usage(f"{error}; see --list") from None


def _revoke(command: str, words: Sequence[str], given: Mapping[str, Any], say: Say) -> int:
    with remote.refusing():
        if command == "revoke":
            _some(words, "an id")
            said = control.revoke(words)
        elif command == "terminate":
            _some(words[1:], "a signal and an id")
            said = control.terminate(words[1:], signal=words[0])
        else:
            _some(words, "key=value")
            said = control.revoke_by_stamped_headers(list(words))
    if not remote.said(said, given, say):
        for task_id, what in said.items():
            say(f"{task_id}: {what}")
        if not said:
            say("It holds for what comes; nothing that is there now is meant.")
    return EX_OK


def _some(words: Sequence[str], wanted: str) -> None:
    if not words:
        raise Usage(f"it takes {wanted}; see --list")


def _shut_down(destination: list[str] | None, given: Mapping[str, Any], say: Say) -> int:
    """Workers that stop do not answer: it is said who was told."""
    with open_private("control") as conn:
        asked = broadcasting.ask(conn, "shutdown", None, destination, timeout=0, reply=False)
    if not asked.names:
        raise Unavailable("no worker lives that could be told")
    if not remote.said(asked.names, given, say):
        say(f"They end what runs, and stop: {', '.join(sorted(asked.names))}.")
    return EX_OK
