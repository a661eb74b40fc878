"""Options that a project has added to a command, as Celery's apps do: `app.user_options["worker"].add(option)`.

Each is a function that is given the parser, or an option of click (which need not be installed).
"""

import argparse
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandParser

from djtasks import signals
from djtasks.appstate import current
from djtasks.exceptions import ImproperlyConfigured, safe_repr


def add_arguments(parser: argparse.ArgumentParser, place: str) -> None:
    """Add those of all commands, and of this one. Raises ImproperlyConfigured for what is no option."""
    app = current()
    for option in (*app.user_options["preload"], *app.user_options.get(place, ())):
        try:
            if hasattr(option, "opts"):
                _add_click(parser, option)
            elif callable(option):
                option(parser)
            else:
                raise TypeError("it is neither a function that takes a parser, nor an option of click")
        except (argparse.ArgumentError, TypeError, AttributeError) as error:
            text = f"app.user_options: {safe_repr(option, 200)} cannot be an option of this command: {error}"
            if isinstance(parser, CommandParser):
                # A sentence and an exit code, before Django would catch what is raised.
                parser.error(text)
            raise ImproperlyConfigured(text) from error


def chosen(given: Mapping[str, Any], place: str) -> dict[str, Any]:
    """What was given for them, by name."""
    bare = argparse.ArgumentParser(add_help=False, conflict_handler="resolve")
    add_arguments(bare, place)
    return {action.dest: given[action.dest] for action in bare._actions if action.dest in given}


def tell(given: Mapping[str, Any]) -> None:
    """Tell the receivers of user_preload_options what was given for the options of all commands."""
    if signals.user_preload_options.receivers:
        app = current()
        signals.user_preload_options.send(sender=app, app=app, options=chosen(given, "preload"))


def _add_click(parser: argparse.ArgumentParser, option: Any) -> None:
    """An option of click, as argparse has it."""
    more: dict[str, Any] = {"dest": option.name, "help": (getattr(option, "help", None) or "").replace("%", "%%")}
    default = getattr(option, "default", None)
    # What nobody has said is an object of click's own.
    more["default"] = None if type(default).__module__.partition(".")[0] == "click" else default
    if getattr(option, "is_flag", False):
        value = getattr(option, "flag_value", True)
        more |= {"action": "store_const", "const": True if isinstance(value, bool | None) else value}
        more["default"] = more["default"] or False
    elif getattr(option, "count", False):
        more |= {"action": "count"}
    else:
        more |= {"type": _converter(option), "required": bool(getattr(option, "required", False))}
        if getattr(option, "multiple", False):
            more |= {"action": "append"}
        elif getattr(option, "nargs", 1) != 1:
            more |= {"nargs": option.nargs}
    parser.add_argument(*option.opts, **more)


def _converter(option: Any) -> Any:
    def convert(text: str) -> Any:
        try:
            return option.type.convert(text, option, None)
        except Exception as error:
            # Click's own class of errors; click need not be there.
            raise argparse.ArgumentTypeError(getattr(error, "message", str(error))) from error

    convert.__name__ = str(getattr(option.type, "name", "value"))
    return convert
