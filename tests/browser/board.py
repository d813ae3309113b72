"""A board in the page: what a person does to it, and what a person sees."""

import contextlib

ROOT = ".dcn-board"
READ = """root => ({
  handles: [...root.querySelectorAll('.handle')].map(h => [+h.dataset.y, +h.dataset.x]),
  readout: Object.fromEntries([...root.querySelectorAll('.readout span')].map(
    s => [s.dataset.label, s.querySelector('b').textContent])),
  words: [...root.querySelectorAll('.overlay text')].map(t => t.textContent),
  circles: [...root.querySelectorAll('.overlay circle')].map(
    c => ['cy', 'cx'].map(name => +c.getAttribute(name))),
  note: root.querySelector('.note').textContent,
  error: root.querySelector('.error').textContent,
  answered: JSON.parse(root.dataset.answered),
})"""
SETTLED = """root => {
  const same = ([y, x], h) => +h.dataset.y === y && +h.dataset.x === x;
  const [places, options] = JSON.parse(root.dataset.answered);
  const chosen = ([name, choice]) => String(options[name]) === choice;
  return [...root.querySelectorAll('.handle')].every((h, i) => same(places[i], h)) &&
    [...root.querySelectorAll('input:checked')].every(r => chosen(r.dataset.choice.split(':')));
}"""


class PageBoard:
    """The only board of a page."""

    def __init__(self, page):
        self.page, self.root = page, page.locator(ROOT)

    def state(self):
        """What is shown, once Python has answered; its error, if it has one, is raised."""
        self.root.wait_for()
        self.page.wait_for_function(
            f"() => ({SETTLED})(document.querySelector('{ROOT}'))", timeout=20_000
        )
        state = self.root.evaluate(READ)
        if state["error"]:
            raise AssertionError(f"the board says: {state['error']}")
        return state

    def handle(self, i):
        return self.root.locator(f'[data-handle="{i}"]')

    def middle(self, i):
        box = self.handle(i).locator(".knob").bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def drag(self, i, right, down):
        """Handle i, by so many pixels of the screen, with the mouse and in small steps."""
        mouse = self.page.mouse
        x, y = self.middle(i)
        mouse.move(x, y)
        mouse.down()
        mouse.move(x + right, y + down, steps=12)
        mouse.up()
        return self.state()

    def press(self, i, *keys):
        self.handle(i).focus()
        for key in keys:
            self.page.keyboard.press(key)
        return self.state()

    def click(self, y, x, columns):
        """A pixel of a map of so many columns."""
        box = self.root.locator("image").bounding_box()
        pixel = box["width"] / columns
        self.page.mouse.click(box["x"] + (x + 0.5) * pixel, box["y"] + (y + 0.5) * pixel)
        return self.state()


@contextlib.contextmanager
def quiet(page):
    """No error in the console of the browser while the block runs."""
    said = []

    def listen(message):
        if message.type == "error":
            said.append(message.text)

    def fell(error):
        said.append(str(error))

    page.on("console", listen)
    page.on("pageerror", fell)
    try:
        yield said
    finally:
        page.remove_listener("console", listen)
        page.remove_listener("pageerror", fell)
    assert said == [], said
