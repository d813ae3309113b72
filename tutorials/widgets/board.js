// The front end of every board. It draws what Python sends and reports where the handles are;
// it computes nothing of what is shown.
//
//   fixed             title, view, limits, image, ticks, handles (their looks), options, ...
//   handles, options  the state, written here and read by Python
//   scene             shapes, readout and note, or error: Python's answer to `scene.handles`

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 640, LEFT = 46, RIGHT = 10, TOP = 26, BOTTOM = 38; // as in still.py
const KEYS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const PATIENCE = 5000; // milliseconds until a silent kernel is mentioned
const SILENT = "The kernel does not answer. Is it busy, or not running?";

function put(parent, node, attributes, text) {
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return parent.appendChild(node);
}
const svg = (parent, name, attributes = {}, text = "") =>
  put(parent, document.createElementNS(NS, name), attributes, text);
const html = (parent, name, attributes = {}, text = "") =>
  put(parent, document.createElement(name), attributes, text);

// Pixels of the map to pixels of the picture, and back.
function scaling([y0, x0, y1, x1]) {
  const scale = (WIDTH - LEFT - RIGHT) / (x1 - x0);
  return {
    scale,
    height: TOP + BOTTOM + scale * (y1 - y0),
    X: (x) => LEFT + scale * (x - x0),
    Y: (y) => TOP + scale * (y - y0),
    place: (X, Y) => [y0 + (Y - TOP) / scale, x0 + (X - LEFT) / scale],
  };
}

function drawAxes(g, { ticks, title }, at) {
  const bottom = at.height - BOTTOM;
  const centred = { "text-anchor": "middle" };
  const middle = (list) => (list[0] + list.at(-1)) / 2;
  for (const t of ticks.x) {
    svg(g, "line", { x1: at.X(t), x2: at.X(t), y1: bottom, y2: bottom + 4 });
    svg(g, "text", { x: at.X(t), y: bottom + 12, ...centred }, t);
  }
  for (const t of ticks.y) {
    svg(g, "line", { x1: LEFT - 4, x2: LEFT, y1: at.Y(t), y2: at.Y(t) });
    svg(g, "text", { x: LEFT - 7, y: at.Y(t), "text-anchor": "end" }, t);
  }
  svg(g, "text", { x: at.X(middle(ticks.x)), y: at.height - 9, ...centred }, "x (pixels)");
  const upwards = `translate(10 ${at.Y(middle(ticks.y))}) rotate(-90)`;
  svg(g, "text", { transform: upwards, ...centred }, "y (pixels)");
  svg(g, "text", { x: LEFT, y: 12, class: "title" }, title);
}

const DRAW = {
  dots(g, shape, at) {
    const look = shape.hollow
      ? { fill: "none", stroke: shape.colour, "stroke-width": 2 }
      : { fill: shape.colour, stroke: "#fff", "stroke-width": 0.7 };
    for (const [y, x] of shape.points)
      svg(g, "circle", { cx: at.X(x), cy: at.Y(y), r: shape.size / 2, ...look });
  },
  line(g, shape, at) {
    const points = shape.points.map(([y, x]) => `${at.X(x)},${at.Y(y)}`).join(" ");
    const look = { fill: "none", stroke: shape.colour, "stroke-width": shape.width };
    if (shape.dashed) look["stroke-dasharray"] = "5 4";
    svg(g, "polyline", { points, ...look });
  },
  arrows(g, shape, at) {
    for (const [y0, x0, y1, x1] of shape.points) {
      const [dx, dy] = [at.scale * (x1 - x0), at.scale * (y1 - y0)];
      const length = Math.hypot(dx, dy);
      if (length < 1) continue;
      const [u, v, stop] = [dx / length, dy / length, Math.max(length - 12, length / 2)];
      const [x2, y2] = [at.X(x0) + u * stop, at.Y(y0) + v * stop];
      const ends = { x1: at.X(x0), y1: at.Y(y0), x2, y2 };
      svg(g, "line", { ...ends, stroke: shape.colour, "stroke-width": 2 });
      const corner = ([a, b]) => `${x2 + a * u - b * v},${y2 + a * v + b * u}`;
      const points = [[8, 0], [0, 4], [0, -4]].map(corner).join(" ");
      svg(g, "polygon", { points, fill: shape.colour });
    }
  },
  boxes(g, shape, at) {
    const look = { fill: shape.fill, stroke: shape.colour, "stroke-width": shape.width };
    for (const [y, x, h, w] of shape.points) {
      const size = { width: at.scale * w, height: at.scale * h };
      svg(g, "rect", { x: at.X(x), y: at.Y(y), ...size, ...look });
    }
  },
  texts(g, shape, at) {
    const look = { "text-anchor": shape.anchor, "font-size": shape.size, fill: shape.colour };
    if (shape.bold) look["font-weight"] = 700;
    shape.points.forEach(([y, x], i) => {
      svg(g, "text", { x: at.X(x), y: at.Y(y), ...look }, shape.words[i]);
    });
  },
};

class View {
  constructor(model, el) {
    this.model = model;
    this.fixed = model.get("fixed");
    this.at = scaling(this.fixed.view);
    this.name = `board-${Math.random()}`; // of this view: a notebook may show a board twice
    this.root = html(el, "div", { class: "dcn-board", "data-lm-suppress-shortcuts": "true" });
    this.drawPicture();
    const below = (name, attributes = {}) => html(this.root, "div", { class: name, ...attributes });
    this.controls = below("controls");
    this.readout = below("readout", { "aria-live": "polite" });
    this.note = below("note");
    this.failure = below("error", { role: "alert" });
    below("help").textContent = this.fixed.help;
    Object.entries(this.fixed.options).forEach((option) => this.addOption(...option));
    const again = html(this.controls, "button", { type: "button" }, "Start again");
    again.addEventListener("click", () => this.reset());
  }

  drawPicture() {
    const { at, fixed } = this;
    const { height, width, url } = fixed.image;
    const box = { viewBox: `0 0 ${WIDTH} ${at.height}`, role: "group", "aria-label": fixed.title };
    this.picture = svg(this.root, "svg", box);
    const seen = { x: LEFT, y: TOP, width: WIDTH - LEFT - RIGHT, height: at.height - TOP - BOTTOM };
    svg(svg(this.picture, "clipPath", { id: this.name }), "rect", seen);
    const map = svg(this.picture, "g", { class: fixed.click ? "map clickable" : "map" });
    const place = { x: at.X(-0.5), y: at.Y(-0.5), preserveAspectRatio: "none" };
    svg(map, "image", { href: url, width: at.scale * width, height: at.scale * height, ...place });
    drawAxes(svg(this.picture, "g", { class: "axis" }), fixed, at);
    const clip = { "clip-path": `url(#${this.name})`, "pointer-events": "none" };
    this.overlay = svg(this.picture, "g", { class: "overlay", ...clip });
    if (fixed.click) map.addEventListener("click", (event) => this.move(0, ...this.place(event)));
    const knobs = svg(this.picture, "g", { class: "handles" });
    this.handles = fixed.handles.map((look, i) => this.addHandle(knobs, look, i));
  }

  addHandle(knobs, look, i) {
    const g = svg(knobs, "g", { class: "handle", tabindex: 0, role: "button", "data-handle": i });
    svg(g, "circle", { class: "ring", r: 13 });
    svg(g, "circle", { class: "knob", r: 9, fill: look.colour });
    svg(g, "text", {}, look.text);
    let grip = null; // from where the pointer is to the place of the handle
    g.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      const [[y, x], [py, px]] = [this.model.get("handles")[i], this.place(event)];
      grip = [y - py, x - px];
      g.setPointerCapture(event.pointerId);
      g.classList.add("held");
      g.focus();
      event.preventDefault();
    });
    g.addEventListener("pointermove", (event) => {
      const [y, x] = this.place(event);
      if (grip) this.move(i, y + grip[0], x + grip[1]);
    });
    const release = () => {
      grip = null;
      g.classList.remove("held");
    };
    for (const end of ["pointerup", "pointercancel"]) g.addEventListener(end, release);
    g.addEventListener("keydown", (event) => this.press(event, i));
    return g;
  }

  addOption(option, choices) {
    const set = html(this.controls, "fieldset");
    html(set, "legend", {}, option);
    for (const choice of choices) {
      const label = html(set, "label");
      const radio = html(label, "input", { type: "radio", name: `${this.name}-${option}` });
      radio.dataset.choice = `${option}:${choice}`;
      label.append(` ${choice}`);
      radio.addEventListener("change", () => {
        this.model.set("options", { ...this.model.get("options"), [option]: choice });
        this.send();
      });
    }
  }

  place(event) {
    const box = this.picture.getBoundingClientRect();
    const zoom = WIDTH / box.width;
    return this.at.place((event.clientX - box.left) * zoom, (event.clientY - box.top) * zoom);
  }

  step(i) {
    return this.fixed.handles[i].whole ? 1 : this.fixed.snap;
  }

  press(event, i) {
    const to = KEYS[event.key];
    if (!to) return;
    event.preventDefault();
    event.stopPropagation();
    const [[y, x], step] = [this.model.get("handles")[i], this.step(i)];
    const by = event.shiftKey || step === 1 ? step : 5 * step;
    this.move(i, y + to[0] * by, x + to[1] * by);
  }

  move(i, y, x) {
    const { image, handles, limits, carry } = this.fixed;
    const within = handles[i].whole ? [0, 0, image.height - 1, image.width - 1] : limits;
    const step = this.step(i);
    const clamped = (v, low, high) =>
      Math.min(Math.max(Number((Math.round(v / step) * step).toFixed(6)), low), high);
    const to = [clamped(y, within[0], within[2]), clamped(x, within[1], within[3])];
    const from = this.model.get("handles");
    const by = [to[0] - from[i][0], to[1] - from[i][1]];
    const along = carry && i === 0 ? by : [0, 0];
    const moved = from.map(([a, b], k) => (k === i ? to : [a + along[0], b + along[1]]));
    this.model.set("handles", moved);
    this.send();
  }

  reset() {
    const first = Object.entries(this.fixed.options).map(([name, choices]) => [name, choices[0]]);
    this.model.set("handles", this.fixed.handles.map(({ y, x }) => [y, x]));
    this.model.set("options", Object.fromEntries(first));
    this.send();
  }

  send() {
    const state = JSON.stringify([this.model.get("handles"), this.model.get("options")]);
    this.model.save_changes();
    clearTimeout(this.waiting);
    if (state === this.root.dataset.answered) return; // nothing has changed
    this.waiting = setTimeout(() => (this.failure.textContent = SILENT), PATIENCE);
  }

  showState() {
    const options = this.model.get("options");
    this.model.get("handles").forEach(([y, x], i) => {
      const [g, { label }] = [this.handles[i], this.fixed.handles[i]];
      g.setAttribute("transform", `translate(${this.at.X(x)} ${this.at.Y(y)})`);
      const where = `y ${y.toFixed(2)}, x ${x.toFixed(2)}`;
      g.setAttribute("aria-label", `${label}: ${where}; the arrow keys move it`);
      Object.assign(g.dataset, { y, x });
    });
    for (const radio of this.controls.querySelectorAll("input")) {
      const [name, choice] = radio.dataset.choice.split(":");
      radio.checked = String(options[name]) === choice;
    }
  }

  showScene() {
    const { handles, options, error, shapes, readout, note } = this.model.get("scene");
    clearTimeout(this.waiting);
    this.failure.textContent = error ?? "";
    this.root.dataset.answered = JSON.stringify([handles, options]);
    if (error) return;
    this.overlay.replaceChildren();
    for (const shape of shapes)
      DRAW[shape.kind](svg(this.overlay, "g", { "data-kind": shape.kind }), shape, this.at);
    this.readout.replaceChildren();
    for (const [label, value] of readout)
      html(html(this.readout, "span", { "data-label": label }, label), "b", {}, value);
    this.note.textContent = note;
  }
}

function render({ model, el }) {
  const view = new View(model, el);
  const [state, scene] = [() => view.showState(), () => view.showScene()];
  const heard = { "change:handles": state, "change:options": state, "change:scene": scene };
  for (const [event, act] of Object.entries(heard)) model.on(event, act);
  state();
  scene();
  return () => {
    clearTimeout(view.waiting);
    for (const [event, act] of Object.entries(heard)) model.off(event, act);
  };
}

export default { render };
