"""Libraries that are asked for only when something needs them."""

import functools
from importlib import import_module
from typing import Any

from djtasks.exceptions import ImproperlyConfigured


@functools.cache
def library(module: str, extra: str | None) -> Any:
    """The module, imported. Raises ImproperlyConfigured, which says how to get it: the name of the extra that brings
    it, or None for a part of the standard library that a Python can be built without.

    Not an `import` at the top of a module: everybody would pay for what hardly anybody uses.
    """
    try:
        return import_module(module)
    except ImportError as error:
        cure = f"install it with: pip install 'djtasks[{extra}]'" if extra else "this Python was built without it"
        raise ImproperlyConfigured(f"{error}; {cure}") from error
