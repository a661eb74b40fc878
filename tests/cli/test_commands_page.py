"""The page of commands says what their `--help` says."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_commands_page_says_what_the_commands_say() -> None:
    spec = importlib.util.spec_from_file_location("make_commands", ROOT / "docs" / "make_commands.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cure = "run `python docs/make_commands.py`"
    assert (ROOT / "docs/reference/commands.md").read_text() == module.page(), cure
