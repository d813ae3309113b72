"""Links between files of the project, as links between pages of the site."""

import posixpath
import re

from rendering import sources
from rendering.table import slug

LINK = re.compile(
    r"(?P<code>^ *```.*?^ *```|`[^`\n]*`(?!\]))"
    r"|\[(?P<text>[^\[\]]*)\]\((?P<target>[^)\s]+)\)|\]\((?P<other>[^)\s]+)\)",
    re.M | re.S,
)
IMAGES = (".png", ".jpg", ".svg", ".gif")
READABLE = (".py", ".cu", ".cuh", ".toml", ".json", ".c", ".md")


class Links:
    """What pages link to. `wanted` are the files that need a page, and `images` those to copy."""

    def __init__(self, root, pages):
        self.root, self.pages = root, set(pages)
        self.wanted, self.images = set(), set()

    def rewrite(self, text, here):
        """The Markdown of a page, whose file is `here`, with links to pages for those to files."""

        def link(match):
            if match["code"]:
                return match[0]
            if match["other"]:  # the end of a link whose text has brackets, as that of an image
                return f"]({self.target(match['other'], here)})"
            if address := self._mark(match["target"], here):
                return f'<a href="{address}">{match["text"]}</a>'
            return f"[{match['text']}]({self.target(match['target'], here)})"

        for image in re.findall(r'<img[^>]* src="([^":]+)"', text):
            self.images.add(self._file(image, here))
        return LINK.sub(link, text)

    def target(self, target, here):
        """Where a link leads. One to a file that is not there stays, and Sphinx complains of it."""
        if re.match(r"[a-z]+:", target) or target.startswith("#"):
            return target
        path, _, fragment = target.partition("#")
        file = self._file(path, here)
        if file in self.pages:
            return path + (f"#{slug(fragment.replace('-', ' '))}" if fragment else "")
        if (self.root / file).is_dir():
            inside = [p for p in (self.root / file).iterdir() if p.suffix in READABLE]
            self.wanted |= {p.relative_to(self.root).as_posix() for p in inside}
            return self._page(f"{file}/index", here)
        if not (self.root / file).is_file():
            return target
        if file.endswith(IMAGES):
            self.images.add(file)
            return target
        self.wanted.add(file)
        return self._page(file, here) + (f"#{self._place(file, fragment)}" if fragment else "")

    def _file(self, path, here):
        """A path in a page, from the root."""
        return posixpath.normpath(posixpath.join(posixpath.dirname(here), path))

    def _page(self, file, here):
        return posixpath.relpath(f"{sources.docname(file)}.md", posixpath.dirname(here) or ".")

    def _mark(self, target, here):
        """The address of an <a id="..."> in a page of Markdown, which Sphinx knows nothing of."""
        path, _, fragment = target.partition("#")
        file = self._file(path, here) if path else here
        if not fragment or not file.endswith(".md") or not (self.root / file).is_file():
            return None
        if f'<a id="{fragment}">' not in (self.root / file).read_text():
            return None
        return f"{path.removesuffix('.md')}.html#{fragment}" if path else f"#{fragment}"

    def _place(self, file, fragment):
        """The anchor of a line, as #L12 and #L12-L20, or of a function."""
        if line := re.match(r"L(\d+)", fragment):
            return f"L-{line[1]}"
        known = fragment in sources.names(self.root / file)
        return sources.anchor(self.root / file, fragment) if known else fragment
