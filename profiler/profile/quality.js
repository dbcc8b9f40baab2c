// How well labels hold, in the unit tables: a column, and a part of the opened row. Only where it
// was measured; comes between the tables and what sets them up.

const quality = readBlock("quality-data");

/** Units with the number of draws that kept their label. */
Units = class extends Units {
  constructor(data) {
    super(data);
    this.kept = new Float64Array(this.length).fill(NaN);
    quality.layers.forEach(({ kept }, layer) => kept.forEach((draws, unit) => {
      if (draws >= 0) this.kept[this.layers[layer].start + unit] = draws;
    }));
  }

  key(column) {
    return column === "survival" ? (row) => this.kept[row] : super.key(column);
  }
};

UnitTable = class extends UnitTable {
  build() {
    this.columns.splice(-1, 0, ["survival", "Survival"]);
    this.width += 1;
    super.build();
  }

  rowNode(row, open) {
    const node = super.rowNode(row, open);
    const kept = this.units.kept[row];
    $(".col-category", node).before(el("td", { class: "col-survival", role: "cell" },
      isNumber(kept) ? `${kept} of ${quality.draws}` : "–"));
    return node;
  }

  detailNode(row) {
    const node = super.detailNode(row);
    $(".opened > div", node)?.append(el("h4", {}, "On other images"), ...held(this.units, row));
    return node;
  }
};

/** What was measured of a unit, in sentences. */
function held(units, row) {
  const layer = units.layer[row];
  const unit = row - units.layers[layer].start;
  const { kept, lost, others, correlation, auprc, chance, held: label } = quality.layers[layer];
  const sentences = [];
  if (kept[unit] >= 0) {
    const instead = [];
    for (let i = 0; i < others[unit].length; i += 2) {
      instead.push(`${quality.words[others[unit][i]]} ${others[unit][i + 1]}`);
    }
    if (lost?.[unit]) instead.push(`no label ${lost[unit]}`);
    sentences.push(`Kept in ${kept[unit]} of ${plural(quality.draws, "draw")}${instead.length ? `; otherwise ${instead.join(", ")}` : ""}.`);
  }
  if (label[unit] < 0) {
    sentences.push("This unit does not vary on the images that are not held out.");
  } else {
    const word = quality.words[label[unit]];
    const whose = word === units.concepts[units.concept[row]]
      ? "The images not held out give the same label."
      : `The images not held out give the label “${word}”.`;
    sentences.push(`${whose} On the ${count(quality.images)} others its correlation is ${fixed(correlation[unit], 2)}, its AUPRC ${fixed(auprc[unit], 2)} (chance ${quality.chances[chance[unit]]}).`);
  }
  return sentences.map((sentence) => el("p", { class: "note held" }, sentence));
}

