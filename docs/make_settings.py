"""Writes docs/reference/settings.md from the settings themselves: `python docs/make_settings.py`."""

import pathlib

from djtasks.conf import IGNORED, describe

PAGE = pathlib.Path(__file__).parent / "reference" / "settings.md"
HEAD = """# Settings

All settings are keys of one dict, `DJTASKS`, in Django's settings. This page is generated from their definitions
(`python docs/make_settings.py`). `manage.py check` reports a key that is misspelt, of the wrong type or out of range.

```python
DJTASKS = {"ENQUEUE": "in_transaction", "TASK_TIME_LIMIT": 300}
```

| setting | default | may be | meaning |
|---|---|---|---|
"""


def page() -> str:
    """The page, as Markdown."""
    rows = [
        f"| `{entry.name}` | `{_cell(repr(entry.default))}` | {_cell(entry.wants)} | {_cell(entry.help)} |"
        for entry in describe()
    ]
    foreign = ", ".join(f"`{name}`" for name in sorted(IGNORED))
    tail = (
        f"\n\n## Accepted without meaning\n\nSettings of Celery for servers that are not there any more: {foreign}.\n"
    )
    return HEAD + "\n".join(rows) + tail


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page())
