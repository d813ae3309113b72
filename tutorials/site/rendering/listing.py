"""For Sphinx: `{listing} FILE` shows lines of a file of the project, each with an anchor.

A link to line 12 is `page.md#L-12`.
"""

from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[3]


class Listing(SphinxDirective):
    required_arguments = 1
    option_spec: ClassVar = {"lines": directives.unchanged, "language": directives.unchanged}

    def run(self):
        first, last = map(int, self.options["lines"].split("-"))
        lines = (ROOT / self.arguments[0]).read_text().splitlines()
        while first < last and not lines[last - 1].strip():
            last -= 1
        while first < last and not lines[first - 1].strip():
            first += 1
        text = "\n".join(lines[first - 1 : last])
        block = nodes.literal_block(text, text, language=self.options["language"], linenos=True)
        block["highlight_args"] = {
            "linenostart": first, "lineanchors": "L", "anchorlinenos": True,
        }  # fmt: skip
        self.env.temp_data.setdefault("lines", []).extend(range(first, last + 1))
        return [block]


def make_lines_known(app, doctree):
    """Links to a line of a page are checked as links to its headings are."""
    known = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
    for line in app.env.temp_data.get("lines", ()):
        known[f"L-{line}"] = (None, f"L-{line}", f"line {line}")


def setup(app):
    app.add_directive("listing", Listing)
    app.connect("doctree-read", make_lines_known)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
