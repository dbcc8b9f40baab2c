// The map of units: a dot a unit at its word. What is dragged over is listed in the table of all
// units; its place is kept in the address with the other filters.

const wordMap = readBlock("map-data");
const TURN = 2.399963; // the golden angle: dots of one word lie like the seeds of a sunflower

/** Where each word lies, and its category. */
const wordPlaces = new Map(wordMap ? wordMap.words.map((word, i) => {
  const digit = (at) => wordMap.letters.indexOf(wordMap.place[at]);
  const base = wordMap.letters.length;
  const value = (at) => (digit(at) * base + digit(at + 1)) / (base * base - 1);
  return [word, [value(4 * i), value(4 * i + 2), wordMap.category[i]]];
}) : []);

if (wordMap) {
  Units = class extends Units {
    constructor(data) {
      super(data);
      this.x = new Float32Array(this.length).fill(NaN);
      this.y = new Float32Array(this.length).fill(NaN);
      this.dot = new Float32Array(this.length);
      this.color = new Int32Array(this.length).fill(-1);
      const seeds = new Map();
      for (let row = 0; row < this.length; row += 1) {
        const found = this.explanation?.(row);
        const word = found ? found.words[0]?.[0] : this.concepts[this.concept[row]];
        const place = wordPlaces.get(word);
        if (!place || this.category[row] === DEAD) continue;
        const seed = seeds.get(word) ?? 0;
        seeds.set(word, seed + 1);
        const reach = 0.0035 * Math.sqrt(seed);
        this.x[row] = place[0] + reach * Math.cos(TURN * seed);
        this.y[row] = place[1] + reach * Math.sin(TURN * seed);
        this.dot[row] = found ? 1.2 + 4 * Math.max(0, found.r ?? 0) : 2.5;
        this.color[row] = (found ? found.explained : this.category[row] >= 0) ? place[2] : -1;
      }
    }

    filtered(rows, view) {
      const found = super.filtered(rows, view);
      if (!view.box) return found;
      const [left, top, right, bottom] = view.box.split(",").map(Number);
      return found.filter((row) => this.x[row] >= left && this.x[row] <= right && this.y[row] >= top && this.y[row] <= bottom);
    }
  };

  UnitTable = class extends UnitTable {
    build() {
      super.build();
      if (this.only === null) this.map = new MapOfUnits($(".word-map"), this);
    }

    refresh() {
      super.refresh();
      this.map?.show(this.view.box);
    }

    isFiltered() { return super.isFiltered() || Boolean(this.view.box); }

    params() {
      const params = super.params();
      if (this.view.box) params.set("box", this.view.box);
      return params;
    }

    read(params) {
      const box = params.get("box") ?? "";
      this.view.box = "";
      super.read(params);
      if (/^-?[\d.]+(,-?[\d.]+){3}$/.test(box)) {
        this.view.box = box;
        this.refresh();
      }
    }
  };
}

class MapOfUnits {
  constructor(root, table) {
    this.table = table;
    this.units = table.units;
    this.canvas = el("canvas", { role: "img", "aria-label": "Map of units by the meaning of their words; the table below lists the same units" });
    this.tip = el("p", { class: "tip", hidden: true });
    this.clear = el("button", { type: "button", class: "clear", hidden: true, onclick: () => table.set({ box: "", page: 1, open: [] }) }, "Clear the selection");
    root.replaceChildren(this.canvas, this.tip, this.clear);
    root.after(offerChart("Units by the meaning of their words", () => this.drawing(), () => this.rows()));
    this.box = "";
    this.canvas.addEventListener("pointerdown", (event) => this.start(event));
    this.canvas.addEventListener("pointermove", (event) => this.move(event));
    this.canvas.addEventListener("pointerup", () => this.end());
    this.canvas.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    for (const look of ["(prefers-color-scheme: dark)", "print"]) {
      matchMedia(look).addEventListener("change", () => { this.colors = null; this.draw(); });
    }
  }

  show(box) {
    this.clear.hidden = !box;
    if (box === this.box) return;
    this.box = box;
    this.draw();
  }

  /** Colours as the style sheet has them; to ask for them lays out the page, so they are kept. */
  readColors() {
    const probe = shape("svg", { width: 0, height: 0 });
    document.body.append(probe);
    const fillOf = (css) => {
      const rect = shape("rect", { class: "fill" });
      const group = shape("g", { class: css }, rect);
      probe.append(group);
      return getComputedStyle(rect).fill;
    };
    const found = this.units.categories.map(([, css]) => fillOf(css));
    found.off = fillOf("c-off");
    found.ink = getComputedStyle(document.body).color;
    found.paper = getComputedStyle(document.body).backgroundColor;
    probe.remove();
    return found;
  }

  get edges() {
    const { width, height } = this.canvas.getBoundingClientRect();
    return { width, height, pad: 14 };
  }

  /** Where a place of the map lies on a canvas with such edges. */
  at(x, y, { width, height, pad }) {
    return [pad + x * (width - 2 * pad), pad + y * (height - 2 * pad)];
  }

  draw() {
    const { edges } = this;
    const { width, height } = edges;
    if (!width) return;
    const ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    this.drawWith(pen, edges);
  }

  /** The map as the text of an SVG. */
  drawing() {
    const pen = new DrawingPen(this.canvas.getContext("2d"), this.edges);
    this.drawWith(pen, this.edges);
    return new XMLSerializer().serializeToString(pen.root);
  }

  /** Every unit with its word and its place. */
  rows() {
    const { units } = this;
    const shown = Array.from({ length: units.length }, (_, row) => row).filter((row) => !Number.isNaN(units.x[row]));
    return [["layer", "unit", "word", "r", "x", "y"], ...shown.map((row) => [units.layers[units.layer[row]].name, units.unit[row],
      wordOfRow(units, row), units.r?.[row] ?? "", units.x[row].toFixed(4), units.y[row].toFixed(4)])];
  }

  drawWith(pen, edges) {
    this.colors ??= this.readColors();
    const { units, colors } = this;
    const [left, top, right, bottom] = this.box ? this.box.split(",").map(Number) : [-9, -9, 9, 9];
    for (let row = 0; row < units.length; row += 1) {
      if (Number.isNaN(units.x[row])) continue;
      const [x, y] = this.at(units.x[row], units.y[row], edges);
      const inside = units.x[row] >= left && units.x[row] <= right && units.y[row] >= top && units.y[row] <= bottom;
      pen.globalAlpha = inside ? 0.85 : 0.15;
      pen.fillStyle = units.color[row] >= 0 ? colors[units.color[row]] : colors.off;
      pen.beginPath();
      pen.arc(x, y, units.dot[row], 0, 7);
      pen.fill();
    }
    pen.globalAlpha = 1;
    if (this.box) {
      const [x0, y0] = this.at(left, top, edges);
      const [x1, y1] = this.at(right, bottom, edges);
      pen.strokeStyle = colors.ink;
      pen.setLineDash([4, 3]);
      pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
    }
    this.drawWords(pen, edges);
  }

  /** The words of most units, as far as they do not cover each other. */
  drawWords(pen, edges) {
    const { colors } = this;
    this.counts ??= this.countWords();
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.setLineDash([]);
    const taken = [];
    for (const [word] of this.counts.slice(0, 90)) {
      const [x, y] = this.at(...wordPlaces.get(word).slice(0, 2), edges);
      const half = pen.measureText(word).width / 2 + 3;
      const middle = Math.min(Math.max(x, half), edges.width - half);
      const box = [middle - half, y - 16, middle + half, y - 2];
      if (taken.some((other) => box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1])) continue;
      taken.push(box);
      pen.lineWidth = 3;
      pen.strokeStyle = colors.paper;
      pen.strokeText(word, middle, y - 5);
      pen.fillStyle = colors.ink;
      pen.fillText(word, middle, y - 5);
    }
  }

  countWords() {
    const counts = new Map();
    for (let row = 0; row < this.units.length; row += 1) {
      if (this.units.color[row] < 0) continue;
      const word = wordOfRow(this.units, row);
      counts.set(word, (counts.get(word) ?? 0) + 1);
    }
    return [...counts].filter(([word]) => wordPlaces.has(word)).sort((a, b) => b[1] - a[1]);
  }

  placeOf(event) {
    const rect = this.canvas.getBoundingClientRect();
    const { width, height, pad } = this.edges;
    return [(event.clientX - rect.left - pad) / (width - 2 * pad), (event.clientY - rect.top - pad) / (height - 2 * pad)];
  }

  start(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.from = this.placeOf(event);
  }

  move(event) {
    const [x, y] = this.placeOf(event);
    if (!this.from) {
      this.point(x, y);
      return;
    }
    this.tip.hidden = true;
    const bounds = [Math.min(this.from[0], x), Math.min(this.from[1], y), Math.max(this.from[0], x), Math.max(this.from[1], y)];
    this.box = bounds.map((value) => value.toFixed(3)).join(",");
    this.pending ??= requestAnimationFrame(() => { this.pending = null; this.draw(); });
  }

  end() {
    if (!this.from) return;
    this.from = null;
    const [left, top, right, bottom] = this.box.split(",").map(Number);
    const box = this.box && right - left > 0.01 && bottom - top > 0.01 ? this.box : "";
    this.box = null; // so that it is drawn anew
    this.table.set({ box, page: 1, open: [] });
  }

  /** Say what lies under the pointer. */
  point(x, y) {
    const { units } = this;
    let best = -1;
    let least = 0.012 ** 2;
    for (let row = 0; row < units.length; row += 1) {
      const apart = (units.x[row] - x) ** 2 + (units.y[row] - y) ** 2;
      if (apart < least) [best, least] = [row, apart];
    }
    this.tip.hidden = best < 0;
    if (best < 0) return;
    const r = units.r ? `, r ${fixed(units.r[best], 2)}` : "";
    this.tip.textContent = `${wordOfRow(units, best)}: unit ${units.unit[best]} of ${units.layers[units.layer[best]].name}${r}`;
  }
}

/** What the map asks of a canvas, drawn as an SVG. */
class DrawingPen {
  constructor(canvas, { width, height }) {
    this.canvas = canvas;
    this.root = shape("svg", { xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}` },
      shape("rect", { width, height, fill: getComputedStyle(document.body).backgroundColor }));
  }

  beginPath() {}

  setLineDash(dashes) { this.dashes = dashes.join(" "); }

  measureText(text) { return this.canvas.measureText(text); }

  arc(cx, cy, r) { this.dot = { cx, cy, r }; }

  fill() { this.root.append(shape("circle", { ...this.dot, fill: this.fillStyle, "fill-opacity": this.globalAlpha })); }

  strokeRect(x, y, width, height) {
    this.root.append(shape("rect", { x, y, width, height, fill: "none", stroke: this.strokeStyle, "stroke-dasharray": this.dashes }));
  }

  fillText(text, x, y) { this.write(text, { x, y, fill: this.fillStyle }); }

  strokeText(text, x, y) { this.write(text, { x, y, fill: "none", stroke: this.strokeStyle, "stroke-width": this.lineWidth }); }

  write(text, look) {
    this.root.append(shape("text", { ...look, "font-size": 11, "font-family": "system-ui, sans-serif", "text-anchor": "middle" }, text));
  }
}

function wordOfRow(units, row) {
  return units.explanation ? units.explanation(row).words[0]?.[0] : units.concepts[units.concept[row]];
}
