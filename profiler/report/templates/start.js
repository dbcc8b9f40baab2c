// -- putting it together -----------------------------------------------------------------------------

function setUpUnitTables() {
  const data = readBlock("unit-data");
  if (!data) return;
  const units = new Units(data);
  const thumbnails = new Thumbnails(readBlock("thumbnail-data") ?? {}, units);
  const tables = new Map();
  const build = (root) => {
    if (!tables.has(root)) tables.set(root, new UnitTable(root, units, thumbnails));
    return tables.get(root);
  };

  // A table in a closed section is drawn when the section opens. Of the others the first is drawn
  // at once, and each of the rest in a task of its own, so that no task is long.
  const waiting = [];
  for (const root of $$(".unit-table")) {
    const closed = root.closest("details:not([open])");
    if (closed) closed.addEventListener("toggle", () => build(root), { once: true });
    else waiting.push(root);
  }
  const next = () => {
    if (waiting.length) build(waiting.shift());
    if (waiting.length) setTimeout(next);
  };
  next();
  addEventListener("beforeprint", () => waiting.splice(0).forEach(build));

  const show = () => {
    const { section, query } = readFragment();
    const target = section && document.getElementById(section);
    if (!target) return;
    if (target.tagName === "DETAILS") target.open = true;
    // The tables above are drawn first, or they would push the target away once they are.
    const above = (root) => target.compareDocumentPosition(root) & Node.DOCUMENT_POSITION_PRECEDING;
    waiting.filter(above).forEach(build);
    const root = $(".unit-table", target);
    if (root && query) build(root).read(query);
    if (query) (root && target.tagName === "DETAILS" ? root : target).scrollIntoView();
  };

  // Links name a section, so they work without this script; with it they name a view as well.
  for (const link of $$("a[data-view]")) link.href = `#${link.dataset.view}`;
  for (const part of $$("svg [data-view]")) part.addEventListener("click", () => { location.hash = part.dataset.view; });
  addEventListener("hashchange", show);
  show();
}

function followContents() {
  const links = new Map($$(".contents a").map((link) => [link.hash.slice(1), link]));
  const inView = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) inView.add(target.id);
      else inView.delete(target.id);
    }
    const current = [...links.keys()].filter((id) => inView.has(id)).at(-1);
    for (const [id, link] of links) {
      if (id !== current) {
        link.removeAttribute("aria-current");
        continue;
      }
      link.setAttribute("aria-current", "true");
      const list = link.closest("ul");
      const below = link.getBoundingClientRect().bottom - list.getBoundingClientRect().bottom;
      const above = link.getBoundingClientRect().top - list.getBoundingClientRect().top;
      list.scrollTop += Math.max(0, below) + Math.min(0, above);
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  for (const id of links.keys()) {
    const target = document.getElementById(id);
    if (target) observer.observe(target);
  }
}

/** Whether bars show units below the criterion in pale colours. */
function switchPale() {
  const pale = $("#pale");
  if (!pale) return;
  const set = () => document.documentElement.classList.toggle("unpaled", !pale.checked);
  pale.addEventListener("change", set);
  set();
}

document.documentElement.classList.add("scripted");
switchPale();
setUpUnitTables();
offerCharts();
followContents();
