// The script of every report: links into tables, the unit table, the table of contents.
// It reads the data blocks of the page, builds nodes (never markup from text), asks no network.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** An element with attributes and children; strings become text. */
function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") node.className = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** An SVG element. */
function shape(name, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const count = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, "\u202f");
const plural = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
const isNumber = (value) => value !== null && !Number.isNaN(value);

function fixed(value, digits) {
  if (!isNumber(value)) return "–";
  return ((Number(value.toFixed(digits)) || 0).toFixed(digits)).replace("-", "−");
}

/** Three figures: an activation is compared by eye. */
function figures(value) {
  if (!isNumber(value)) return "–";
  return (Math.abs(value) >= 100 ? String(value) : value.toPrecision(3)).replace("-", "−");
}

function probability(value) {
  return isNumber(value) && value < 0.001 ? "<0.001" : fixed(value, 3);
}

function readBlock(id) {
  const block = document.getElementById(id);
  return block ? JSON.parse(block.textContent) : null;
}

// -- the view in the address: #section?name=value&… -------------------------------------------

function readFragment() {
  const [section, query = null] = location.hash.slice(1).split(/\?(.*)/s);
  return { section, query: query === null ? null : new URLSearchParams(query) };
}

function writeFragment(section, params) {
  const query = params.toString();
  history.replaceState(null, "", `#${section}${query ? `?${query}` : "?"}`);
}

// -- units as columns ----------------------------------------------------------------------------

const UNINTERPRETABLE = -1;
const DEAD = -2;

class Units {
  constructor(data) {
    Object.assign(this, {
      tau: data.tau, tauText: data.tauText, digits: data.digits,
      concepts: data.concepts, images: data.images, imageIndex: data.imageIndex,
      categories: data.categories, layers: data.layers,
      scored: data.scored, imported: data.imported, confirms: data.confirms, pages: data.pages,
    });
    const total = data.layers.reduce((sum, layer) => sum + layer.category.length, 0);
    this.layer = new Int32Array(total);
    this.unit = new Int32Array(total);
    this.category = new Int32Array(total);
    this.concept = new Int32Array(total).fill(-1);
    this.score = new Float64Array(total).fill(NaN);
    this.p = new Float64Array(total).fill(NaN); // p-value, or z where labels are tested on other images
    this.alive = new Int32Array(total).fill(-1); // place among the layer's units that are not dead
    let row = 0;
    data.layers.forEach((layer, index) => {
      layer.start = row;
      let alive = 0;
      layer.category.forEach((category, unit) => {
        this.layer[row] = index;
        this.unit[row] = layer.numbers ? layer.numbers[unit] : unit;
        this.category[row] = category;
        if (category !== DEAD) {
          this.concept[row] = layer.concept[alive * layer.labels];
          this.score[row] = layer.score[alive * layer.labels] ?? NaN;
          this.p[row] = (layer.z ?? layer.p)[unit] ?? NaN;
          this.alive[row] = alive++;
        }
        row += 1;
      });
      layer.scores = this.score.subarray(layer.start, row).filter((score) => !Number.isNaN(score)).sort();
    });
    this.lower = data.concepts.map((concept) => concept.toLowerCase());
    const alphabet = new Intl.Collator("en");
    this.alphabetical = new Int32Array(data.concepts.length);
    data.concepts.map((_, i) => i)
      .sort((a, b) => alphabet.compare(data.concepts[a], data.concepts[b]))
      .forEach((concept, place) => { this.alphabetical[concept] = place; });
  }

  get length() { return this.layer.length; }

  rowsOf(layer) {
    const start = layer === null ? 0 : this.layers[layer].start;
    const end = layer === null ? this.length : start + this.layers[layer].category.length;
    return Int32Array.from({ length: end - start }, (_, i) => start + i);
  }

  /** The value a column is sorted by; NaN sorts last, whichever way. */
  key(column) {
    switch (column) {
      case "layer": return (row) => row;
      case "unit": return (row) => this.unit[row];
      case "label": return (row) => (this.concept[row] < 0 ? NaN : this.alphabetical[this.concept[row]]);
      case "z": case "p": return (row) => this.p[row];
      case "category": return (row) => (this.category[row] >= 0 ? this.category[row] : 1e6 - this.category[row]);
      default: return (row) => this.score[row];
    }
  }

  sorted(rows, column, descending) {
    const key = this.key(column);
    const keys = new Float64Array(this.length);
    for (const row of rows) keys[row] = key(row);
    const sign = descending ? -1 : 1;
    return rows.slice().sort((a, b) => {
      const x = keys[a];
      const y = keys[b];
      if (x === y) return a - b;
      if (Number.isNaN(x)) return Number.isNaN(y) ? a - b : 1;
      if (Number.isNaN(y)) return -1;
      return sign * (x - y);
    });
  }

  /** The rows that pass a view's filters, in the order given. */
  filtered(rows, view) {
    const exact = /^"(.*)"$/s.exec(view.q);
    const needle = (exact ? exact[1] : view.q).trim().toLowerCase();
    const hits = needle
      ? Uint8Array.from(this.lower, (text) => (exact ? text === needle : text.includes(needle)))
      : null;
    const category = this.categories.findIndex(([name]) => name === view.category);
    const { layer } = view;
    // Bounds hold for scores as they are printed.
    const half = 0.5 * 10 ** -this.digits;
    const min = view.min === null ? null : view.min - half;
    const max = view.max === null ? null : view.max + half;
    return rows.filter((row) => {
      if (hits && !hits[this.concept[row]]) return false;
      if (layer !== null && this.layer[row] !== layer) return false;
      if (view.category !== "" && this.category[row] !== category) return false;
      if (view.is === "interpretable" && this.category[row] < 0) return false;
      if (view.is === "uninterpretable" && this.category[row] !== UNINTERPRETABLE) return false;
      if (view.is === "dead" && this.category[row] !== DEAD) return false;
      if (min !== null && !(this.score[row] >= min)) return false;
      if (max !== null && !(this.score[row] <= max)) return false;
      return true;
    });
  }

  nextLabels(row) {
    const { labels, concept, score } = this.layers[this.layer[row]];
    const from = this.alive[row] * labels;
    return Array.from({ length: labels }, (_, i) => [this.concepts[concept[from + i]], score[from + i]])
      .filter(([label]) => label !== undefined); // there may be fewer concepts than places
  }

  topImages(row) {
    const { images, top, activation } = this.layers[this.layer[row]];
    const from = this.alive[row] * images;
    return Array.from({ length: images }, (_, i) => [top[from + i], activation[from + i]])
      .filter(([image]) => image >= 0);
  }
}

// -- pictures -------------------------------------------------------------------------------------

class Thumbnails {
  constructor(data, units) {
    this.data = data;
    this.units = units;
  }

  node(image) {
    const name = this.units.images[image];
    const encoded = this.data[this.units.imageIndex[image]];
    if (encoded === undefined) return el("span", { class: "absent", title: name }, name);
    return el("img", {
      src: `data:image/webp;base64,${encoded}`, alt: name, title: name,
      width: 96, height: 96, loading: "lazy", decoding: "async",
    });
  }
}

// -- the unit table ---------------------------------------------------------------------------------

const EMPTY_VIEW = Object.freeze({
  q: "", layer: null, category: "", is: "", min: null, max: null, box: "", sort: "-score", page: 1, open: Object.freeze([]),
});
const ROW_THUMBNAILS = 5;

class UnitTable {
  /** `layer` is the index of the one layer shown, or null for all. */
  constructor(root, units, thumbnails) {
    this.root = root;
    this.units = units;
    this.thumbnails = thumbnails;
    this.only = "layer" in root.dataset ? Number(root.dataset.layer) : null;
    this.section = root.closest("[id]").id;
    this.rowsPerPage = Number(root.dataset.rows);
    this.all = units.rowsOf(this.only);
    this.columns = [
      ...(this.only === null ? [["layer", "Layer"]] : []),
      ["unit", "Unit"], ["label", "Label"],
      ...(units.scored ? [["score", "Score"]] : []),
      ...(units.imported ? [] : [units.confirms ? ["z", "z, other images"] : ["p", "p-value"]]),
      ["category", "Category"],
    ];
    this.pictured = !units.imported && !units.pages;
    this.width = this.columns.length + (this.pictured ? 1 : 0);
    // Without scores the units stand in the network's order.
    this.empty = { ...EMPTY_VIEW, sort: units.scored ? EMPTY_VIEW.sort : this.columns[0][0] };
    this.view = { ...this.empty, open: [] };
    this.build();
    this.refresh();
  }

  // Structure that stays; only the body of the table and a few texts are drawn anew.
  build() {
    const controls = this.controls();
    this.clear = el("button", { type: "button", class: "clear", onclick: () => { this.set({ ...this.empty, open: [] }); this.search.focus(); } }, "Clear filters");
    this.status = el("p", { class: "status", role: "status" });
    this.headers = new Map(this.columns.map(([key, title]) => [key,
      el("th", { scope: "col", class: `col-${key}`, role: "columnheader" },
        el("button", { type: "button", onclick: () => this.sortBy(key) }, title))]));
    this.body = el("tbody", { role: "rowgroup" });
    this.pageInput = el("input", { type: "number", min: 1, step: 1, "aria-label": "Page", onchange: (event) => this.set({ page: Number(event.target.value) || 1 }) });
    this.pageCount = el("span");
    this.previous = el("button", { type: "button", onclick: () => this.set({ page: this.view.page - 1 }) }, "‹ Previous");
    this.next = el("button", { type: "button", onclick: () => this.set({ page: this.view.page + 1 }) }, "Next ›");
    this.pager = el("div", { class: "pager" }, this.previous, el("span", {}, "page "), this.pageInput, this.pageCount, this.next);
    const where = this.only === null ? "all layers" : this.units.layers[this.only].name;
    this.root.replaceChildren(
      el("div", { class: "controls", role: "search", "aria-label": `Filter the units of ${where}` }, ...controls, this.clear),
      this.status,
      el("table", { class: "units", role: "table" },
        el("caption", { class: "hidden" }, `Units of ${where}`),
        el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...this.headers.values(),
          this.pictured ? el("th", { scope: "col", class: "col-images", role: "columnheader" }, "Most activating images") : "")),
        this.body),
      this.pager,
      offerUnits(this),
    );
  }

  /** The units of the view as rows of text, the names of the columns first; without pictures. */
  rowsToTake() {
    const { pictured } = this;
    this.pictured = false;
    const rows = Array.from(this.shown, (row) => [...this.rowNode(row, false).cells]
      .filter((cell) => !cell.matches(".col-images")).map(textsOf));
    this.pictured = pictured;
    return spread([this.columns.map(([, title]) => [title, ""]), ...rows]);
  }

  /** What listens to a control and puts its value into the view. */
  changing(name, parse = (text) => text) {
    return (event) => this.set({ [name]: parse(event.target.value), page: 1, open: [] });
  }

  searchInput() {
    return el("input", { type: "search", placeholder: "part of a word, or \"whole\"", oninput: this.changing("q"), spellcheck: "false", autocomplete: "off" });
  }

  layerInput() {
    return el("select", { onchange: this.changing("layer", (text) => (text === "" ? null : Number(text))) },
      el("option", { value: "" }, "all layers"),
      ...this.units.layers.map((layer, index) => el("option", { value: index }, layer.name)));
  }

  /** The filters above the table. */
  controls() {
    const bound = (text) => (text.trim() === "" || Number.isNaN(Number(text)) ? null : Number(text));
    this.search = this.searchInput();
    this.layerSelect = this.layerInput();
    this.categorySelect = el("select", {
      onchange: (event) => {
        const [kind, name] = event.target.value.split(/:(.*)/s);
        this.set({ category: kind === "category" ? name : "", is: kind === "is" ? name : "", page: 1, open: [] });
      },
    },
    el("option", { value: "" }, "all units"),
    el("option", { value: "is:interpretable" }, "interpretable, any category"),
    ...this.units.categories.map(([name]) => el("option", { value: `category:${name}` }, name)),
    el("option", { value: "is:uninterpretable" }, "uninterpretable"),
    ...(this.units.imported ? [] : [el("option", { value: "is:dead" }, "dead")]));
    const number = (name) => el("input", { type: "number", step: "any", oninput: this.changing(name, bound) });
    this.min = number("min");
    this.max = number("max");
    return [
      el("label", { class: "search" }, "Label", this.search),
      ...(this.only === null ? [el("label", {}, "Layer", this.layerSelect)] : []),
      el("label", {}, "Category", this.categorySelect),
      ...(this.units.scored ? [el("div", { class: "score" }, el("label", {}, "Score from", this.min), el("label", {}, "to", this.max))] : []),
    ];
  }

  /** Change the view, draw it, and put it into the address. */
  set(change) {
    Object.assign(this.view, change);
    this.refresh();
    writeFragment(this.section, this.params());
  }

  sortBy(column) {
    const numbers = column === "score" || column === "z";
    const first = numbers ? `-${column}` : column;
    const second = numbers ? column : `-${column}`;
    this.set({ sort: this.view.sort === first ? second : first, page: 1 });
  }

  params() {
    const { q, layer, category, is, min, max, sort, page, open } = this.view;
    const params = new URLSearchParams();
    if (q) params.set("q", q);
    if (layer !== null) params.set("layer", this.units.layers[layer].name);
    if (category) params.set("category", category);
    if (is) params.set("is", is);
    if (min !== null) params.set("min", min);
    if (max !== null) params.set("max", max);
    if (sort !== this.empty.sort) params.set("sort", sort);
    if (page > 1) params.set("page", page);
    for (const row of open) params.append("open", `${this.units.layers[this.units.layer[row]].name}:${this.units.unit[row]}`);
    return params;
  }

  /** Take the view from the address; what it does not name, or names wrongly, is as at first. */
  read(params) {
    const bound = (name) => {
      const text = params.get(name);
      return text === null || text.trim() === "" || Number.isNaN(Number(text)) ? null : Number(text);
    };
    const layerNamed = (name) => this.units.layers.findIndex((layer) => layer.name === name);
    const layer = layerNamed(params.get("layer"));
    const category = params.get("category") ?? "";
    const is = params.get("is") ?? "";
    const sort = params.get("sort") ?? this.empty.sort;
    this.view = {
      q: params.get("q") ?? "",
      layer: this.only === null && layer >= 0 ? layer : null,
      category: this.units.categories.some(([name]) => name === category) ? category : "",
      is: ["interpretable", "uninterpretable", "dead"].includes(is) ? is : "",
      min: bound("min"),
      max: bound("max"),
      sort: this.headers.has(sort.replace("-", "")) ? sort : this.empty.sort,
      page: Number(params.get("page")) || 1,
      open: params.getAll("open").flatMap((text) => {
        const [, name, unit] = /^(.*):(\d+)$/s.exec(text) ?? [];
        const found = this.units.layers[layerNamed(name)];
        const place = found?.numbers ? found.numbers.indexOf(Number(unit)) : Number(unit);
        return found && place >= 0 && place < found.category.length ? [found.start + place] : [];
      }),
    };
    this.refresh();
  }

  refresh() {
    const { view, units } = this;
    if (this.sortedBy !== view.sort) {
      this.order = units.sorted(this.all, view.sort.replace("-", ""), view.sort.startsWith("-"));
      this.sortedBy = view.sort;
    }
    this.shown = units.filtered(this.order, view);
    this.pages = Math.max(1, Math.ceil(this.shown.length / this.rowsPerPage));
    view.page = Math.min(Math.max(1, Math.round(view.page)), this.pages);
    this.showControls();
    this.draw();
  }

  showControls() {
    const { view } = this;
    this.fillControls((input, text) => { if (document.activeElement !== input || input.tagName === "SELECT") input.value = text; });
    this.pageInput.value = view.page;
    this.pageInput.max = this.pages;
    this.pageCount.textContent = `of ${count(this.pages)}`;
    this.previous.disabled = view.page === 1;
    this.next.disabled = view.page === this.pages;
    this.pager.hidden = this.pages === 1;
    this.clear.hidden = !this.isFiltered();
    for (const [key, header] of this.headers) {
      const on = view.sort.replace("-", "") === key;
      if (on) header.setAttribute("aria-sort", view.sort.startsWith("-") ? "descending" : "ascending");
      else header.removeAttribute("aria-sort");
    }
    const first = (view.page - 1) * this.rowsPerPage;
    const last = Math.min(first + this.rowsPerPage, this.shown.length);
    const among = this.only === null ? "" : ` of ${this.units.layers[this.only].name}`;
    this.status.replaceChildren(
      el("b", {}, `${this.isFiltered() ? `${count(this.shown.length)} of ` : ""}${plural(this.all.length, "unit")}`),
      among,
      this.shown.length ? `, rows ${count(first + 1)}–${count(last)}, ${this.describeSort()}` : "",
    );
  }

  /** `put` leaves alone what is being typed into. */
  fillControls(put) {
    const { view } = this;
    put(this.search, view.q);
    put(this.layerSelect, view.layer ?? "");
    put(this.categorySelect, view.category ? `category:${view.category}` : view.is ? `is:${view.is}` : "");
    put(this.min, view.min ?? "");
    put(this.max, view.max ?? "");
  }

  isFiltered() {
    const { q, layer, category, is, min, max } = this.view;
    return Boolean(q || layer !== null || category || is || min !== null || max !== null);
  }

  describeSort() {
    const key = this.view.sort.replace("-", "");
    const title = this.columns.find(([name]) => name === key)[1].toLowerCase();
    return `sorted by ${title}, ${this.view.sort.startsWith("-") ? "descending" : "ascending"}`;
  }

  draw() {
    const from = (this.view.page - 1) * this.rowsPerPage;
    const rows = this.shown.subarray(from, from + this.rowsPerPage);
    const nodes = [];
    for (const row of rows) {
      const open = this.view.open.includes(row);
      nodes.push(this.rowNode(row, open));
      if (open) nodes.push(this.detailNode(row));
    }
    if (!nodes.length) {
      nodes.push(el("tr", { role: "row" }, el("td", { class: "none", role: "cell", colspan: this.width }, "No unit matches these filters.")));
    }
    this.body.replaceChildren(...nodes);
  }

  rowNode(row, open) {
    const { units } = this;
    const category = units.category[row];
    const name = category >= 0 ? units.categories[category][0] : category === DEAD ? "dead" : "uninterpretable";
    const cell = (key, ...children) => el("td", { class: `col-${key}`, role: "cell" }, ...children);
    const toggle = el("button", { type: "button", class: "toggle", "aria-expanded": String(open), "aria-label": `Unit ${units.unit[row]}, details` }, String(units.unit[row]));
    const node = el("tr", { class: category < 0 ? "unit weak" : "unit", role: "row" },
      this.only === null ? cell("layer", units.layers[units.layer[row]].name) : null,
      cell("unit", toggle),
      cell("label", el("span", { class: "label" }, units.concept[row] < 0 ? "–" : units.concepts[units.concept[row]])),
      units.scored ? cell("score", fixed(units.score[row], units.digits)) : null,
      units.imported ? null : units.confirms ? cell("z", fixed(units.p[row], 2)) : cell("p", probability(units.p[row])),
      cell("category", this.swatch(category), ` ${name}`),
      !this.pictured ? null : cell("images", category === DEAD ? "" : el("div", { class: "thumbs" },
        ...units.topImages(row).slice(0, ROW_THUMBNAILS).map(([image, , mark]) => this.thumbnails.node(image, mark)))),
    );
    node.addEventListener("click", (event) => {
      if (event.target.closest("button, tr") !== toggle && String(getSelection())) return;
      this.toggle(row, node, toggle);
    });
    return node;
  }

  toggle(row, node, button) {
    const opening = !this.view.open.includes(row);
    button.setAttribute("aria-expanded", String(opening));
    if (opening) {
      this.view.open = [...this.view.open, row];
      node.after(this.detailNode(row));
    } else {
      this.view.open = this.view.open.filter((other) => other !== row);
      node.nextElementSibling.remove();
    }
    writeFragment(this.section, this.params());
  }

  swatch(category) {
    const [css, texture] = category >= 0 ? this.units.categories[category].slice(1) : category === DEAD ? ["c-dead", "hatch"] : ["c-off", ""];
    const node = shape("svg", { class: `swatch ${css}`, width: 12, height: 12, "aria-hidden": "true" },
      shape("rect", { class: "fill", width: 12, height: 12 }));
    if (texture) node.append(shape("rect", { width: 12, height: 12, fill: `url(#${texture})` }));
    return node;
  }

  // -- an opened row --

  detailNode(row) {
    const span = this.width;
    if (this.units.category[row] === DEAD) {
      return el("tr", { class: "detail", role: "row" }, el("td", { colspan: span, role: "cell" },
        "Dead: this unit’s activation is the same on every probe image, so it has no label."));
    }
    if (this.units.imported) {
      const scored = isNumber(this.units.score[row]);
      return el("tr", { class: "detail", role: "row" }, el("td", { colspan: span, role: "cell" },
        ...(scored ? [el("h4", {}, "Place in the layer"), ...this.place(row)] : []),
        el("p", { class: "note" }, `The imported file ${scored ? "says nothing more" : "gives no score, and nothing more,"} about this unit.`)));
    }
    if (this.units.pages) {
      return el("tr", { class: "detail", role: "row" }, el("td", { colspan: span, role: "cell" }, this.pageLink(row),
        el("div", { class: "opened" },
          el("div", {}, el("h4", {}, "Labels by score"), this.ranking(row)),
          el("div", {}, el("h4", {}, "Place in the layer"), ...this.place(row)))));
    }
    return el("tr", { class: "detail", role: "row" }, el("td", { colspan: span, role: "cell" },
      el("div", { class: "opened" },
        el("div", {}, el("h4", {}, "Labels by score"), this.ranking(row), el("h4", {}, "Place in the layer"), ...this.place(row)),
        el("div", {}, el("h4", {}, "Most activating images, with the pooled activation"), this.gallery(this.units.topImages(row))))));
  }

  /** A link to the row of a unit on the page of its layer. */
  pageLink(row) {
    const { units } = this;
    const layer = units.layer[row];
    const page = 1 + Math.floor((row - units.layers[layer].start) / Number($("#units .unit-table").dataset.rows));
    const here = new URLSearchParams({ sort: "unit", page, open: `${units.layers[layer].name}:${units.unit[row]}` });
    return el("p", {}, el("a", { href: `${units.pages[layer]}#units?${here}` }, `Unit ${units.unit[row]} on the page of ${units.layers[layer].name}`),
      ": its images and all that is known of it.");
  }

  ranking(row) {
    const labels = this.units.nextLabels(row);
    const finite = labels.map(([, score]) => score).filter(isNumber);
    const best = Math.max(...finite);
    const floor = Math.min(0, ...finite);
    const width = (score) => (best > floor ? (100 * (score - floor)) / (best - floor) : 0);
    return el("ol", { class: "ranking" }, ...labels.map(([label, score]) => el("li", {},
      el("span", {}, label), el("span", {}, fixed(score, this.units.digits)),
      shape("svg", { class: "meter", "aria-hidden": "true" }, shape("rect", { width: `${isNumber(score) ? width(score) : 0}%`, height: "100%" })))));
  }

  place(row) {
    const { units } = this;
    const score = units.score[row];
    const { scores } = units.layers[units.layer[row]];
    const higher = scores.length - upperBound(scores, score);
    const low = Math.min(scores[0], units.tau ?? Infinity);
    const high = Math.max(scores.at(-1), units.tau ?? -Infinity);
    const at = (value) => (high > low ? (100 * (value - low)) / (high - low) : 50);
    const anchor = (x) => (x > 70 ? "end" : x < 30 ? "start" : "middle");
    const marks = Array.from(scores, (value) => `M${at(value).toFixed(2)} 0V1`).join("");
    const sentence = `Score ${fixed(score, units.digits)} is rank ${count(higher + 1)} of ${plural(scores.length, "scored unit")} in ${units.layers[units.layer[row]].name}`
      + (units.tauText ? `; ${score > (units.tau ?? Infinity) ? "above" : "not above"} τ = ${units.tauText}.` : ".");
    const picture = shape("svg", { class: "place", "aria-hidden": "true" },
      shape("svg", { y: 18, width: "100%", height: 18, viewBox: "0 0 100 1", preserveAspectRatio: "none", overflow: "visible" },
        shape("path", { class: "rug", d: marks, "vector-effect": "non-scaling-stroke" })),
      shape("line", { class: "here", x1: `${at(score)}%`, x2: `${at(score)}%`, y1: 15, y2: 39 }),
      shape("text", { class: `here ${anchor(at(score))}`, x: `${at(score)}%`, y: 11 }, fixed(score, units.digits)));
    if (units.tau !== null) {
      picture.append(
        shape("line", { class: "tau", x1: `${at(units.tau)}%`, x2: `${at(units.tau)}%`, y1: 15, y2: 39 }),
        shape("text", { class: `tau ${anchor(at(units.tau))}`, x: `${at(units.tau)}%`, y: 51 }, `τ = ${units.tauText}`));
    }
    return [picture, el("p", { class: "note" }, sentence)];
  }

  /** Pictures of images, given with their activations and what is to be marked on them, if anything. */
  gallery(images) {
    return el("div", { class: "gallery" }, ...images.map(([image, activation, mark]) => el("figure", {},
      this.thumbnails.node(image, mark),
      el("figcaption", {}, el("b", {}, figures(activation)),
        el("span", { title: this.units.images[image] }, this.units.images[image])))));
  }
}

/** How many of the ascending values are at most `limit`. */
function upperBound(values, limit) {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

