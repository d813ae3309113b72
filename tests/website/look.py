"""A page in a browser without a network: what is wrong with it, on a screen and on a phone."""

import contextlib

SIZES = {"screen": (1280, 900), "phone": (390, 844)}
READY = """async () => {
  if (window.MathJax) await MathJax.startup.promise;
  await document.fonts.ready;
}"""
SEEN = """() => {
  const empty = box => !(box && box.width > 0 && box.height > 0);
  const text = e => e.textContent.trim().slice(0, 60);
  const formulas = [...document.querySelectorAll('.math')];
  const shown = e => {
    const made = e.querySelector('mjx-container svg');
    return made && !empty(made.getBoundingClientRect()) &&
      !e.querySelector('[data-mml-node="merror"]');
  };
  const closed = e => e.closest('details:not([open])');
  const root = document.scrollingElement;
  const wide = [...document.querySelectorAll('article *')]
    .filter(e => e.getBoundingClientRect().right > root.clientWidth + 1);
  return {
    formulas: formulas.length,
    unseen: formulas.filter(e => !closed(e) && !shown(e)).map(text),
    images: [...document.images].filter(i => !i.naturalWidth).map(i => i.getAttribute('src')),
    widths: [root.scrollWidth, root.clientWidth],
    wide: wide.length ? wide[0].outerHTML.slice(0, 80) : '',
    words: (document.querySelector('article') || document.body).innerText.trim().length,
    viewport: !!document.querySelector('meta[name=viewport]'),
  };
}"""


@contextlib.contextmanager
def opened(context, address):
    """A page and what went wrong while it was open: requests, the console, exceptions."""
    page, wrong = context.new_page(), []
    page.on("requestfailed", lambda r: wrong.append(f"failed: {r.url}"))
    page.on("pageerror", lambda e: wrong.append(f"exception: {e}"))
    page.on("console", lambda m: wrong.append(f"console: {m.text}") if m.type == "error" else None)

    def judge(route):
        if route.request.url.startswith(("file:", "data:")):
            route.continue_()
        else:
            wrong.append(f"network: {route.request.url}")
            route.abort()

    page.route("**/*", judge)
    try:
        page.goto(address)
        page.evaluate(READY)
        yield page, wrong
    finally:
        page.close()


def complaints(context, address, keep=lambda page, size: None):
    """What is wrong with the page at an address; `keep` is given it at each size."""
    with opened(context, address) as (page, wrong):
        found = []
        for size, (width, height) in SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            page.evaluate("() => new Promise(f => requestAnimationFrame(() => setTimeout(f)))")
            found += [f"{size}: {text}" for text in judged(page.evaluate(SEEN))]
            keep(page, size)
        return wrong + found


def judged(seen):
    """What is wrong with what was seen of a page."""
    yield from (f"the formula {text!r} is not shown" for text in seen["unseen"])
    yield from (f"the image {source} is not shown" for source in seen["images"])
    scrolled, width = seen["widths"]
    if scrolled > width:
        yield f"the page is {scrolled} pixels wide and scrolls in {width}: {seen['wide']}"
    if seen["words"] < 20:
        yield f"the page has {seen['words']} letters"
    if not seen["viewport"]:
        yield "the page does not say that it fits a phone"
