"""The files of a site: links that lead somewhere, no network, tables that are tables, alt texts."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself, by tag; of a <link>, a stylesheet, an icon and the like.
FETCHED = {
    "script": ["src"], "img": ["src", "srcset"], "iframe": ["src"], "source": ["src", "srcset"],
    "video": ["src", "poster"], "audio": ["src"], "embed": ["src"], "object": ["data"],
    "link": ["href"],
}  # fmt: skip
NOT_FETCHED = {"canonical", "next", "prev", "index", "search", "author", "license"}
IN_STYLES = re.compile(r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s]+)""")


class Page(HTMLParser):
    """The anchors of a page, its links, what it fetches, and what was not rendered."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.fetched, self.raw = {"", "top"}, [], [], []
        self.style = self.paragraph = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[name] for name in ("id", "name") if attrs.get(name)}
        self.style, self.paragraph = tag == "style", tag == "p"
        if tag == "img" and Path(attrs.get("alt") or "").suffix in (".png", ".svg"):
            self.raw.append(f"an image whose alt text is {attrs['alt']}")
        self.fetched += IN_STYLES.findall(attrs.get("style") or "")
        if tag in ("a", "area") and attrs.get("href"):
            self.links.append(attrs["href"])
        if tag == "link" and set((attrs.get("rel") or "").split()) <= NOT_FETCHED:
            return
        self.fetched += [attrs[name] for name in FETCHED.get(tag, ()) if attrs.get(name)]

    def handle_data(self, data):
        if self.style:
            self.fetched += IN_STYLES.findall(data)
        if self.paragraph and data.startswith("| "):
            self.raw.append(f"a table that is a paragraph, {data[:40]!r}")
        self.paragraph = False


def pages(site):
    """The HTML files of a folder, by their path in it."""
    return sorted(p.relative_to(site).as_posix() for p in Path(site).rglob("*.html"))


def complaints(site):
    """Links and anchors that lead nowhere, what a network would be needed for, what is raw."""
    site = Path(site).resolve()
    read = {name: Page((site / name).read_text(encoding="utf-8")) for name in pages(site)}
    for name, page in read.items():
        for address in page.links:
            yield from _link(site, read, name, address)
        for address in page.fetched:
            yield from _fetched(site, name, address)
        yield from (f"{name}: {raw}" for raw in page.raw)
    for style in sorted(site.rglob("*.css")):
        for address in IN_STYLES.findall(style.read_text(encoding="utf-8")):
            yield f"{style.relative_to(site)} needs the network: {address}"


def _local(site, name, address):
    """The path in the site of what an address leads to, or None where that is elsewhere."""
    path = unquote(urlsplit(address).path)
    file = (site / name).parent / path if path else site / name
    file = file.resolve()
    return file.relative_to(site).as_posix() if file.is_relative_to(site) else None


def _link(site, read, name, address):
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        if parts.scheme not in ("http", "https", "mailto"):
            yield f"{name}: a link to {address}"
        return
    file = _local(site, name, address)
    if file is None or not (site / file).is_file():
        yield f"{name}: no file {address}"
    elif file in read and unquote(parts.fragment) not in read[file].anchors:
        yield f"{name}: no anchor {address}"


def _fetched(site, name, address):
    parts = urlsplit(address)
    if parts.scheme == "data":
        return
    if parts.scheme or parts.netloc:
        yield f"{name} needs the network: {address}"
    elif (file := _local(site, name, address)) is None or not (site / file).is_file():
        yield f"{name}: no file {address}"
