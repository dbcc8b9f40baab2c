// Where in its images a unit responds: outlines over the thumbnails. A picture is shown once; its
// outline, what the network did not see, and the crop on hover are drawn by the page.

const outlines = readBlock("outline-data");

if (outlines) {
  const value = new Map([...outlines.letters].map((letter, i) => [letter, i / (outlines.letters.length - 1)]));
  const numbers = (text) => Array.from(text, (letter) => value.get(letter));

  Units = class extends Units {
    /** As before, each with its outline: rings of points, or null where that is not known. */
    topImages(row) {
      const layer = outlines.layers[this.layer[row]];
      const texts = (layer.text[this.alive[row]] ?? "-").split("|");
      return super.topImages(row).map(([image, activation], rank) => {
        const text = texts[rank] ?? "-";
        const rings = text === "-" ? null : text.split("/").filter(Boolean).map(numbers);
        return [image, activation, rings];
      });
    }
  };

  Thumbnails = class extends Thumbnails {
    node(image, rings = null) {
      const picture = super.node(image);
      if (!rings || picture.tagName !== "IMG") return picture;
      const frame = numbers(outlines.frames[this.units.imageIndex[image]] ?? "");
      const box = el("span", { class: "where" }, picture);
      const draw = () => drawOutline(box, picture, rings, frame);
      if (picture.complete && picture.naturalWidth) queueMicrotask(draw);
      else picture.addEventListener("load", draw, { once: true });
      picture.alt += `: ${placeOf(rings)}`;
      picture.title = picture.alt;
      return box;
    }
  };

  UnitTable = class extends UnitTable {
    gallery(images) {
      const node = super.gallery(images);
      images.forEach(([, , rings], place) => {
        if (rings && !rings.length) $("figcaption b", node.children[place]).append(el("small", {}, " diffuse"));
      });
      return node;
    }

    detailNode(row) {
      const node = super.detailNode(row);
      const shown = this.units.category[row] === DEAD ? [] : this.units.topImages(row);
      const known = shown.filter(([, , rings]) => rings).length;
      if (known) $(".gallery", node)?.after(outlineLegend(outlines.layers[this.units.layer[row]].covered, shown.length - known));
      else if (shown.length) $(".gallery", node)?.after(el("p", { class: "note" }, "It was not looked at where in these images the unit responds."));
      return node;
    }
  };
}

/** The outline over a picture, hatches over what the network did not see, and the crop on hover. */
function drawOutline(box, picture, rings, frame) {
  const { naturalWidth: width, naturalHeight: height } = picture;
  const whole = Boolean(box.closest(".gallery"));
  const path = rings.map((ring) => {
    const points = [];
    for (let i = 0; i < ring.length; i += 2) points.push(`${(ring[i] * width).toFixed(1)} ${(ring[i + 1] * height).toFixed(1)}`);
    return `M${points.join("L")}Z`;
  }).join("");
  const svg = shape("svg", { class: "outline", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true",
    preserveAspectRatio: whole ? "xMidYMid meet" : "xMidYMid slice" });
  if (frame.length === 4) {
    const [left, top, right, bottom] = [frame[0] * width, frame[1] * height, frame[2] * width, frame[3] * height].map((edge) => edge.toFixed(1));
    const unseen = `M0 0H${width}V${height}H0ZM${left} ${top}V${bottom}H${right}V${top}Z`;
    svg.append(shape("path", { class: "unseen", d: unseen, "fill-rule": "evenodd" }),
      shape("path", { d: unseen, "fill-rule": "evenodd", fill: "url(#hatch)" }));
  }
  if (path) {
    svg.append(shape("path", { class: "halo", d: path, "vector-effect": "non-scaling-stroke" }),
      shape("path", { class: "line", d: path, "vector-effect": "non-scaling-stroke" }));
    box.style.setProperty("--crop", cropOf(rings, width, height, whole));
    box.classList.add("cropped");
  }
  box.append(svg);
}

/** Left, top, right and bottom of rings. */
function bounds(rings) {
  const all = rings.flat();
  const x = all.filter((_, i) => i % 2 === 0);
  const y = all.filter((_, i) => i % 2 === 1);
  return [Math.min(...x), Math.min(...y), Math.max(...x), Math.max(...y)];
}

/** What brings the square round an outline, at least a third of the side, to fill the box. */
function cropOf(rings, width, height, whole) {
  const [left, top, right, bottom] = bounds(rings);
  const scale = 1 / (whole ? Math.max(width, height) : Math.min(width, height));
  const side = Math.max((right - left) * width * scale, (bottom - top) * height * scale) * 1.1;
  const zoom = 1 / Math.min(1, Math.max(side, 1 / 3));
  const move = (middle, length) => {
    const place = (middle - 0.5) * length * scale + 0.5;
    return 100 * Math.min(0, Math.max(1 - zoom, 0.5 - zoom * place));
  };
  return `translate(${move((left + right) / 2, width)}%, ${move((top + bottom) / 2, height)}%) scale(${zoom})`;
}

/** Where rings lie, in words. */
function placeOf(rings) {
  if (!rings.length) return "diffuse, no place stands out";
  const [left, top, right, bottom] = bounds(rings);
  const third = (place, names) => names[Math.min(2, Math.floor(3 * place))];
  const where = `${third((top + bottom) / 2, ["upper ", "", "lower "])}${third((left + right) / 2, ["left", "middle", "right"])}`;
  let area = 0;
  for (const ring of rings) {
    for (let i = 0; i < ring.length; i += 2) {
      const j = (i + 2) % ring.length;
      area += (ring[i] * ring[j + 1] - ring[j] * ring[i + 1]) / 2;
    }
  }
  return `responds at the ${where}, ${Math.max(1, Math.round(100 * area))} % of the picture`;
}

function outlineLegend(covered, left) {
  const key = (...parts) => shape("svg", { class: "outline key", width: 14, height: 14, "aria-hidden": "true" }, ...parts);
  return el("p", { class: "note keys" },
    el("span", {}, key(shape("rect", { class: "halo", x: 2, y: 2, width: 10, height: 10, rx: 3 }), shape("rect", { class: "line", x: 2, y: 2, width: 10, height: 10, rx: 3 })),
      covered
        ? " when covered: the activation falls by more than half of its largest fall where these parts are covered"
        : " where the unit responds: its map, of which the activation is the mean or the largest value, exceeds all but 0.5 % of its values"),
    el("span", {}, key(shape("rect", { class: "under", width: 14, height: 14 }), shape("rect", { class: "unseen", width: 14, height: 14 }), shape("rect", { width: 14, height: 14, fill: "url(#hatch)" })),
      " cropped away before the network"),
    el("span", {}, `Point at a picture to see the part alone. Diffuse: no part stands out.${left ? ` ${plural(left, "picture")} without an outline ${left === 1 ? "was" : "were"} not looked at.` : ""}`));
}
