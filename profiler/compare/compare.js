// The comparison of runs: one pair at a time, its units side by side, differences that can be
// sorted and filtered, the similarity map by mouse and keyboard, words over the runs.

const compared = readBlock("compare-data");
const short = (layer) => (Object.hasOwn(compared.short, layer) ? compared.short[layer] : layer);

// -- units of two runs ------------------------------------------------------------------------------

/** The matched units of a pair, in the shape that a table of units expects. */
class PairUnits extends Units {
  constructor({ before, after, layers }) {
    super({ ...compared, layers: [], tau: null, tauText: "", scored: true, imported: true });
    this.sides = [compared.runs[before], compared.runs[after]];
    const total = layers.reduce((sum, layer) => sum + layer.before.length, 0);
    this.layer = new Int32Array(total);
    this.unit = new Int32Array(total);
    this.partner = new Int32Array(total);
    this.state = new Int8Array(total);
    this.r = new Float64Array(total).fill(NaN);
    this.labels = [new Int32Array(total), new Int32Array(total)];
    this.change = new Float64Array(total).fill(NaN); // of the score
    this.correlated = layers.some((layer) => layer.r);
    let row = 0;
    this.layers = layers.map((layer, index) => {
      const start = row;
      const columns = this.sides.map((run) => run.layers.find(({ name }) => name === layer.name));
      layer.before.forEach((unit, place) => {
        const units = [unit, (layer.after ?? layer.before)[place]];
        this.layer[row] = index;
        [this.unit[row], this.partner[row]] = units;
        this.state[row] = layer.state[place];
        if (layer.r) this.r[row] = layer.r[place] ?? NaN;
        const scores = columns.map((column, side) => {
          const at = units[side] * column.labels;
          this.labels[side][row] = column.concept[at];
          return column.score[at] ?? NaN;
        });
        this.change[row] = scores[1] - scores[0];
        row += 1;
      });
      return { name: layer.name, start, size: row - start, columns };
    });
  }

  rowsOf() { return Int32Array.from({ length: this.length }, (_, row) => row); }

  key(column) {
    const word = (side) => (row) => (this.labels[side][row] < 0 ? NaN : this.alphabetical[this.labels[side][row]]);
    switch (column) {
      case "layer": return (row) => row;
      case "unit": return (row) => this.unit[row];
      case "before": return word(0);
      case "after": return word(1);
      case "r": return (row) => this.r[row];
      case "score": return (row) => this.change[row];
      // Among units to which the same happened, the least alike changed most.
      default: return (row) => 4 * this.state[row] + 1 - (isNumber(this.r[row]) ? this.r[row] : 1);
    }
  }

  filtered(rows, view) {
    const exact = /^"(.*)"$/s.exec(view.q);
    const needle = (exact ? exact[1] : view.q).trim().toLowerCase();
    const hits = needle
      ? Uint8Array.from(this.lower, (text) => (exact ? text === needle : text.includes(needle)))
      : null;
    const state = compared.states.indexOf(view.is);
    return rows.filter((row) => !(hits && !hits[this.labels[0][row]] && !hits[this.labels[1][row]])
      && (view.layer === null || this.layer[row] === view.layer)
      && (state < 0 || this.state[row] === state));
  }

  /** One of the two units of a row. */
  side(row, side) {
    return { column: this.layers[this.layer[row]].columns[side], unit: side ? this.partner[row] : this.unit[row] };
  }

  // Of a side, not of a row: what the opened row asks for.
  nextLabels({ column, unit }) {
    const from = unit * column.labels;
    return Array.from({ length: column.labels }, (_, i) => [this.concepts[column.concept[from + i]], column.score[from + i]])
      .filter(([label]) => label !== undefined);
  }

  topImages({ column, unit }) {
    const from = unit * column.images;
    return Array.from({ length: column.images }, (_, i) => [column.top[from + i], column.activation[from + i]])
      .filter(([image]) => image >= 0);
  }
}

const PAIR_THUMBNAILS = 4;

class PairTable extends UnitTable {
  build() {
    this.columns = [
      ["layer", "Layer"], ["unit", "Unit"],
      ["before", this.units.sides[0].name], ["after", this.units.sides[1].name],
      ["change", "Change"],
      ...(this.units.correlated ? [["r", "Correlation"]] : []),
      ["score", "Score change"],
    ];
    this.width = this.columns.length;
    this.empty = { ...EMPTY_VIEW, sort: "-change" };
    this.view = { ...this.empty, open: [] };
    super.build();
    $("table", this.root).classList.add("of-pairs");
  }

  controls() {
    this.search = this.searchInput();
    this.layerSelect = this.layerInput();
    this.stateSelect = el("select", { onchange: this.changing("is") },
      el("option", { value: "" }, "all units"),
      ...[...compared.states].reverse().map((state) => el("option", { value: state }, state)));
    return [
      el("label", { class: "search" }, "Label in either run", this.search),
      el("label", {}, "Layer", this.layerSelect),
      el("label", {}, "Change", this.stateSelect),
    ];
  }

  fillControls(put) {
    put(this.search, this.view.q);
    put(this.layerSelect, this.view.layer ?? "");
    put(this.stateSelect, this.view.is);
  }

  sortBy(column) {
    const falling = column === "change" || column === "score";
    const [first, second] = falling ? [`-${column}`, column] : [column, `-${column}`];
    this.set({ sort: this.view.sort === first ? second : first, page: 1 });
  }

  read(params) {
    const named = (name) => this.units.layers.findIndex((layer) => layer.name === name);
    const layer = named(params.get("layer"));
    const is = params.get("is") ?? "";
    const sort = params.get("sort") ?? this.empty.sort;
    this.view = {
      ...this.empty,
      q: params.get("q") ?? "",
      layer: layer >= 0 ? layer : null,
      is: compared.states.includes(is) ? is : "",
      sort: this.headers.has(sort.replace("-", "")) ? sort : this.empty.sort,
      page: Number(params.get("page")) || 1,
      open: params.getAll("open").flatMap((text) => {
        const [, name, unit] = /^(.*):(\d+)$/s.exec(text) ?? [];
        const found = this.units.layers[named(name)];
        if (!found) return [];
        const place = this.units.unit.subarray(found.start, found.start + found.size).indexOf(Number(unit));
        return place < 0 ? [] : [found.start + place];
      }),
    };
    this.refresh();
  }

  rowNode(row, open) {
    const { units } = this;
    const numbers = units.unit[row] === units.partner[row] ? `${units.unit[row]}` : `${units.unit[row]} → ${units.partner[row]}`;
    const cell = (key, ...children) => el("td", { class: `col-${key}`, role: "cell" }, ...children);
    const toggle = el("button", { type: "button", class: "toggle", "aria-expanded": String(open), "aria-label": `Unit ${numbers}, details` }, numbers);
    const { change } = units;
    const node = el("tr", { class: units.state[row] === compared.states.length - 1 ? "unit moved-label" : "unit", role: "row" },
      cell("layer", short(units.layers[units.layer[row]].name)),
      cell("unit", toggle),
      cell("before", ...this.label(row, 0)),
      cell("after", ...this.label(row, 1)),
      cell("change", compared.states[units.state[row]]),
      units.correlated ? cell("r", fixed(units.r[row], 2)) : null,
      cell("score", `${change[row] > 0 ? "+" : ""}${fixed(change[row], units.digits)}`),
    );
    node.addEventListener("click", (event) => {
      if (event.target.closest("button, tr") !== toggle && String(getSelection())) return;
      this.toggle(row, node, toggle);
    });
    return node;
  }

  label(row, side) {
    const found = this.units.side(row, side);
    const concept = this.units.labels[side][row];
    const category = found.column.category[found.unit];
    const images = this.units.topImages(found).slice(0, PAIR_THUMBNAILS);
    return [
      this.swatch(category), " ",
      el("span", { class: category < 0 ? "label untrusted" : "label" }, concept < 0 ? "–" : this.units.concepts[concept]),
      category === DEAD || !images.length ? "" : el("div", { class: "thumbs" }, ...images.map(([image]) => this.thumbnails.node(image))),
    ];
  }

  detailNode(row) {
    return el("tr", { class: "detail", role: "row" }, el("td", { colspan: this.width, role: "cell" },
      el("div", { class: "opened" }, this.sideNode(row, 0), this.sideNode(row, 1))));
  }

  sideNode(row, side) {
    const found = this.units.side(row, side);
    const run = this.units.sides[side];
    const category = found.column.category[found.unit];
    const head = el("h4", {}, `${run.name}, unit ${found.unit}`);
    if (category === DEAD) {
      return el("div", {}, head, el("p", { class: "side" }, "Dead: the activation is the same on every probe image, so there is no label."));
    }
    const state = category >= 0 ? this.units.categories[category][0] : "uninterpretable";
    const images = this.units.topImages(found);
    return el("div", {}, head,
      el("p", { class: "side" }, this.swatch(category), ` ${state}, ${run.letter} = ${run.tau}`),
      this.ranking(found),
      ...(images.length ? [el("h4", {}, "Most activating images, with the pooled activation"), this.gallery(images)] : []));
  }
}

// -- differences of shares ----------------------------------------------------------------------------

const CHANGES_SHOWN = 20;

/** A table that stands in the page; the script moves and hides its rows. */
class ChangeTable {
  constructor(root) {
    this.root = root;
    this.section = root.closest("[id]").id;
    this.body = $("tbody", root);
    this.rows = $$("tr", this.body).map((node, place) => ({
      node, place,
      layer: $("th", node).title,
      category: $(".of-category", node).textContent.trim(),
      verdict: $(".of-verdict", node).textContent,
      size: Number(node.dataset.size),
      q: node.dataset.q === "nan" ? Infinity : Number(node.dataset.q),
    }));
    this.view = { layer: "", category: "", verdict: "", sort: "", all: "" };
    const select = (name, every) => el("select", { onchange: (event) => this.set({ [name]: event.target.value }) },
      el("option", { value: "" }, every),
      ...[...new Set(this.rows.map((row) => row[name]))].map((text) => el("option", { value: text }, name === "layer" ? short(text) : text)));
    this.selects = { layer: select("layer", "all layers"), category: select("category", "all categories"), verdict: select("verdict", "all verdicts") };
    this.status = el("p", { class: "status", role: "status" });
    this.more = el("button", { type: "button", class: "more", onclick: () => this.set({ all: this.view.all ? "" : "1" }) });
    const controls = el("div", { class: "controls", role: "search", "aria-label": "Filter the differences" },
      el("label", {}, "Layer", this.selects.layer), el("label", {}, "Category", this.selects.category), el("label", {}, "Verdict", this.selects.verdict));
    root.prepend(controls, this.status);
    root.append(this.more);
    this.headers = new Map($$("th[data-sort]", root).map((header) => {
      const small = $("small", header);
      const text = header.firstChild.textContent.trim();
      header.replaceChildren(el("button", { type: "button", onclick: () => this.sortBy(header.dataset.sort) }, text), small ?? "");
      return [header.dataset.sort, header];
    }));
    this.refresh();
  }

  set(change) {
    Object.assign(this.view, change);
    this.refresh();
    const params = new URLSearchParams(Object.entries(this.view).filter(([, value]) => value));
    writeFragment(this.section, params);
  }

  read(params) {
    for (const name of Object.keys(this.view)) this.view[name] = params.get(name) ?? "";
    for (const [name, select] of Object.entries(this.selects)) {
      if (![...select.options].some(({ value }) => value === this.view[name])) this.view[name] = "";
    }
    if (!this.headers.has(this.view.sort.replace("-", ""))) this.view.sort = "";
    this.refresh();
  }

  sortBy(column) {
    const falling = column === "size";
    const [first, second] = falling ? [`-${column}`, column] : [column, `-${column}`];
    this.set({ sort: this.view.sort === first ? second : first });
  }

  key(column) {
    // The first row of a layer or category stands where the page drew it; layers follow the network.
    const order = { layer: compared.runs[0].layers.map(({ name }) => name), category: [...compared.categories.map(([name]) => name), "interpretable", "uninterpretable", "dead"], verdict: ["changed", "significant, no noise floor", "not significant", "within noise", "no difference"] }[column];
    return order ? (row) => order.indexOf(row[column]) : (row) => row[column];
  }

  refresh() {
    const { view, rows } = this;
    const column = view.sort.replace("-", "");
    const key = column ? this.key(column) : (row) => row.place;
    const sign = view.sort.startsWith("-") ? -1 : 1;
    const ordered = [...rows].sort((a, b) => sign * (key(a) - key(b)) || a.place - b.place);
    let shown = 0;
    for (const row of ordered) {
      const passes = ["layer", "category", "verdict"].every((name) => !view[name] || row[name] === view[name]);
      row.node.hidden = !passes;
      if (passes) shown += 1;
      row.node.classList.toggle("folded", passes && !view.all && shown > CHANGES_SHOWN);
    }
    this.body.append(...ordered.map(({ node }) => node));
    for (const [name, select] of Object.entries(this.selects)) select.value = view[name];
    for (const [name, header] of this.headers) {
      if (name === column) header.setAttribute("aria-sort", sign < 0 ? "descending" : "ascending");
      else header.removeAttribute("aria-sort");
    }
    const cut = !view.all && shown > CHANGES_SHOWN;
    this.more.hidden = shown <= CHANGES_SHOWN;
    this.more.textContent = cut ? `Show all ${count(shown)} differences` : `Show ${CHANGES_SHOWN} only`;
    this.status.replaceChildren(el("b", {}, `${shown < rows.length ? `${count(shown)} of ` : ""}${plural(rows.length, "difference")}`),
      cut ? el("span", { class: "screen-only" }, `, the first ${CHANGES_SHOWN} are shown`) : "",
      column ? "" : ", what changed beyond noise first");
  }
}

// -- similarity of layers -----------------------------------------------------------------------------

/** Says the pair and the value of the cell under the mouse, or of the one the arrow keys reached. */
function readMap(map) {
  const table = $("table", map);
  const readout = map.parentElement.querySelector(".readout");
  const body = table.tBodies[0].rows;
  const at = { row: 0, column: 0 };
  const show = (row, column) => {
    const cell = body[row]?.cells[column + 1];
    if (!cell) return;
    Object.assign(at, { row, column });
    $(".here", table)?.classList.remove("here");
    cell.classList.add("here");
    cell.scrollIntoView({ block: "nearest", inline: "nearest" });
    const value = cell.classList.contains("no") ? "no value: one of them never varies, or there are too few images" : cell.textContent;
    readout.textContent = `${body[row].cells[0].textContent} × ${table.tHead.rows[0].cells[column + 1].textContent}: ${value}`;
  };
  table.addEventListener("mousemove", (event) => {
    const cell = event.target.closest("td");
    if (cell?.parentElement.parentElement === table.tBodies[0]) show(cell.parentElement.sectionRowIndex, cell.cellIndex - 1);
  });
  map.addEventListener("focus", () => show(at.row, at.column));
  map.addEventListener("keydown", (event) => {
    const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key] ?? [0, 0];
    if (!down && !right) return;
    event.preventDefault();
    show(at.row + down, at.column + right);
  });
}

// -- words over the runs --------------------------------------------------------------------------------

/** A word's units, run by run, in every layer that has it. */
class WordPicker {
  constructor(root) {
    this.root = root;
    const id = "words-of-all-runs";
    this.input = el("input", { type: "search", list: id, spellcheck: "false", autocomplete: "off", oninput: () => { this.draw(); writeFragment(root.id, new URLSearchParams(this.input.value ? { word: this.input.value } : {})); } });
    this.panels = el("div", { class: "panels" });
    this.status = el("p", { class: "status", role: "status" });
    root.append(
      el("div", { class: "controls" }, el("label", { class: "search" }, "Another word", this.input)),
      el("datalist", { id }, ...[...compared.concepts].sort().map((word) => el("option", { value: word }))),
      this.status, this.panels);
  }

  read(params) {
    this.input.value = params.get("word") ?? "";
    this.draw();
  }

  draw() {
    const text = this.input.value.trim().toLowerCase();
    const word = compared.concepts.findIndex((concept) => concept.toLowerCase() === text);
    const names = [...new Set(compared.runs.flatMap((run) => run.layers.map(({ name }) => name)))];
    const found = word < 0 ? [] : names.map((name) => [name, compared.runs.map((run) => {
      const layer = run.layers.find((each) => each.name === name);
      return layer ? layer.category.reduce((sum, category, unit) => sum + (category >= 0 && layer.concept[unit * layer.labels] === word ? 1 : 0), 0) : null;
    })]).filter(([, units]) => units.some((value) => value));
    const top = Math.max(1, ...found.flatMap(([, units]) => units));
    this.status.textContent = !text ? "" : found.length
      ? `“${compared.concepts[word]}” in ${plural(found.length, "layer")}; panels run from 0 to ${plural(top, "unit")}`
      : `No interpretable unit of any run carries “${this.input.value.trim()}”.`;
    this.panels.replaceChildren(...found.map(([name, units]) => this.panel(name, units, top)));
  }

  panel(name, units, top) {
    const known = units.map((value, run) => [compared.places[run], value]).filter(([, value]) => value !== null);
    const points = known.map(([x, value]) => [x, 100 - (100 * value) / top]);
    const texts = units.map((value) => (value === null ? "absent" : count(value)));
    return el("figure", { class: "panel" },
      el("figcaption", { title: name }, el("b", {}, el("bdi", {}, short(name))), el("span", {}, `${texts[0]} → ${texts.at(-1)}`)),
      shape("svg", { class: "growth", role: "img", "aria-label": `${name}: ${texts.join(", ")}`, height: 92 },
        shape("svg", { width: "100%", height: 72, y: 14, overflow: "visible" },
          shape("svg", { width: "100%", height: "100%", viewBox: "0 0 100 100", preserveAspectRatio: "none", overflow: "visible" },
            shape("path", { class: "curve", d: `M${points.map((point) => point.join(" ")).join("L")}`, "vector-effect": "non-scaling-stroke" })),
          ...points.map(([x, y]) => shape("circle", { class: "point", cx: `${x}%`, cy: `${y}%`, r: 2.5 })),
          shape("line", { class: "axis", x1: "0%", x2: "100%", y1: "100%", y2: "100%" }))));
  }
}

// -- one pair at a time ---------------------------------------------------------------------------------

function setUpComparison() {
  const units = new Map();
  const readers = new Map(); // section → what takes its view from the address
  const sections = $$("section.of-pair");
  const build = (section) => {
    const root = $(".unit-pairs", section);
    if (!root || units.has(root)) return;
    const pair = new PairUnits(compared.pairs[Number(root.dataset.pair)]);
    const table = new PairTable(root, pair, new Thumbnails(thumbnailData, pair));
    units.set(root, table);
    readers.set(table.section, table);
  };
  const thumbnailData = readBlock("thumbnail-data") ?? {};
  for (const root of $$(".change-table")) {
    const table = new ChangeTable(root);
    readers.set(table.section, table);
  }
  for (const root of $$(".word-picker")) readers.set(root.id, new WordPicker(root));
  $$(".map").forEach(readMap);

  const choose = (section) => {
    build(section);
    for (const part of $$(".of-pair")) part.classList.toggle("folded", part.dataset.pair !== section.id);
    for (const link of $$(".chooser a")) {
      if (link.hash === `#${section.id}`) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };

  const show = () => {
    const { section, query } = readFragment();
    const target = section && document.getElementById(section);
    if (!target) return;
    const pair = target.closest("section.of-pair");
    if (pair) choose(pair);
    if (query !== null) readers.get(section)?.read(query);
    // What was folded a moment ago could not be scrolled to.
    if (pair || query !== null) target.scrollIntoView();
  };

  if (sections.length) choose(sections[0]);
  addEventListener("beforeprint", () => sections.forEach(build));
  addEventListener("hashchange", show);
  show();
}

setUpComparison();

