"""Writes docs/reference/commands.md from the commands themselves: `python docs/make_commands.py`, in the checkout."""

import argparse
import os
import pathlib
import sys
from collections.abc import Iterator

import django

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "commands.md"
HEAD = """# Commands

This page is generated from the commands' own `--help` (`python docs/make_commands.py`). All take the options of
Django's commands, too; those stand before the verb.

- [`manage.py runworker`](#runworker) runs tasks, [`manage.py runbeat`](#runbeat) sends periodic ones.
- `manage.py djtasks VERB` does the rest, once or by hand.

A verb exits with 0; with 1 when what it was asked about has failed; with 64 when it cannot make sense of what it was
asked, and with 69 when what it was asked of is not there or not well: no worker, no such task, no database. `--json`
lets it answer with JSON, on stdout; sentences about options go to stderr.

## Celery's options

Before or after each verb, and of `runworker`, `-A proj` imports an app and makes it the current one. Other options of
Celery's commands are accepted, so that scripts need not be changed; each says in one line why it is not needed:
"""
#: Of every command of Django's, and what is said above.
SKIPPED = frozenset(
    {"help", "version", "verbosity", "settings", "pythonpath", "traceback", "no_color", "force_color", "skip_checks"}
)


def page() -> str:
    """The page, as Markdown. Django has been set up."""
    # Here, since they need that.
    from django.core.management import load_command_class  # noqa: PLC0415

    from djtasks.cli import foreign  # noqa: PLC0415

    parts = [HEAD]
    needless = {**foreign.WORKERS, **foreign.BEATS, **foreign.VERBS}
    parts += [f"- `{_flags(flags, metavar)}`: {why}" for flags, metavar, why in needless.values()]
    hidden = frozenset({*SKIPPED, "app", *needless})
    for name in ("runworker", "runbeat"):
        command = load_command_class("djtasks", name)
        parts += ["", f"## {name}", "", command.help]
        parts += _options(command.create_parser("manage.py", name), hidden)
    umbrella = load_command_class("djtasks", "djtasks").create_parser("manage.py", "djtasks")
    for name, verb in _verbs(umbrella):
        parts += ["", f"## {name}", "", str(verb.description), *_options(verb, hidden)]
        for below, parser in _verbs(verb):
            parts += ["", f"### {name} {below}", "", str(parser.description or ""), *_options(parser, hidden)]
    return "\n".join(parts) + "\n"


def _verbs(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _options(parser: argparse.ArgumentParser, skipped: frozenset[str]) -> Iterator[str]:
    """A table of what may stand behind a command."""
    rows = []
    for action in parser._actions:
        if action.dest in skipped or isinstance(action, argparse._SubParsersAction):
            continue
        metavar = action.metavar if isinstance(action.metavar, str) else None
        if action.choices is not None and metavar is None:
            metavar = "{" + ",".join(map(str, action.choices)) + "}"
        if not action.option_strings:
            shown = metavar or action.dest
            shown = f"[{shown}…]" if action.nargs == "*" else f"[{shown}]" if action.nargs == "?" else shown
        else:
            shown = _flags(action.option_strings, metavar if action.nargs != 0 else None)
        text = (action.help or "") % {**vars(action), "prog": parser.prog}
        rows.append(f"| `{_cell(shown)}` | {_cell(text)} |")
    if rows:
        yield from ("", "| option | meaning |", "|---|---|", *rows)


def _flags(flags: tuple[str, ...] | list[str], metavar: str | None) -> str:
    return ", ".join(flags) + (f" {metavar}" if metavar else "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")
    django.setup()
    PAGE.write_text(page())
