// The diagnosis of a classifier: heatmaps of the images one chooses, by mouse and keyboard, the
// concepts that differ, the images themselves. What is chosen is in the address.

const debug = readBlock("debug-data");
const debugPictures = readBlock("thumbnail-data") ?? {};
const CONCEPTS = debug.concepts.length;
const LEVEL_NAMES = { encoder: "Encoder", vlm: "VLM" };
const LEAD = debug.level;
const OTHER = LEAD === "encoder" ? "vlm" : "encoder";
const LEVEL_OF = { encoder: "the encoder", vlm: "the VLM" };
const VERDICTS = ["head", "encoder", "undetermined"];
const pairs = debug.pairs.map(([truth, predicted, ...shares]) => ({ truth, predicted, shares, errors: shares[0] + shares[1] + shares[2] }));
const predictedClasses = [...new Set(pairs.map(({ predicted }) => predicted))].sort((a, b) => a - b);

// -- shares and their intervals, as profiler.profile.quality and profiler.concepts.heatmap compute them -----------------

const Z = 1.959963984540054; // 95 %

/** Wilson's interval of a share of n. */
function wilson(share, n) {
  const z2 = Z * Z;
  const centre = share + z2 / (2 * n);
  const half = Math.sqrt(z2 * ((share * (1 - share)) / n + z2 / (4 * n * n)));
  const scale = 1 + z2 / n;
  return [Math.max(0, (centre - half) / scale), Math.min(1, (centre + half) / scale)];
}

/** Newcombe's interval of the difference of two shares. */
function newcombe(p, n, q, m) {
  const [lowP, highP] = wilson(p, n);
  const [lowQ, highQ] = wilson(q, m);
  return [p - q - Math.hypot(p - lowP, highQ - q), p - q + Math.hypot(highP - p, q - lowQ)];
}

const percent = (share, digits = 0) => `${fixed(100 * share, digits)}\u202f%`;
const points = (share) => { const text = fixed(100 * share, 0); return Number(text.replace("−", "-")) > 0 ? `+${text}` : text; };
/** Small shares keep a digit, so that something does not read as nothing. */
const confidence = (share) => (share > 0 && share < 0.0005 ? "<0.1\u202f%" : percent(share, share < 0.1 || share > 0.9 ? 1 : 0));

// -- heatmaps ------------------------------------------------------------------------------------------

const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

function integers(text, width) {
  const bytes = bytesOf(text);
  return width === 2 ? Uint16Array.from({ length: bytes.length / 2 }, (_, i) => bytes[2 * i] + 256 * bytes[2 * i + 1]) : bytes;
}

/** Place of the free cell i < j. */
const cellAt = (i, j) => (i * (2 * CONCEPTS - i - 1)) / 2 + j - i - 1;

class Heat {
  constructor({ n, of, c, w, t }) {
    this.count = n;
    this.of = of;
    this.cells = integers(c, w);
    this.ties = t ? integers(t, w) : null;
  }

  /** Share of the images in which i is stronger than j; ties count half. */
  mean(i, j) {
    if (i === j) return 0.5;
    const share = this.cells[cellAt(Math.min(i, j), Math.max(i, j))] / this.of;
    return i < j ? share : 1 - share;
  }

  interval(i, j) { return wilson(this.mean(i, j), this.count); }

  /** Images in which one of the two is the stronger. */
  decided(i, j) {
    return this.ties ? Math.round(this.count * (1 - (2 * this.ties[cellAt(Math.min(i, j), Math.max(i, j))]) / this.of)) : this.count;
  }

  few(i, j) { return this.decided(i, j) < debug.few; }
}

class Differential {
  constructor(right, wrong, marked) {
    this.right = right;
    this.wrong = wrong;
    this.bits = bytesOf(marked);
  }

  mean(i, j) { return this.right.mean(i, j) - this.wrong.mean(i, j); }

  interval(i, j) { return newcombe(this.right.mean(i, j), this.right.count, this.wrong.mean(i, j), this.wrong.count); }

  few(i, j) { return this.right.few(i, j) || this.wrong.few(i, j); }

  significant(i, j) {
    if (i === j) return false;
    const at = cellAt(Math.min(i, j), Math.max(i, j));
    return Boolean((this.bits[at >> 3] >> (7 - (at & 7))) & 1);
  }

  get most() {
    let most = 0;
    for (let i = 0; i < CONCEPTS; i += 1) for (let j = i + 1; j < CONCEPTS; j += 1) most = Math.max(most, Math.abs(this.mean(i, j)));
    return most;
  }
}

/** One image: who is stronger than whom. */
class SingleHeat {
  constructor(ranks) { this.ranks = integers(ranks, CONCEPTS < 256 ? 1 : 2); }

  mean(i, j) { return 0.5 + 0.5 * Math.sign(this.ranks[i] - this.ranks[j]); }

  few() { return false; }
}

// -- views: which predictions are looked at --------------------------------------------------------------------

class View {
  constructor(truth, predicted) {
    this.truth = truth;
    this.predicted = predicted;
    const data = debug.views[`${truth ?? ""},${predicted ?? ""}`];
    this.known = data !== undefined;
    this.pairs = pairs.filter((pair) => (truth === null || pair.truth === truth) && (predicted === null || pair.predicted === predicted));
    this.data = data ?? { shares: [] };
    if (!this.known) this.data.shares[debug.rule] = [0, 1, 2].map((verdict) => this.pairs.reduce((sum, { shares }) => sum + shares[verdict], 0));
    // Correct predictions are kept under the true class alone: it is the predicted one too.
    const name = truth ?? predicted ?? "";
    this.maps = {};
    for (const level of Object.keys(LEVEL_NAMES)) {
      const own = this.data[level] ?? {};
      const right = debug.rights[level][name];
      const maps = { right: right && this.known ? new Heat(right) : null, wrong: own.wrong ? new Heat(own.wrong) : null, differential: null };
      if (own.marked !== undefined && maps.right && maps.wrong) maps.differential = new Differential(maps.right, maps.wrong, own.marked);
      this.maps[level] = maps;
    }
    const most = Math.max(0, ...Object.values(this.maps).map(({ differential }) => differential?.most ?? 0));
    this.limit = [0.1, 0.25, 0.5, 0.75].find((nice) => most <= nice) ?? 1;
  }

  get title() {
    const wrong = this.pairs.reduce((sum, { errors }) => sum + errors, 0);
    const counts = `${count(wrong)} incorrect${this.known ? `, ${count(this.maps.encoder.right?.count ?? 0)} correct` : ""}`;
    if (this.truth !== null && this.predicted !== null) return `${debug.classes[this.truth]} classified as ${debug.classes[this.predicted]}: ${plural(wrong, "image")}`;
    if (this.truth !== null) return `Images of ${debug.classes[this.truth]}: ${counts}`;
    if (this.predicted !== null) return `Predictions “${debug.classes[this.predicted]}”: ${counts}`;
    return `All predictions: ${counts}`;
  }

  /** What the correct and the incorrect predictions are, for the titles of the heatmaps. */
  get sides() {
    const [truth, predicted] = [this.truth, this.predicted].map((label) => (label === null ? null : debug.classes[label]));
    if (truth !== null) return [`${truth}, correct`, predicted === null ? `${truth}, incorrect` : `classified as ${predicted}`];
    if (predicted !== null) return [`“${predicted}”, correct`, `“${predicted}”, incorrect`];
    return ["Correct predictions", "Incorrect predictions"];
  }

  /** Why there is no differential; empty where there is one. */
  get missing() {
    const { right, wrong, differential } = this.maps.encoder;
    if (differential) return "";
    if (!this.known) return "There are no heatmaps for this choice: the page has them only for the classes and confusions with most errors.";
    const of = this.truth !== null ? `image of ${debug.classes[this.truth]}` : "image";
    if (!wrong && this.predicted !== null && this.truth === null) return `No image was incorrectly classified as ${debug.classes[this.predicted]}, so there is no differential.`;
    if (!wrong) return `No ${of} was misclassified, so there is no differential: nothing to compare the correct predictions with.`;
    if (!right && this.predicted !== null && this.truth === null) return `No image of ${debug.classes[this.predicted]} was classified correctly, so there is no differential.`;
    return `No ${of} was classified correctly, so there is no differential: nothing to compare the incorrect predictions with.`;
  }

  /** The misclassified images at hand: those that have a picture first, most confident ones first. */
  get images() {
    const found = [];
    for (const { truth, predicted } of this.pairs) {
      const data = debug.views[`${truth},${predicted}`];
      for (const [image, name, sure, trueSure, verdicts, ranks, strengths] of data?.images ?? []) found.push({ image, name, sure, trueSure, verdicts, ranks, strengths, truth, predicted });
    }
    const pictured = ({ image }) => Number(debugPictures[image] !== undefined);
    return found.sort((a, b) => pictured(b) - pictured(a) || b.sure - a.sure || a.image - b.image);
  }
}

// -- drawing --------------------------------------------------------------------------------------------

const HALF = (debug.diverging.length - 1) / 2;
const shades = {
  diverging: (value, limit) => debug.diverging[Math.round(HALF + HALF * Math.max(-1, Math.min(1, value / limit)))],
  sequential: (value) => debug.sequential[Math.round(value * (debug.sequential.length - 1))],
};

const pen = document.createElement("canvas").getContext("2d");
function textWidth(text, size) {
  pen.font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
  return pen.measureText(text).width;
}

function shortened(text, width, size) {
  if (textWidth(text, size) <= width) return text;
  let end = text.length;
  while (end > 1 && textWidth(`${text.slice(0, end)}…`, size) > width) end -= 1;
  return `${text.slice(0, end)}…`;
}

/** Colours from end to end with what they mean. */
function scaleKey(kind, left, right) {
  const colours = debug[kind];
  return el("span", { class: "scale" }, left,
    shape("svg", { width: 110, height: 12, "aria-hidden": "true" }, ...colours.map((fill, i) => shape("rect", { x: (110 / colours.length) * i, width: 110 / colours.length + 0.5, height: 12, fill }))),
    right);
}

const GAP = 18;
const READABLE = 9.5; // pixels a cell, below which names are left out
const SMALLEST = 6; // concepts in a window

/** Heatmaps beside each other, over the same concepts, with one cell pointed at in all of them. */
class Maps {
  /** `said` is told which cell is pointed at; `kept` that it, or the window, shall stay. */
  constructor({ said, kept = () => {}, wide = 26 }) {
    this.root = el("div", { class: "maps" });
    this.said = said;
    this.kept = kept;
    this.wide = wide;
    this.window = { row: 0, column: 0, size: CONCEPTS };
    this.at = null;
    this.panels = [];
    this.width = 0;
    new ResizeObserver(() => { if (Math.abs(this.root.clientWidth - this.width) > 1) this.draw(); }).observe(this.root);
  }

  /** Rows of panels: { title, note, heat, colour, words }; `heat` may be null, then `note` stands alone. */
  show(rows) {
    this.rows = rows;
    this.draw();
  }

  get zoomed() { return this.window.size < CONCEPTS; }

  zoom(size) {
    const { row, column } = this.at ?? { row: this.window.row + this.window.size / 2, column: this.window.column + this.window.size / 2 };
    this.window.size = Math.max(Math.min(SMALLEST, CONCEPTS), Math.min(CONCEPTS, Math.round(size)));
    const start = (centre) => Math.max(0, Math.min(CONCEPTS - this.window.size, Math.round(centre - this.window.size / 2)));
    Object.assign(this.window, { row: start(row), column: start(column) });
    this.draw();
    this.kept();
  }

  /** Put a window in sight of the cell pointed at. */
  follow() {
    const { size } = this.window;
    const next = { ...this.window };
    for (const axis of ["row", "column"]) next[axis] = Math.max(Math.min(next[axis], this.at[axis]), this.at[axis] - size + 1);
    if (next.row !== this.window.row || next.column !== this.window.column) {
      this.window = next;
      this.draw();
    }
  }

  layout(columns) {
    const { size } = this.window;
    const width = this.root.clientWidth;
    const beside = columns > 1 && width >= 680;
    const fit = (label) => Math.min(this.wide, beside ? (width - label - GAP * (columns - 1)) / columns / size : (width - label - 2) / size);
    const names = [...debug.concepts.slice(this.window.row, this.window.row + size), ...debug.concepts.slice(this.window.column, this.window.column + size)];
    const longest = Math.min(beside ? 140 : 104, Math.max(...names.map((name) => textWidth(name, 12))) + 8);
    const named = fit(longest) >= READABLE;
    const label = named ? longest : 4;
    const cell = fit(label);
    return { beside, label, cell, named, font: Math.min(12, Math.max(READABLE, 0.95 * cell)), width };
  }

  draw() {
    if (!this.rows || !this.root.clientWidth) return;
    this.width = this.root.clientWidth;
    const focused = this.panels.findIndex(({ box }) => box === document.activeElement);
    this.panels = [];
    const columns = Math.max(...this.rows.map((row) => row.length));
    const layout = this.layout(columns);
    this.named = layout.named;
    this.root.classList.toggle("beside", layout.beside);
    this.root.replaceChildren(...this.rows.map((row) => el("div", { class: "map-row" },
      ...row.map((panel) => this.figure(panel, layout, !layout.beside || panel === row.find(({ heat }) => heat))))));
    if (focused >= 0) this.panels[focused]?.box.focus({ preventScroll: true });
    this.point(this.at, false);
  }

  figure(panel, layout, labelled) {
    const { cell, font, named } = layout;
    const { size, row: top, column: left } = this.window;
    const side = cell * size;
    const x0 = labelled ? layout.label : 0;
    const caption = el("figcaption", {}, el("b", {}, panel.title), panel.heat ? el("span", {}, panel.note) : null);
    if (!panel.heat) return el("figure", { class: "map-figure absent-map" }, caption, el("p", { class: "note" }, panel.note));
    const y0 = layout.label;
    const paths = new Map();
    let few = "";
    const marks = [];
    for (let r = 0; r < size; r += 1) {
      for (let c = 0; c < size; c += 1) {
        const [i, j] = [top + r, left + c];
        if (i === j) continue;
        const colour = panel.colour(panel.heat.mean(i, j));
        paths.set(colour, `${paths.get(colour) ?? ""}M${c} ${r}h1v1h-1z`);
        if (panel.heat.few(i, j)) few += `M${x0 + c * cell} ${y0 + r * cell}h${cell}v${cell}h${-cell}z`;
        if (panel.heat.significant?.(i, j)) marks.push([x0 + (c + 0.5) * cell, y0 + (r + 0.5) * cell]);
      }
    }
    const cells = shape("g", { transform: `translate(${x0} ${y0}) scale(${cell})`, "shape-rendering": "crispEdges" },
      ...[...paths].map(([fill, d]) => shape("path", { fill, d })));
    const here = shape("rect", { class: "here", width: cell, height: cell, visibility: "hidden" });
    const labels = { row: [], column: [] };
    if (named) {
      for (let k = 0; k < size; k += 1) {
        const place = (k + 0.5) * cell + font * 0.35;
        if (labelled) labels.row.push(shape("text", { class: "end", x: x0 - 5, y: y0 + place, "font-size": font }, shortened(debug.concepts[top + k], layout.label - 6, font)));
        labels.column.push(shape("text", { class: "start", transform: `translate(${x0 + place} ${y0 - 5}) rotate(-90)`, "font-size": font }, shortened(debug.concepts[left + k], layout.label - 6, font)));
      }
    }
    const dot = Math.max(0.6, Math.min(2.6, cell * 0.17));
    const svg = shape("svg", { width: x0 + side, height: y0 + side, viewBox: `0 0 ${x0 + side} ${y0 + side}`, role: "img", "aria-label": `${panel.title}, ${panel.words}` },
      shape("rect", { class: "ground", x: x0, y: y0, width: side, height: side }), cells,
      ...(few ? [shape("path", { class: "few", d: few, fill: "url(#hatch)" })] : []),
      ...marks.map(([cx, cy]) => shape("circle", { class: "significant", cx, cy, r: dot })),
      ...labels.row, ...labels.column, here);
    const box = el("div", { class: "map-box", tabindex: 0, role: "region", "aria-label": `${panel.title}. Arrow keys move from cell to cell${CONCEPTS > SMALLEST ? ", plus and minus zoom" : ""}.` }, svg);
    const found = { box, here, labels, x0, y0, cell };
    this.panels.push(found);
    const cellOf = (event) => {
      const frame = svg.getBoundingClientRect();
      const scale = (x0 + side) / frame.width; // on paper it may be smaller
      const [c, r] = [((event.clientX - frame.left) * scale - x0) / cell, ((event.clientY - frame.top) * scale - y0) / cell].map(Math.floor);
      return r >= 0 && c >= 0 && r < size && c < size ? { row: top + r, column: left + c } : null;
    };
    box.addEventListener("mousemove", (event) => { const at = cellOf(event); if (at) this.point(at, false); });
    box.addEventListener("click", (event) => { const at = cellOf(event); if (at) this.point(at, true); });
    box.addEventListener("dblclick", (event) => { const at = cellOf(event); if (at) { this.at = at; this.zoom(this.window.size / 2); } });
    box.addEventListener("focus", () => { if (!this.at) this.point({ row: top, column: Math.min(left + 1, CONCEPTS - 1) }, false); });
    box.addEventListener("keydown", (event) => this.key(event));
    return el("figure", { class: "map-figure" }, caption, box);
  }

  key(event) {
    const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key] ?? [0, 0];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if ((event.key === "+" || event.key === "-") && CONCEPTS > SMALLEST) {
      this.zoom(event.key === "+" ? this.window.size / 1.6 : this.window.size * 1.6);
    } else if (down || right) {
      const step = (value, by) => Math.max(0, Math.min(CONCEPTS - 1, value + by));
      this.at = { row: step(this.at.row, down), column: step(this.at.column, right) };
      this.follow();
      this.point(this.at, true);
    } else return;
    event.preventDefault();
  }

  /** Mark a cell in all maps and say what it holds; `keep` puts it into the address. */
  point(at, keep) {
    this.at = at;
    for (const { here, labels, x0, y0, cell } of this.panels) {
      const [r, c] = at ? [at.row - this.window.row, at.column - this.window.column] : [-1, -1];
      const seen = r >= 0 && c >= 0 && r < this.window.size && c < this.window.size;
      here.setAttribute("visibility", seen ? "visible" : "hidden");
      here.setAttribute("x", x0 + c * cell);
      here.setAttribute("y", y0 + r * cell);
      labels.row.forEach((text, k) => text.classList.toggle("pointed", k === r));
      labels.column.forEach((text, k) => text.classList.toggle("pointed", k === c));
    }
    this.said(at);
    if (keep) this.kept();
  }
}

// -- the explorer ---------------------------------------------------------------------------------------------

const IMAGES_SHOWN = 12;
const FINDINGS_SHOWN = 6;

class Explorer {
  constructor(root) {
    this.root = root;
    this.state = { truth: null, predicted: null, level: LEAD, image: null, more: false, pictures: false };
    this.build();
  }

  build() {
    const select = (name) => el("select", { onchange: (event) => this.set({ [name]: event.target.value === "" ? null : Number(event.target.value), image: null, more: false, pictures: false }) });
    this.truth = select("truth");
    this.predicted = select("predicted");
    this.levels = el("fieldset", { class: "levels" }, el("legend", {}, "Concepts at the level of"),
      ...[...Object.entries(LEVEL_OF), ["both", "both"]].map(([value, text]) => el("label", {}, el("input", { type: "radio", name: "level", value, onchange: () => this.set({ level: value }) }), text)));
    this.title = el("h3", { role: "status" });
    this.told = el("div", { class: "told-of" });
    this.shares = el("div", { class: "shares-of" });
    this.findings = el("div", { class: "findings" });
    this.readout = el("div", { class: "readout map-readout", role: "status" });
    this.maps = new Maps({ said: (at) => this.say(at), kept: () => this.write() });
    this.keys = el("p", { class: "keys" });
    const zoom = (text, label, by) => el("button", { type: "button", "aria-label": label, title: label, onclick: () => this.maps.zoom(by(this.maps.window.size)) }, text);
    this.zooms = CONCEPTS > SMALLEST ? el("div", { class: "zooms", role: "group", "aria-label": "Zoom of the heatmaps" },
      zoom("+", "Zoom in", (size) => size / 1.6), zoom("−", "Zoom out", (size) => size * 1.6), zoom("all", "Show all concepts", () => CONCEPTS), this.zoomNote = el("span", { class: "note" })) : null;
    this.gallery = el("div", { class: "wrong-images" });
    this.single = el("div", { class: "single", hidden: true });
    this.singleReadout = el("p", { class: "readout", role: "status" });
    this.singleMaps = new Maps({ said: (at) => this.saySingle(at), wide: 18 });
    this.right = el("div", { class: "right-images" });
    this.root.append(
      el("div", { class: "controls", role: "search", "aria-label": "Choose images" },
        el("label", {}, "True class", this.truth), el("label", {}, "Predicted class", this.predicted), this.levels),
      this.title, this.told, this.shares, this.findings,
      el("div", { class: "heatmaps" }, el("h4", {}, "Heatmaps"), ...(this.zooms ? [this.zooms] : []), this.keys, this.maps.root, this.readout),
      this.gallery, this.single, this.right,
    );
    this.refresh();
  }

  set(change) {
    Object.assign(this.state, change);
    this.refresh();
    this.write();
  }

  // -- the address

  write() {
    const params = new URLSearchParams();
    const { truth, predicted, level, image } = this.state;
    if (truth !== null) params.set("true", debug.classes[truth]);
    if (predicted !== null) params.set("predicted", debug.classes[predicted]);
    if (level !== LEAD) params.set("level", level);
    if (image !== null) params.set("image", image);
    const { at, window: { row, column, size } } = this.maps;
    if (at) { params.set("row", debug.concepts[at.row]); params.set("column", debug.concepts[at.column]); }
    if (this.maps.zoomed) params.set("window", `${row},${column},${size}`);
    writeFragment("maps", params);
  }

  /** What the address does not name, or names wrongly, is as at first. */
  read(params) {
    const labelled = (name) => { const at = debug.classes.indexOf(params.get(name) ?? ""); return at < 0 ? null : at; };
    const concept = (name) => debug.concepts.indexOf(params.get(name) ?? "");
    const level = params.get("level") ?? "";
    const image = Number(params.get("image") || NaN);
    const [row, column] = [concept("row"), concept("column")];
    const window = (params.get("window") ?? "").split(",").map(Number);
    const fits = window.length === 3 && window.every((value) => Number.isInteger(value) && value >= 0) && window[2] >= Math.min(SMALLEST, CONCEPTS) && Math.max(window[0], window[1]) + window[2] <= CONCEPTS;
    this.maps.window = fits ? { row: window[0], column: window[1], size: window[2] } : { row: 0, column: 0, size: CONCEPTS };
    this.maps.at = row >= 0 && column >= 0 ? { row, column } : null;
    Object.assign(this.state, {
      truth: labelled("true"), predicted: labelled("predicted"), image: Number.isNaN(image) ? null : image,
      level: ["encoder", "vlm", "both"].includes(level) ? level : LEAD, more: false, pictures: false,
    });
    this.refresh();
  }

  // -- drawing

  refresh() {
    const { state } = this;
    if (state.truth !== null && !debug.present.includes(state.truth)) state.truth = null;
    const wanted = state.truth === null ? pairs : pairs.filter(({ truth }) => truth === state.truth);
    if (!wanted.some(({ predicted }) => predicted === state.predicted)) state.predicted = null;
    this.view = new View(state.truth, state.predicted);
    this.fillSelects();
    for (const input of $$("input", this.levels)) input.checked = input.value === state.level;
    this.title.textContent = this.view.title;
    this.drawTold();
    this.drawShares();
    this.drawFindings();
    this.drawMaps();
    this.drawImages();
  }

  fillSelects() {
    const { truth, predicted } = this.state;
    const option = (label, chosen) => {
      const errors = chosen.reduce((sum, pair) => sum + pair.errors, 0);
      return el("option", { value: label }, `${debug.classes[label]} (${errors ? plural(errors, "error") : "no errors"})`);
    };
    if (!this.filled) {
      this.truth.replaceChildren(el("option", { value: "" }, "any class"), ...debug.present.map((label) => option(label, pairs.filter((pair) => pair.truth === label))));
      this.filled = true;
    }
    this.truth.value = truth ?? "";
    // With a class, only the classes its images were predicted as; without, every class with an incorrect prediction.
    const own = truth === null ? predictedClasses.map((label) => option(label, pairs.filter((pair) => pair.predicted === label)))
      : pairs.filter((pair) => pair.truth === truth).map((pair) => option(pair.predicted, [pair]));
    this.predicted.replaceChildren(el("option", { value: "" }, "any class"), ...own);
    this.predicted.value = predicted ?? "";
  }

  drawTold() {
    const { told } = this.view.data;
    this.told.replaceChildren(...(told ? [el("p", {}, told[0]), el("p", { class: "note" }, `Written by ${told[1]}.`)] : []));
  }

  drawShares() {
    const shares = this.view.data.shares[debug.rule] ?? [0, 0, 0];
    const total = shares[0] + shares[1] + shares[2];
    if (!total) return this.shares.replaceChildren();
    const decided = shares[0] + shares[1];
    const parts = [];
    let before = 0;
    shares.forEach((part, verdict) => {
      if (!part) return;
      const [x, width] = [(100 * before) / total, (100 * part) / total];
      const css = ["c2", "c5", "c-off"][verdict];
      const text = `${VERDICTS[verdict]} ${count(part)}`;
      const fits = (width / 100) * Math.min(520, this.root.clientWidth) > 7 * text.length + 8;
      parts.push(shape("g", { class: css }, shape("title", {}, text), shape("rect", { class: "fill", x: `${x}%`, width: `${width}%`, height: "100%" }),
        ...(verdict === 2 ? [shape("rect", { x: `${x}%`, width: `${width}%`, height: "100%", fill: "url(#hatch)" })] : []),
        ...(fits ? [shape("text", { class: verdict === 2 ? "on-texture" : "", x: `${x + width / 2}%`, y: "50%" }, text)] : [])));
      before += part;
    });
    const interval = decided ? wilson(shares[0] / decided, decided).map((end) => fixed(100 * end, 0)) : null;
    const others = this.view.data.shares.map(([head, encoder], rule) => [rule, head, head + encoder]).filter(([rule, , all]) => rule !== debug.rule && all);
    this.shares.replaceChildren(
      shape("svg", { class: "bar", role: "img", "aria-label": shares.map((part, i) => `${VERDICTS[i]} ${part}`).join("; ") }, ...parts),
      el("p", { class: "note" }, decided
        ? `Head’s share of ${plural(decided, "decided error")}: ${percent(shares[0] / decided)} (${interval.join(" to ")}), by the criterion “${debug.rules[debug.rule]}”.`
        : `Encoder or head: the criterion “${debug.rules[debug.rule]}” decided none of ${plural(total, "error")}.`,
      others.length ? ` By the other criteria: ${others.map(([rule, head, all]) => `${debug.rules[rule]} ${percent(head / all)}`).join(", ")}.` : ""),
    );
    return undefined;
  }

  drawFindings() {
    const { findings } = this.view.data;
    const { differential } = this.view.maps[LEAD];
    if (!differential) return this.findings.replaceChildren(el("p", { class: "doubt" }, this.view.missing));
    const heading = el("h4", {}, `Concepts that are stronger in incorrect predictions, at the level of ${LEVEL_OF[LEAD]}`);
    if (!findings?.all) {
      const few = differential.wrong.count < debug.few || differential.right.count < debug.few;
      return this.findings.replaceChildren(heading, el("p", {}, few
        ? `No pair of concepts differs beyond chance. With ${plural(Math.min(differential.wrong.count, differential.right.count), "image")} on one side, a significant difference is hardly possible.`
        : "No pair of concepts differs beyond chance between correct and incorrect predictions."));
    }
    const other = this.view.maps[OTHER].differential;
    const { shown } = findings;
    const listed = this.state.more ? shown : shown.slice(0, FINDINGS_SHOWN);
    const rows = listed.map(([more, less, right, wrong, low, high, q]) => {
      const name = `${debug.concepts[more]} > ${debug.concepts[less]}`;
      const seen = other ? -other.mean(more, less) : null;
      return el("tr", {},
        el("th", { scope: "row" }, el("button", { type: "button", class: "plain-button", title: "Show this cell in the heatmaps", onclick: () => { this.maps.at = { row: more, column: less }; this.maps.follow(); this.maps.point(this.maps.at, true); this.maps.root.scrollIntoView({ block: "nearest" }); } }, name)),
        el("td", { class: "drawn" }, shape("svg", { class: "dumbbell", role: "img", "aria-label": `${percent(wrong)} of the incorrect predictions, ${percent(right)} of the correct ones` },
          shape("line", { class: "axis", x1: "0%", x2: "100%", y1: 12, y2: 12 }),
          shape("line", { class: "between", x1: `${100 * right}%`, x2: `${100 * wrong}%`, y1: 12, y2: 12 }),
          shape("circle", { class: "of-right", cx: `${100 * right}%`, cy: 12, r: 5 }),
          shape("svg", { x: `${100 * wrong}%`, y: 12, overflow: "visible" }, shape("path", { class: "of-wrong", d: "M0 -6.5L6.5 0L0 6.5L-6.5 0Z" })))),
        el("td", { class: "figure-end", "data-of": "incorrect" }, percent(wrong)), el("td", { class: "figure-end", "data-of": "correct" }, percent(right)),
        el("td", { class: "figure-end", "data-of": "difference" }, el("b", {}, points(wrong - right)), el("small", {}, ` ${points(low)} to ${points(high)}`)),
        el("td", { class: "figure-end", "data-of": "q" }, probability(q)),
        el("td", { "data-of": `${LEVEL_OF[OTHER]}:` }, seen === null ? "–" : `${points(seen)}, ${other.significant(more, less) ? (seen > 0 ? "same direction" : "opposite direction") : "not beyond chance"}`));
    });
    const rest = findings.all - shown.length;
    this.findings.replaceChildren(heading,
      el("table", { class: "responsible" },
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Pair"),
          el("th", { scope: "col", class: "drawn" }, el("span", { class: "pair-keys" }, el("span", {}, shape("svg", { width: 12, height: 12, "aria-hidden": "true" }, shape("circle", { class: "of-right", cx: 6, cy: 6, r: 5 })), " correct"), el("span", {}, shape("svg", { width: 14, height: 14, "aria-hidden": "true" }, shape("path", { class: "of-wrong", d: "M7 0.5L13.5 7L7 13.5L0.5 7Z" })), " incorrect"), el("span", {}, "0 to 100\u202f% of images"))),
          el("th", { scope: "col", class: "figure-end" }, "Incorrect"), el("th", { scope: "col", class: "figure-end" }, "Correct"),
          el("th", { scope: "col", class: "figure-end" }, "Difference, points"), el("th", { scope: "col", class: "figure-end" }, "q"), el("th", { scope: "col" }, OTHER === "vlm" ? "The VLM" : "The encoder"))),
        el("tbody", {}, ...rows)),
      shown.length > FINDINGS_SHOWN ? el("button", { type: "button", class: "more", onclick: () => { this.state.more = !this.state.more; this.drawFindings(); } }, this.state.more ? `Show ${FINDINGS_SHOWN} only` : `Show ${shown.length} pairs`) : "",
      el("p", { class: "note" }, `${plural(findings.all, "pair")} of ${count((CONCEPTS * (CONCEPTS - 1)) / 2)} differ${findings.all === 1 ? "s" : ""} beyond chance${rest > 0 ? "; those that differ most are listed" : ""}. ${LEAD === "encoder" ? "A difference that the VLM shows as well is in the images. A difference that only the encoder shows comes from the classifier, or from the linear alignment." : "The last column says whether the aligned encoder of the classifier shows the same difference."}`));
    return undefined;
  }

  panelsOf(level) {
    const { right, wrong, differential } = this.view.maps[level];
    const { limit } = this.view;
    const [rightTitle, wrongTitle] = this.view.sides;
    const at = this.state.level === "both" ? `${LEVEL_NAMES[level]}: ` : "";
    const share = (heat) => shades.sequential(heat);
    return [
      { title: `${at}${rightTitle}`, heat: right, note: right ? plural(right.count, "image") : "no images", colour: share, words: "share of images in which the concept of the row is stronger than that of the column" },
      { title: `${at}${wrongTitle}`, heat: wrong, note: wrong ? plural(wrong.count, "image") : "no images", colour: share, words: "share of images in which the concept of the row is stronger than that of the column" },
      { title: `${at}Differential`, heat: differential, note: differential ? "correct minus incorrect" : this.view.missing, colour: (value) => shades.diverging(value, limit), words: "correct minus incorrect predictions" },
    ];
  }

  drawMaps() {
    const levels = this.state.level === "both" ? ["encoder", "vlm"] : [this.state.level];
    this.maps.show(levels.map((level) => this.panelsOf(level)));
    const limit = fixed(100 * this.view.limit, 0);
    const few = levels.some((level) => ["right", "wrong"].some((side) => (this.view.maps[level][side]?.count ?? Infinity) < debug.few || this.view.maps[level][side]?.ties));
    this.keys.replaceChildren(
      scaleKey("sequential", "row never stronger", "always"),
      ...(Object.values(this.view.maps).some(({ differential }) => differential) ? [
        scaleKey("diverging", `more in incorrect, −${limit} points`, `+${limit}, more in correct`),
        el("span", {}, shape("svg", { width: 12, height: 12, "aria-hidden": "true" }, shape("rect", { width: 12, height: 12, fill: debug.diverging[15] }), shape("circle", { class: "significant", cx: 6, cy: 6, r: 2.4 })), " differs beyond chance"),
      ] : []),
      ...(few ? [el("span", {}, shape("svg", { width: 12, height: 12, "aria-hidden": "true" }, shape("rect", { class: "few-key", width: 12, height: 12 }), shape("rect", { width: 12, height: 12, fill: "url(#hatch)" })), ` from fewer than ${debug.few} images`)] : []),
    );
  }

  // -- what a cell holds

  say(at) {
    if (this.zoomNote) this.zoomNote.textContent = [this.maps.zoomed ? `${this.maps.window.size} of ${CONCEPTS} concepts; arrow keys move on` : `${CONCEPTS} concepts`, this.maps.named === false ? "; zoom in to read their names" : ""].join("");
    this.readout.classList.toggle("pointing", Boolean(at));
    if (!at) return this.readout.replaceChildren(el("span", { class: "note" }, "Point at a cell to read its numbers. With the keyboard: go to a heatmap with Tab and move with the arrow keys."));
    const [i, j] = [at.row, at.column];
    if (i === j) return this.readout.replaceChildren(el("b", {}, debug.concepts[i]), " compared with itself: no value");
    const levels = this.state.level === "both" ? ["encoder", "vlm"] : [this.state.level];
    const lines = levels.map((level) => {
      const { right, wrong, differential } = this.view.maps[level];
      const side = (name, heat) => {
        if (!heat) return `no ${name} predictions`;
        const [low, high] = heat.interval(i, j).map((end) => fixed(100 * end, 0));
        return `${name} ${percent(heat.mean(i, j))} (${low} to ${high}) of ${plural(heat.count, "image")}`;
      };
      const texts = [side("correct", right), side("incorrect", wrong)];
      if (differential) {
        const [low, high] = differential.interval(i, j);
        texts.push(`difference ${points(differential.mean(i, j))} points (${points(low)} to ${points(high)}), ${differential.significant(i, j) ? "beyond chance" : "could be chance"}`);
        if (differential.few(i, j)) texts.push(`too few images`);
      }
      return el("span", { class: "line" }, levels.length > 1 ? `${LEVEL_NAMES[level]}: ` : "", texts.join("; "));
    });
    this.readout.replaceChildren(el("b", {}, `${debug.concepts[i]} > ${debug.concepts[j]}`), ...lines);
    return undefined;
  }

  // -- images

  picture(number, name) {
    const encoded = debugPictures[number];
    return encoded === undefined ? el("span", { class: "absent" }, name)
      : el("img", { src: `data:image/webp;base64,${encoded}`, alt: name, title: name, width: 96, height: 96, loading: "lazy", decoding: "async" });
  }

  drawImages() {
    const { images, maps, truth } = this.view;
    const { state } = this;
    const wrong = maps.encoder.wrong?.count ?? 0;
    if (!images.length) this.gallery.replaceChildren(...(wrong ? [el("h4", {}, "Misclassified images"), el("p", { class: "note" }, "This file holds no pictures of them.")] : []));
    else {
      const listed = state.pictures ? images : images.slice(0, IMAGES_SHOWN);
      this.gallery.replaceChildren(
        el("h4", {}, "Misclassified images"),
        el("p", { class: "note" }, `${listed.length < wrong ? `${count(listed.length)} of ${count(wrong)} are shown. ` : ""}Each shows the predicted and the true class with the classifier’s confidence in them, and the verdict of the criterion “${debug.rules[debug.rule]}”. The most confident predictions come first${listed.some(({ image }) => debugPictures[image] === undefined) ? ", and images with a picture before the others" : ""}. Choose an image to see its heatmap.`),
        el("ul", { class: "pictures" }, ...listed.map((image) => el("li", {},
          el("button", { type: "button", class: "picture", "aria-pressed": String(image.image === state.image), "data-image": image.image, onclick: () => { this.choose(image.image === state.image ? null : image.image); } },
            this.picture(image.image, image.name),
            el("span", { class: "of-predicted" }, `${debug.classes[image.predicted]} ${confidence(image.sure)}`),
            el("span", {}, `true: ${debug.classes[image.truth]} ${confidence(image.trueSure)}`),
            el("span", { class: "verdict" }, VERDICTS[image.verdicts[debug.rule]] ?? ""))))),
        images.length > IMAGES_SHOWN ? el("button", { type: "button", class: "more", onclick: () => { state.pictures = !state.pictures; this.drawImages(); } }, state.pictures ? `Show ${IMAGES_SHOWN} only` : `Show ${count(images.length)}`) : "",
      );
    }
    this.drawSingle(images.find(({ image }) => image === state.image));
    const examples = truth === null ? [] : debug.views[`${truth},`]?.examples ?? [];
    const seen = examples.filter((number) => debugPictures[number] !== undefined);
    this.right.replaceChildren(...(seen.length ? [
      el("h4", {}, `For comparison: ${debug.classes[truth]}, classified correctly`),
      el("ul", { class: "pictures" }, ...seen.map((number) => el("li", {}, this.picture(number, `${debug.classes[truth]}, classified correctly, image ${number}`)))),
    ] : []));
  }

  choose(image) {
    this.state.image = image;
    for (const button of $$(".picture", this.gallery)) button.setAttribute("aria-pressed", String(Number(button.dataset.image) === image));
    this.drawSingle(this.view.images.find((each) => each.image === image));
    if (image !== null) this.single.scrollIntoView({ block: "nearest" });
    this.write();
  }

  drawSingle(image) {
    this.single.hidden = !image;
    this.image = image;
    if (!image) { this.single.replaceChildren(); return; }
    const truth = debug.classes[image.truth];
    const predicted = debug.classes[image.predicted];
    const ordered = image.strengths.map((strength, concept) => [strength, concept]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    const [top, bottom] = [ordered[0][0], ordered.at(-1)[0]];
    const width = (strength) => (top > bottom ? 4 + (96 * (strength - bottom)) / (top - bottom) : 100);
    const fact = (term, text) => el("div", {}, el("dt", {}, term), el("dd", {}, text));
    this.single.replaceChildren(
      el("h4", {}, `One image: ${truth} classified as ${predicted}`),
      el("div", { class: "one" },
        el("div", {}, this.picture(image.image, image.name), el("dl", { class: "facts" },
          fact("File", image.name), fact("Predicted class", `${predicted}, ${confidence(image.sure)}`), fact("True class", `${truth}, ${confidence(image.trueSure)}`),
          fact("Error attributed to", ""), ...debug.rules.map((rule, i) => (image.verdicts[i] < 0 ? null : fact(`by ${rule}`, VERDICTS[image.verdicts[i]]))).filter(Boolean))),
        el("div", {}, el("h5", {}, "Concepts by strength, at the level of the encoder; bars run from the weakest to the strongest concept"), el("ol", { class: "strengths" }, ...ordered.slice(0, 18).map(([strength, concept]) => el("li", {}, el("span", {}, debug.concepts[concept]), el("span", {}, fixed(strength, 3)), shape("svg", { class: "meter", "aria-hidden": "true" }, shape("rect", { width: `${width(strength)}%`, height: "100%" })))))),
        el("div", { class: "one-map" }, el("h5", {}, "Pairs of concepts in this image"), this.singleMaps.root, this.singleReadout)));
    this.singleMaps.show([[{ title: "This image", heat: new SingleHeat(image.ranks), note: "dark: the concept of the row is stronger", colour: (value) => shades.sequential(value), words: "dark where the concept of the row is stronger than that of the column" }]]);
  }

  saySingle(at) {
    if (!at || !this.image) return this.singleReadout.replaceChildren();
    const { strengths, ranks } = this.image;
    const [i, j] = [at.row, at.column];
    if (i === j) return this.singleReadout.replaceChildren(el("b", {}, debug.concepts[i]), `: ${fixed(strengths[i], 3)}`);
    const order = Math.sign(new SingleHeat(ranks).mean(i, j) - 0.5);
    this.singleReadout.replaceChildren(el("b", {}, `${debug.concepts[i]} ${order > 0 ? ">" : order < 0 ? "<" : "="} ${debug.concepts[j]}`), `: ${fixed(strengths[i], 3)} and ${fixed(strengths[j], 3)}`);
    return undefined;
  }
}

// -- the table of confusions -----------------------------------------------------------------------------------

const CONFUSIONS_SHOWN = 8;

function foldConfusions(root) {
  const rows = $$("tbody tr", root).map((node) => ({ node, text: $("th a", node).textContent.toLowerCase() }));
  if (rows.length <= CONFUSIONS_SHOWN) return;
  let all = false;
  const search = el("input", { type: "search", placeholder: "a class", spellcheck: "false", autocomplete: "off", oninput: () => refresh() });
  const more = el("button", { type: "button", class: "more", onclick: () => { all = !all; refresh(); } });
  const refresh = () => {
    const wanted = search.value.trim().toLowerCase();
    let shown = 0;
    for (const { node, text } of rows) {
      const passes = text.includes(wanted);
      shown += passes;
      node.classList.toggle("folded", !passes || (!all && shown > CONFUSIONS_SHOWN));
    }
    more.hidden = shown <= CONFUSIONS_SHOWN;
    more.textContent = all ? `Show ${CONFUSIONS_SHOWN} only` : `Show all ${count(shown)} confusions`;
  };
  $("h3", root).after(el("div", { class: "controls", role: "search", "aria-label": "Filter the confusions" }, el("label", { class: "search" }, "Class", search)));
  $("table", root).after(more);
  refresh();
}

function setUpDiagnosis() {
  for (const link of $$("a[data-view]")) link.href = `#${link.dataset.view}`;
  const ranked = document.getElementById("ranked");
  if (ranked) foldConfusions(ranked);
  const explorer = new Explorer(document.getElementById("explorer"));
  const show = () => {
    const { section, query } = readFragment();
    if (section !== "maps" || query === null) return;
    explorer.read(query);
    document.getElementById("maps").scrollIntoView();
  };
  addEventListener("hashchange", show);
  show();
}

setUpDiagnosis();
