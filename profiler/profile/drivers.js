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
