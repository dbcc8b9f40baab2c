// What drives each unit by experiment, in the opened rows of a profile. The page of an experiment
// alone has no units.

const driven = readBlock("drivers-data");

if (driven) {
  UnitTable = class extends UnitTable {
    detailNode(row) {
      const node = super.detailNode(row);
      const layer = this.units.layer[row];
      const unit = row - this.units.layers[layer].start;
      $(".opened > div", node)?.prepend(
        el("h4", {}, "What drives it, by experiment"), ...driversOf(driven.layers[layer], unit),
        ...followedWords(this.wordsOf(row, layer, unit)));
      $(".opened > div:last-child", node)?.append(...levelsOf(driven.layers[layer], unit, this.wordsOf(row, layer, unit), this.units.layers[layer].name));
      return node;
    }

    /** The unit's words, each with y, n or - for whether it follows it. */
    wordsOf(row, layer, unit) {
      const { labels, words } = driven.layers[layer];
      const ranks = labels.length / this.units.layers[layer].category.length;
      const found = new Map(this.units.nextLabels(row).slice(0, ranks)
        .map(([word], rank) => [word, labels[unit * ranks + rank]]));
      if (words && this.units.explanation) {
        const most = words.length / this.units.layers[layer].category.length;
        this.units.explanation(row).words.forEach(([word], rank) => found.set(word, words[unit * most + rank]));
      }
      return found;
    }
  };
}

/** The factors with the largest shares as bars with intervals. */
function driversOf({ factor, level, share, half }, unit) {
  const from = unit * driven.each;
  const found = Array.from({ length: driven.each }, (_, i) => from + i).filter((i) => share[i] !== null && share[i] > 0);
  if (!found.length) return [el("p", { class: "note" }, "The unit does not vary on the drawn scenes, or with none of their factors.")];
  const most = Math.max(...found.map((i) => share[i] + half[i]));
  const at = (value) => `${(100 * Math.max(value, 0)) / most}%`;
  return [el("ol", { class: "ranking driven" }, ...found.map((i) => el("li", {},
    el("span", {}, driven.factors[factor[i]], el("small", {}, ` most at ${driven.levels[level[i]]}`)),
    el("span", {}, `${fixed(100 * share[i], 0)}\u202f%`, el("small", {}, ` ±${fixed(100 * half[i], 0)}`)),
    shape("svg", { class: "meter", "aria-hidden": "true" },
      shape("rect", { width: at(share[i]), y: 2, height: 3 }),
      shape("line", { x1: at(share[i] - half[i]), x2: at(share[i] + half[i]), y1: 3.5, y2: 3.5 })))))];
}

/** A sentence on the words that name what the scenes vary. */
function followedWords(words) {
  const of = (code) => [...words].filter(([, said]) => said === code).map(([word]) => word);
  const [followed, others] = [of("y"), of("n")];
  if (!followed.length && !others.length) return [];
  const parts = [
    ...(followed.length ? [`Of its words it follows ${followed.join(", ")}`] : []),
    ...(others.length ? [followed.length ? `not ${others.join(", ")}` : `Of its words it does not follow ${others.join(", ")}`] : []),
  ];
  const rest = words.size - followed.length - others.length;
  return [el("p", { class: "note" }, `${parts.join("; ")}.${rest ? ` ${plural(rest, "other word")} cannot be asked for by the scenes.` : ""}`)];
}

/** The effect of each level of the factors that drive a unit, and of those that its words name. */
function levelsOf(layer, unit, words, name) {
  if (!layer.effects) return [];
  const from = unit * driven.each;
  const strongest = Array.from({ length: driven.each }, (_, i) => from + i)
    .filter((i) => layer.share[i] !== null && layer.share[i] > layer.half[i]).map((i) => layer.factor[i]);
  const named = new Set([...words.keys()].flatMap((word) => driven.named[word] ?? []));
  const factors = new Set([...strongest, ...[...named].map((column) => driven.of[column])]);
  if (!factors.size) return [];
  return [el("h4", {}, "What each level does to it, by experiment"),
    ...[...factors].map((factor, place) => el("details", { class: "levels", ...(place ? {} : { open: true }) },
      el("summary", {}, `Effect of each ${driven.factors[factor]}`), levelTable(layer, unit, factor, named, name)))];
}

/** A row a level, the strongest first: effect with its interval, and the scenes that show it. */
function levelTable(layer, unit, factor, named, name) {
  const [most, widest] = driven.most;
  const digit = (letter) => driven.letters.indexOf(letter);
  const base = driven.letters.length;
  const found = driven.of.flatMap((of, column) => {
    if (of !== factor) return [];
    const at = unit * driven.of.length + column;
    const code = digit(layer.effects[2 * at]) * base + digit(layer.effects[2 * at + 1]);
    return [{ column, effect: most * ((2 * code) / (base * base - 1) - 1), half: (widest * digit(layer.errors[at])) / (base - 1) }];
  }).sort((a, b) => b.effect - a.effect);
  const reach = Math.max(0.1, ...found.map(({ effect, half }) => Math.abs(effect) + half));
  const x = (value) => `${50 + (50 * value) / reach}%`;
  const rows = found.map(({ column, effect, half }) => el("li", named.has(column) ? { class: "named" } : {},
    el("span", {}, driven.levels[column]),
    shape("svg", { class: "effect", "aria-hidden": "true" },
      shape("line", { class: "zero", x1: "50%", x2: "50%", y2: "100%" }),
      shape("line", { class: "reach", x1: x(effect - half), x2: x(effect + half), y1: "50%", y2: "50%" }),
      shape("circle", { cx: x(effect), cy: "50%", r: 3.5 })),
    el("span", { class: "figure" }, `${fixed(effect, 2)} `, el("small", {}, `±${fixed(half, 2)}`)),
    el("span", { class: "scenes" }, ...(driven.place ?? []).map((scene) => variant(layer, unit, scene, column)))));
  const list = el("ol", {}, ...rows);
  return el("div", {}, list,
    offerChart(`Effect of each ${driven.factors[factor]} on ${name} ${unit}`, () => drawingOf(list),
      () => [["level", "effect", "half interval"], ...found.map(({ column, effect, half }) => [driven.levels[column], effect.toFixed(3), half.toFixed(3)])]),
    el("p", { class: "note" }, "Standard deviations by which the unit is more active at the level than at all others, with 95 % intervals, over all scenes of the experiment. "
      + (driven.place ? "The pictures: two scenes in which nothing but the level changes, each with the unit’s activation." : "")));
}

/** A scene with a level, and what the unit makes of it. */
function variant(layer, unit, scene, column) {
  const picture = scene[column];
  const [low, high] = [layer.ends[2 * unit], layer.ends[2 * unit + 1]];
  const share = driven.letters.indexOf(layer.variants[unit * driven.pictures.length + picture]) / (driven.letters.length - 1);
  const value = figures(low + share * (high - low));
  return el("figure", {}, el("img", { src: `data:image/webp;base64,${driven.pictures[picture]}`, width: 48, height: 48, alt: `scene, ${driven.levels[column]}`, title: `${driven.levels[column]}: activation ${value}`, decoding: "async" }),
    el("figcaption", {}, value));
}
