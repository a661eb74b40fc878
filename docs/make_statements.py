"""Writes docs/explanation/statements.md: the statements as they stand in the code, and why they are as they are.

`python docs/make_statements.py`, in the checkout.
"""

import importlib
import os
import pathlib
import sys
import textwrap

import django

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs" / "explanation" / "statements.md"
HEAD = """# The statements, and why

This page is generated (`python docs/make_statements.py`): the SQL is that of the code. `%(name)s` is a parameter, never
text that is put together. Parameters that are arrays are the columns of a batch.
"""
#: Heading, module, constant, why.
STATEMENTS = (
    (
        "Enqueue",
        "messages",
        "ENQUEUE",
        "One statement for one message or a thousand. Countdowns and relative expiries are added to the"
        " database's clock, so the caller's clock does not matter. A message whose time has not come has no lane:"
        " no claim ever steps over it. `ON CONFLICT DO NOTHING` makes the statement one that can be repeated when"
        " its answer was lost.",
    ),
    (
        "Claim",
        "claims",
        "CLAIM",
        "`me` holds the worker's own row `FOR KEY SHARE`: whoever declares the worker dead locks that row, and so"
        " waits for a claim in flight; a worker without a row claims nothing. Each lane is an ordered walk of one"
        " index, with its low-water mark (`after`) as the start, so that rows which are deleted but not yet"
        " vacuumed are stepped over once. The common table expression is MATERIALIZED: a subquery could be run"
        " again and update more rows than its limit. Neither `owner` nor `claim` is in an index, so the update"
        " stays heap-only.",
    ),
    (
        "Finish",
        "finish",
        "FINISH",
        "The only way out of the table. The fence is `owner` and `claim` in the DELETE: what somebody else holds"
        " by now is not deleted, so no result is written for it, and its id does not come back. A result is never"
        " replaced once it is terminal (`done IS NULL`).",
    ),
    (
        "Finish of parts of chords",
        "finish",
        "FINISH_PARTS",
        "The same, and the part counts: its row's key is unique, so a part that ends twice counts once, and only"
        " what was inserted is added to the chord's counter. That row is locked by the UPDATE at the very end. The"
        " parts of other workers are read by a later statement, with a new snapshot.",
    ),
    (
        "A link and the next one",
        "succession",
        "SUCCEED",
        "The end of a link writes the next link, behind the same fence. Where nothing else waits, the next one is"
        " born with an owner and a claim number: it needs no claim of its own.",
    ),
    (
        "Back into the queue",
        "messages",
        "RELEASE",
        "What was claimed and did not begin is put back, under its fence, at its old position.",
    ),
    (
        "What is due",
        "messages",
        "PROMOTE",
        "Any worker opens the lanes of what is due, `SKIP LOCKED`: twice is harmless, and nobody has to be the one.",
    ),
    (
        "Wake workers",
        "notify",
        "RING_WORKERS",
        "Run after the commit, in a new statement: it sees who has gone to sleep meanwhile. One more is rung than"
        " there are messages, since the freshest sleeper may just have died.",
    ),
    (
        "What is due for beat",
        "schedules",
        "ADVANCE",
        "The tick is moved in the transaction that writes its message; a beat that dies before the commit has"
        " sent nothing.",
    ),
)


def page() -> str:
    """The page, as Markdown. Django has been set up."""
    parts = [HEAD]
    for heading, module, constant, why in STATEMENTS:
        sql = str(getattr(importlib.import_module(f"djtasks.db.{module}"), constant))
        shown = textwrap.dedent(sql.strip("\n")).strip()
        parts += [f"## {heading}", "", textwrap.fill(why, 120), "", f"`djtasks.db.{module}.{constant}`", ""]
        parts += ["```sql", shown, "```", ""]
    return "\n".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")
    django.setup()
    PAGE.write_text(page())
