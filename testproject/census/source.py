"""Reading Python source: which files a tree has, and what one file holds.

Knows nothing of Django or tasks. Source is never run or imported, only parsed.
"""

import ast
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MAX_BYTES = 4 * 1024 * 1024

Documentable = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Unreadable(Exception):
    """A file's content cannot be counted; the message says why."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What one file holds. Lines are counted as an editor does; a function's from its `def` to its last line."""

    lines: int
    functions: int = 0
    classes: int = 0
    #: Top-level packages, in alphabetical order, each once; relative imports are left out.
    imports: list[str] = field(default_factory=list)
    longest_function: str = ""
    longest_function_lines: int = 0
    #: Modules, classes and functions, and how many of them have a docstring.
    documentable: int = 0
    documented: int = 0


def find_files(folder: Path) -> Iterator[str]:
    """The paths of all regular `.py` files below a folder, relative to it, in order; links are not followed."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(parent, name)
            if name.endswith(".py") and os.path.isfile(path) and not os.path.islink(path):
                yield os.path.relpath(path, folder)


def printable(path: str) -> str:
    """A path as text that can be stored; a name that is not UTF-8 can then be read, but not opened again."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def read(path: Path) -> Facts:
    """Parse one file. Raises Unreadable, with the reason, for whatever is not Python that this Python understands."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise Unreadable(plain(f"{type(error).__name__}: {error}")) from error
    if len(content) > MAX_BYTES:
        raise Unreadable(f"larger than {MAX_BYTES // 1024 // 1024} MB")
    try:
        with warnings.catch_warnings():
            # An invalid escape in somebody's source is no news of this site.
            warnings.simplefilter("ignore")
            module = ast.parse(content)
    except SyntaxError as error:
        where = f" (line {error.lineno})" if error.lineno else ""
        raise Unreadable(plain(f"{type(error).__name__}: {error.msg}{where}")) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise Unreadable(plain(f"{type(error).__name__}: {error}")) from error
    return _facts(module, content)


def _facts(module: ast.Module, content: bytes) -> Facts:
    nodes = [node for node in ast.walk(module) if isinstance(node, Documentable | ast.Import | ast.ImportFrom)]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    documentable = [node for node in nodes if isinstance(node, Documentable)]
    longest = max(functions, key=_length, default=None)
    return Facts(
        lines=len(content.splitlines()),
        functions=len(functions),
        classes=sum(isinstance(node, ast.ClassDef) for node in nodes),
        imports=sorted({plain(name) for node in nodes for name in _imported(node)}),
        longest_function=plain(longest.name) if longest else "",
        longest_function_lines=_length(longest) if longest else 0,
        documentable=len(documentable),
        documented=sum(ast.get_docstring(node, clean=False) is not None for node in documentable),
    )


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name.partition(".")[0]
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module.partition(".")[0]


def plain(text: str, limit: int = 500) -> str:
    """Text that PostgreSQL takes: no NUL, no lone surrogates, and not too long."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")[:limit]
