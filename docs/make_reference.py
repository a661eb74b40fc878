"""Writes docs/reference/{api,signals,errors}.md from the code: `python docs/make_reference.py`, in the checkout."""

import inspect
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import django

ROOT = pathlib.Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "reference"
#: What is called on the objects that the API hands out.
CLASSES = ("Task", "AsyncResult", "GroupResult", "ResultSet", "EagerResult", "Signature", "Celery")
API = """# The API

This page is generated from the code (`python docs/make_reference.py`). All of it is imported from `djtasks`; where a
name is Celery's, it does what Celery's does, and [the list of features](features.md) says where it differs.
"""
SIGNALS = """# Signals

This page is generated from the code (`python docs/make_reference.py`). How to connect to them:
[Signals and traces](../guide/signals.md). They are in `djtasks.signals`.

| signal | sent |
|---|---|
"""
ERRORS = """# Errors

This page is generated from the code (`python docs/make_reference.py`). They are in `djtasks.exceptions`; indented is
what is a kind of what stands above it. Names are Celery's wherever Celery has the error.
"""


def pages() -> dict[str, str]:
    """The pages, by the names of their files. Django has been set up."""
    return {"api.md": api(), "signals.md": signals(), "errors.md": errors()}


def api() -> str:
    """Everything that `djtasks` exports."""
    import djtasks  # noqa: PLC0415 -- Django has to be set up

    parts = [API]
    for name in sorted(djtasks.__all__, key=str.lower):
        if name.startswith("__"):
            continue
        found = getattr(djtasks, name)
        parts += [f"## {name}", "", *_described(name, found), ""]
        if name in CLASSES:
            parts += _members(found)
    return "\n".join(parts).rstrip() + "\n"


def _described(name: str, found: Any) -> Iterator[str]:
    if inspect.isclass(found) or inspect.isroutine(found):
        yield from ("```text", f"{name}{_signature(found)}", "```", "")
        yield _text(found)
    else:
        yield _text(type(found))


def _members(cls: type) -> Iterator[str]:
    """The public methods and properties of a class, in the order of their names."""
    for name in sorted(dir(cls)):
        member = inspect.getattr_static(cls, name)
        if name.startswith("_") or not (text := _text(member)):
            continue
        owner = next(base for base in cls.__mro__ if name in vars(base))
        if not owner.__module__.startswith("djtasks"):
            continue
        shown = "" if isinstance(member, property) else _signature(getattr(cls, name), of_class=True)
        yield from (f"### {cls.__name__}.{name}", "", "```text", f"{name}{shown}", "```", "", text, "")


def _signature(found: Callable[..., Any], of_class: bool = False) -> str:
    try:
        parameters = list(inspect.signature(found).parameters.values())
    except (TypeError, ValueError):
        return "(…)"
    if of_class and parameters and parameters[0].name in {"self", "cls"}:
        parameters = parameters[1:]
    shown = [_parameter(each) for each in parameters]
    # As Python writes it: what may be named only stands behind a star.
    for index, each in enumerate(parameters):
        if each.kind is each.KEYWORD_ONLY and not any(p.kind is p.VAR_POSITIONAL for p in parameters[:index]):
            shown.insert(index, "*")
            break
    return f"({', '.join(shown)})"


def _parameter(parameter: inspect.Parameter) -> str:
    star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    default = parameter.default
    if default is parameter.empty:
        return star + parameter.name
    # The repr of an object that is only a mark says where it lies in memory.
    shown = repr(default)
    return f"{star}{parameter.name}={'…' if ' at 0x' in shown or '<' in shown else shown}"


def _text(found: Any) -> str:
    """A docstring as Markdown: its indented blocks are code."""
    text = inspect.cleandoc(getattr(found, "__doc__", None) or "")
    return re.sub(r"(?:^|\n\n)((?: {4}.*(?:\n|$)|\n(?= {4}))+)", _fenced, text).rstrip()


def _fenced(match: re.Match[str]) -> str:
    lines = [line.removeprefix("    ") for line in match[1].rstrip().splitlines()]
    return "\n\n```text\n" + "\n".join(lines) + "\n```\n"


def signals() -> str:
    """Every signal, and the comment at its definition."""
    from djtasks import signals as module  # noqa: PLC0415 -- Django has to be set up

    comments = _comments(pathlib.Path(module.__file__ or ""))
    names = sorted(name for name, each in vars(module).items() if isinstance(each, module.Signal))
    return SIGNALS + "".join(f"| `{name}` | {comments.get(name, '')} |\n" for name in names)


def _comments(file: pathlib.Path) -> Mapping[str, str]:
    """What stands in the comments above assignments of a module."""
    found: dict[str, str] = {}
    comment: list[str] = []
    for line in file.read_text().splitlines():
        if line.startswith("# --"):
            comment = []
        elif line.startswith("#"):
            comment.append(line.lstrip("#: "))
        elif match := re.match(r"(\w+)(?:: \w+)? = Signal\(", line):
            found[match[1]] = " ".join(comment).replace("|", "\\|")
            trailing = line.partition("  # ")[2]
            found[match[1]] = trailing or found[match[1]]
            comment = []
        elif line.strip():
            comment = []
    return found


def errors() -> str:
    """The family tree of errors."""
    from djtasks import exceptions as module  # noqa: PLC0415 -- Django has to be set up

    own = [each for each in vars(module).values() if inspect.isclass(each) and each.__module__ == module.__name__]
    unique = list(dict.fromkeys(own))
    roots = [each for each in unique if not any(base in unique for base in each.__mro__[1:])]
    return ERRORS + "\n" + "".join(_tree(root, unique, 0) for root in roots)


def _tree(cls: type, all_: list[type], depth: int) -> str:
    below = [each for each in all_ if cls in each.__bases__ and next(b for b in each.__bases__ if b in all_) is cls]
    others = [base.__name__ for base in cls.__bases__ if base not in all_ and base is not Exception]
    also = f" (also {', '.join(others)})" if others else ""
    head = " ".join(_text(cls).split("\n\n")[0].split())
    return f"{'  ' * depth}- `{cls.__name__}`{also}: {head}\n" + "".join(_tree(each, all_, depth + 1) for each in below)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")
    django.setup()
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
