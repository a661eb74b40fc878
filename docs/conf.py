"""How Sphinx makes the site: `make docs` writes it to build/docs, and a warning is an error."""

from importlib.metadata import version as version_of

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

project = "djtasks"
author = "djtasks contributors"
copyright = author  # noqa: A001 -- Sphinx's name
release = version_of("djtasks")
version = ".".join(release.split(".")[:2])

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["deploy/**"]
myst_enable_extensions = ["colon_fence", "deflist"]
#: `#the-heading` leads to a heading of a page.
myst_heading_anchors = 4
#: Pages link to files of the checkout, too (docs/deploy, the licence): they are offered as downloads.
suppress_warnings = ["myst.header"]

html_theme = "furo"
html_title = f"djtasks {release}"
html_static_path: list[str] = []
#: Nothing is fetched from other hosts.
html_theme_options = {"navigation_with_keys": True}


def setup(app: Sphinx) -> None:
    """Pictures that are drawn elsewhere from Mermaid's text are shown as that text."""
    app.add_lexer("mermaid", TextLexer)
