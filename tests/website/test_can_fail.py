"""These checks can fail: a page that is broken on purpose is reported."""

import pytest

from website import files, look

HEAD = '<!doctype html><meta name="viewport" content="width=device-width"><title>x</title>'
TEXT = "<article><p>Some words that are long enough to be a page.</p></article>"
SPOILT = {
    "a broken link": ('<a href="nowhere.html">x</a>', "no file nowhere.html"),
    "a broken anchor": ('<a href="other.html#nowhere">x</a>', "no anchor other.html#nowhere"),
    "an anchor of the page": ('<a href="#nowhere">x</a>', "no anchor #nowhere"),
    "a link to a file": ('<a href="file:///etc/hosts">x</a>', "a link to file"),
    "a script": ('<script src="https://example.org/a.js"></script>', "needs the network"),
    "a script, whichever scheme": ('<script src="//example.org/a.js"></script>', "needs the"),
    "a font": ("<style>p { src: url('https://example.org/a.woff') }</style>", "needs the network"),
    "a stylesheet": ('<link rel="stylesheet" href="https://example.org/a.css">', "needs the"),
    "an image": ('<img src="http://example.org/a.png">', "needs the network"),
    "an image that is not there": ('<img src="a.png">', "no file a.png"),
    "a path for an alt text": ('<img src="data:," alt="../a.png">', "alt text is ../a.png"),
    "a table in Markdown": ("<p>| a | b |</p>", "a table that is a paragraph, '| a | b |'"),
}
SEEN = {
    "a script": ('<script src="https://example.org/a.js"></script>', "network: https://example"),
    "a fetch": ("<script>fetch('https://example.org/a')</script>", "network: https://example"),
    "a file": ('<script src="a.js"></script>', "failed: file"),
    "the console": ("<script>console.error('spoilt')</script>", "console: spoilt"),
    "an exception": ("<script>throw Error('spoilt')</script>", "exception: spoilt"),
    "no formula": ('<span class="math">\\(x\\)</span>', "the formula"),
    "an empty formula": (
        '<span class="math"><mjx-container><svg width="0" height="0"></svg></mjx-container></span>',
        "the formula",
    ),
    "a wrong formula": (
        '<span class="math"><mjx-container><svg width="9" height="9"></svg>'
        '<g data-mml-node="merror"></g></mjx-container></span>',
        "the formula",
    ),
    "an image": ('<img src="data:image/png;base64,AA">', "the image"),
    "wide on a phone": ('<p style="width: 600px">x</p>', "phone: the page is"),
    "wide": ('<p style="width: 2000px">x</p>', "screen: the page is"),
}


@pytest.fixture
def made(tmp_path):
    """A site of two pages, one of them with this at its end."""

    def make(spoilt="", head=HEAD, text=TEXT):
        (tmp_path / "other.html").write_text(HEAD + TEXT)
        (tmp_path / "page.html").write_text(head + text + spoilt)
        return tmp_path

    return make


@pytest.mark.parametrize(("spoilt", "says"), SPOILT.values(), ids=SPOILT)
def test_a_spoilt_file_is_reported(made, spoilt, says):
    """What a page links to and fetches."""
    (found,) = files.complaints(made(spoilt))
    assert says in found


def test_a_spoilt_style_is_reported(made):
    """A font of a stylesheet, from the network."""
    site = made()
    (site / "a.css").write_text("@import 'https://example.org/a.css';")
    assert list(files.complaints(site)) == ["a.css needs the network: https://example.org/a.css"]


def test_a_right_site_is_not_reported(context, made):
    """The same two pages without a fault, and links that are allowed."""
    links = '<a href="other.html#top">x</a> <a href="https://example.org">x</a> <a href="#">x</a>'
    site = made(links)
    assert list(files.complaints(site)) == []
    assert look.complaints(context, (site / "page.html").as_uri()) == []


@pytest.mark.parametrize(("spoilt", "says"), SEEN.values(), ids=SEEN)
def test_a_spoilt_page_is_reported(context, made, spoilt, says):
    """What a browser does and shows."""
    found = look.complaints(context, (made(spoilt) / "page.html").as_uri())
    assert any(says in complaint for complaint in found), found


def test_a_page_for_no_phone_is_reported(context, made):
    """Without the line that makes a phone use its own width, and without words."""
    address = (made(head="<!doctype html>", text="") / "page.html").as_uri()
    found = look.complaints(context, address)
    assert "phone: the page does not say that it fits a phone" in found
    assert "screen: the page has 0 letters" in found
