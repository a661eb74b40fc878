"""Ids of one's own."""

import itertools

_numbers = itertools.count(1)


def own() -> str:
    """The next one."""
    return f"call-{next(_numbers)}"
