"""Writes docs/reference/settings.md from the settings themselves: `python docs/make_settings.py`."""

import pathlib

from djtasks.conf import describe
from djtasks.conf.foreign import IGNORED, by_reason

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
    tail = "\n\n## Accepted without meaning\n\nSettings of Celery's that do nothing here, and why:\n\n"
    groups = by_reason({name: f"`{name}`" for name in IGNORED})
    lines = [f"- {_cell(why)}: {', '.join(names)}." for why, names in groups.items()]
    return HEAD + "\n".join(rows) + tail + "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page())
