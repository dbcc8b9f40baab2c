// What a reader takes along: each chart as SVG and CSV, the units of a view as CSV, a link to it.

const PAINT = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linejoin",
  "opacity", "font-family", "font-size", "font-weight", "text-anchor", "dominant-baseline", "paint-order", "vector-effect", "overflow"];
const CHARTS = "main .bars, main svg.histogram, main .panels, main svg.strip";
const EDGE = 28; // what a chart draws beyond its box

/** A copy of a node of an SVG that needs no style sheet; null of what is not shown. */
function painted(node) {
  if (node.nodeType !== Node.ELEMENT_NODE) return node.cloneNode();
  const style = getComputedStyle(node);
  if (style.display === "none") return null;
  const copy = node.cloneNode(false);
  for (const name of ["class", "data-view", "tabindex"]) copy.removeAttribute(name);
  if (!["title", "defs", "pattern"].includes(node.localName)) {
    for (const name of PAINT) copy.setAttribute(name, style.getPropertyValue(name).replace(/url\("#(\w+)"\)/, "url(#$1)"));
  }
  copy.append(...[...node.childNodes].map(painted).filter(Boolean));
  return copy;
}

/** A chart, with the words beside its pictures, as the text of one SVG. */
function drawingOf(chart) {
  const box = chart.getBoundingClientRect();
  const [width, height] = [box.width + 2 * EDGE, box.height + 2 * EDGE];
  const at = (rect) => [rect.left - box.left + EDGE, rect.top - box.top + EDGE];
  const root = shape("svg", { xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}` },
    shape("rect", { width, height, fill: getComputedStyle(document.body).backgroundColor }));
  const textures = $(".textures defs");
  if (textures) root.append(painted(textures));
  const pictures = chart.matches("svg") ? [chart] : $$("svg", chart).filter((svg) => !svg.parentElement.closest("svg"));
  for (const picture of pictures) {
    const copy = painted(picture);
    if (!copy) continue;
    const rect = picture.getBoundingClientRect();
    const [x, y] = at(rect);
    for (const [name, value] of Object.entries({ x, y, width: rect.width, height: rect.height })) copy.setAttribute(name, value);
    root.append(copy);
  }
  for (const image of $$("img", chart)) {
    const { width: across, height: down, ...rect } = image.getBoundingClientRect().toJSON();
    const [x, y] = at(rect);
    if (across) root.append(shape("image", { x, y, width: across, height: down, href: image.src }));
  }
  const words = document.createTreeWalker(chart, NodeFilter.SHOW_TEXT);
  while (!chart.matches("svg") && words.nextNode()) {
    const word = words.currentNode;
    if (!word.data.trim() || word.parentElement.closest("svg")) continue;
    const range = document.createRange();
    range.selectNodeContents(word);
    const rect = range.getBoundingClientRect();
    if (!rect.width) continue;
    const style = getComputedStyle(word.parentElement);
    const [x, y] = at(rect);
    root.append(shape("text", { x, y: y + 0.76 * rect.height, fill: style.color, "font-size": style.fontSize,
      "font-family": style.fontFamily, "font-weight": style.fontWeight }, word.data.trim()));
  }
  return new XMLSerializer().serializeToString(root);
}

/** What a cell says, and what it says in small print. */
function textsOf(cell) {
  const copy = cell.cloneNode(true);
  const small = [...copy.querySelectorAll("small")].map((node) => node.textContent.trim()).join(" ");
  for (const node of copy.querySelectorAll("small, title")) node.remove();
  return [copy.textContent.trim().replace(/\s+/g, " "), small];
}

/** Rows of such pairs; small print stands in a column of its own wherever a column has some. */
function spread(rows) {
  const wide = rows[0].map((_, column) => rows.slice(1).some((row) => row[column]?.[0] && row[column][1]));
  return rows.map((row) => row.flatMap(([text, small], column) => (wide[column] ? [text, small] : [text || small])));
}

const rowsOf = (table) => spread([...table.rows].map((row) => [...row.cells].map(textsOf)));

/** What a chart says: the table of its numbers or, where there is none, its tips. */
function numbersOf(chart) {
  const around = chart.closest("details.layer, section");
  const table = $$("table", around).find((each) => !each.closest(".unit-table, noscript")
    && chart.compareDocumentPosition(each) & Node.DOCUMENT_POSITION_FOLLOWING);
  if (table) return rowsOf(table);
  const tips = $$("title", chart).map((title) => {
    const [, what, value] = /^(.*?)(?:: (.*))?$/s.exec(title.textContent.trim());
    return [title.closest(".row")?.querySelector(".name")?.textContent.trim() ?? "", what, value ?? ""];
  });
  return [["row", "what", "value"], ...tips];
}

const csvOf = (rows) => rows.map((row) => row.map((cell) => {
  const text = String(cell ?? "").replace(/\u202f/g, " ").replace(/−/g, "-");
  return /[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}).join(",")).join("\n") + "\n";

/** Hand a file to the reader. */
function save(name, type, text) {
  const link = el("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const fileName = (...parts) => parts.join(" ").toLowerCase().replace(/[^a-z0-9.]+/g, "-").replace(/^-|-$/g, "").slice(0, 80);

function titleOf(chart) {
  const around = chart.closest("details.layer, section");
  return $("h3, h2", around)?.textContent ?? "chart";
}

/** A button that says what it did for a moment. */
function pressed(text, act, done = "") {
  const button = el("button", { type: "button", onclick: () => {
    act();
    if (!done) return;
    button.textContent = done;
    setTimeout(() => { button.textContent = text; }, 1500);
  } }, text);
  return button;
}

/** Two buttons that hand a chart to the reader: its drawing, and its rows of numbers. */
function offerChart(title, drawing, rows) {
  return el("p", { class: "take" },
    pressed("SVG", () => save(`${fileName(title)}.svg`, "image/svg+xml", drawing())),
    pressed("CSV", () => save(`${fileName(title)}.csv`, "text/csv", csvOf(rows()))));
}

function offerCharts() {
  for (const chart of $$(CHARTS)) chart.after(offerChart(titleOf(chart), () => drawingOf(chart), () => numbersOf(chart)));
}

/** Copy a text, also where a page has no clipboard. */
function copy(text) {
  if (navigator.clipboard) {
    navigator.clipboard.writeText(text).catch(() => copyByHand(text));
    return;
  }
  copyByHand(text);
}

function copyByHand(text) {
  const area = el("textarea", { class: "hidden" });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** Buttons below a table of units: its view as a link, its units as CSV. */
function offerUnits(table) {
  return el("p", { class: "take" },
    pressed("Copy link to this view", () => { writeFragment(table.section, table.params()); copy(location.href); }, "Copied"),
    pressed("CSV of these units", () => save(`${fileName(table.section)}.csv`, "text/csv", csvOf(table.rowsToTake()))));
}
