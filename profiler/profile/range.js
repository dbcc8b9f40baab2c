// What the whole range of each unit follows, in the unit tables: a column, and a part of the opened
// row. Only where that was worked out; comes between the tables and what sets them up.

const ranges = readBlock("range-data");

/** Units with the correlation of their explanation. */
Units = class extends Units {
  constructor(data) {
    super(data);
    this.r = new Float64Array(this.length).fill(NaN);
    ranges.layers.forEach((layer, index) => {
      layer.start = [];
      let start = 0;
      layer.n.forEach((n, unit) => {
        layer.start.push(start);
        start += n;
        this.r[this.layers[index].start + unit] = layer.r[unit] ?? NaN;
      });
    });
  }

  key(column) {
    return column === "range" ? (row) => this.r[row] : super.key(column);
  }

  /** The explanation of a unit: its words with their weights, and how well they predict. */
  explanation(row) {
    const layer = ranges.layers[this.layer[row]];
    const unit = row - this.layers[this.layer[row]].start;
    const from = layer.start[unit];
    return {
      words: Array.from({ length: layer.n[unit] }, (_, i) => [ranges.words[layer.word[from + i]], layer.weight[from + i]]),
      r: layer.r[unit], ceiling: layer.ceiling[unit], explained: layer.explained[unit] === 1,
      agreement: layer.agreement[unit], specificity: layer.specificity[unit],
      equals: (layer.equals[unit] ?? []).map((word) => ranges.words[word]),
    };
  }

  /** Images from all over a unit's range: the strongest, then two of each quarter, highest first.
   * Null in place of one that lacks. */
  rangeImages(row) {
    const layer = ranges.layers[this.layer[row]];
    const each = layer.images.length / layer.n.length;
    const from = (row - this.layers[this.layer[row]].start) * each;
    return Array.from({ length: each }, (_, i) => (layer.images[from + i] < 0 ? null : [layer.images[from + i], layer.activation[from + i]]));
  }

  /** How the sampled images spread over a unit's range: heights, and its ends. */
  spectrum(row) {
    const layer = ranges.layers[this.layer[row]];
    const unit = row - this.layers[this.layer[row]].start;
    const [strongest] = this.rangeImages(row);
    if (!layer.density || !strongest) return null;
    return { heights: Array.from(layer.density[unit], Number), low: layer.low[unit], high: strongest[1] };
  }
};

UnitTable = class extends UnitTable {
  build() {
    this.columns.push(["range", "Whole range: r, words"]);
    this.width += 1;
    super.build();
  }

  rowNode(row, open) {
    const node = super.rowNode(row, open);
    const { words, r, explained } = this.units.explanation(row);
    const text = words.map(([word]) => word).join(", ");
    $(".col-category", node).after(el("td", { class: "col-range", role: "cell", title: text },
      ...(isNumber(r) ? [el("small", {}, fixed(r, 2)), explained ? ` ${text}` : ` (${text})`] : ["–"])));
    return node;
  }

  detailNode(row) {
    const node = super.detailNode(row);
    const found = this.units.explanation(row);
    $(".opened > div", node)?.prepend(el("h4", {}, "What its whole range follows"), ...told(found));
    $(".opened > div:last-child", node)?.append(...this.spectrum(row));
    return node;
  }

  /** The density of the activation, with images of each quarter of the range below it. */
  spectrum(row) {
    const [strongest, ...others] = this.units.rangeImages(row);
    if (!strongest) return [];
    const spread = this.units.spectrum(row);
    const column = (name, images) => el("div", {}, el("h5", {}, name), this.gallery(images.filter(Boolean)));
    const two = (quarter) => others.slice(2 * (3 - quarter), 2 * (3 - quarter) + 2);
    return [el("h4", {}, "Its whole range, and images from each quarter of it"),
      el("div", { class: "spectrum" },
        ...(spread ? [density(spread, `Activation of ${this.units.layers[this.units.layer[row]].name} ${this.units.unit[row]}`)] : []),
        ...["lowest", "second", "third", "highest"].map((name, quarter) => column(name, two(quarter))),
        column("strongest", [strongest])),
      ...(spread ? [el("p", { class: "note" }, "Images by activation, a random sample; heights are the square roots of their numbers.")] : [])];
  }
};

/** A histogram over the quarters of a range. */
function density({ heights, low, high }, title) {
  const edge = (i) => Number((low + ((high - low) * i) / heights.length).toPrecision(4));
  const bar = (height, i) => shape("rect", { x: `${(100 * i) / heights.length}%`, y: `${100 - (100 * height) / 9}%`, width: `${100 / heights.length}%`, height: `${(100 * height) / 9}%` });
  const figure = el("figure", { class: "density" },
    shape("svg", { role: "img", "aria-label": `Activation from ${figures(low)} to ${figures(high)}` },
      ...heights.map(bar),
      ...[25, 50, 75].map((x) => shape("line", { class: "grid", x1: `${x}%`, x2: `${x}%`, y2: "100%" })),
      shape("line", { class: "axis", x2: "100%", y1: "100%", y2: "100%" })),
    el("figcaption", {}, el("span", {}, figures(low)), el("span", {}, figures(high))));
  const chart = $("svg", figure);
  figure.append(offerChart(title, () => drawingOf(chart),
    () => [["from", "to", "height"], ...heights.map((height, i) => [edge(i), edge(i + 1), height])]));
  return figure;
}

/** The words as bars, and a sentence on how well they predict. */
function told({ words, r, ceiling, explained, agreement, specificity, equals }) {
  if (!isNumber(r)) return [el("p", { class: "note" }, "The unit does not vary enough to be explained.")];
  const most = Math.max(...words.map(([, weight]) => weight));
  const list = el("ol", { class: "ranking" }, ...words.map(([word, weight]) => el("li", {},
    el("span", {}, word), el("span", {}, fixed(weight, 2)),
    shape("svg", { class: "meter", "aria-hidden": "true" }, shape("rect", { width: `${(100 * weight) / most}%`, height: "100%" })))));
  const verdict = explained ? "explained" : `not explained: with all its words it does not reach ${ranges.cut}`;
  const better = isNumber(specificity) ? ` Its own words predict it better than ${Math.round(100 * specificity)} % of the layer’s other explanations do.` : "";
  return [list, el("p", { class: "note" },
    `r = ${fixed(r, 2)} on held-out images, of at most ${fixed(ceiling, 2)}; ${verdict}. The leading word is the same in ${agreement} of 5 parts of the images.${better}`),
  ...(equals.length ? [el("p", { class: "note" }, `Other words that alone predict it as well, within one standard error: ${equals.join(", ")}.`)] : [])];
}
