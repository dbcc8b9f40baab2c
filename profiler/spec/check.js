// Choosing among specs: by how they ended, and by words. The choice stands in the URL's fragment.

function chooseSpecs() {
  const place = document.getElementById("spec-filter");
  if (!place) return;
  const all = [...document.querySelectorAll("[data-final]")];
  const listed = [...document.querySelectorAll(".spec-table [data-final]")];
  if (listed.length < 8) return;
  const counts = new Map();
  for (const row of listed) counts.set(row.dataset.final, (counts.get(row.dataset.final) || 0) + 1);
  const words = { holds: "holds", fails: "fails", undecided: "undecided", measured: "measured only" };

  const select = document.createElement("select");
  select.append(new Option(`all ${listed.length}`, ""));
  for (const [final, many] of counts) select.append(new Option(`${words[final]} (${many})`, final));
  const search = document.createElement("input");
  search.type = "search";
  search.placeholder = "name, class or concept";
  const label = (text, control, name = "") => {
    const made = document.createElement("label");
    made.className = name;
    made.append(text, control);
    return made;
  };
  const status = document.createElement("p");
  status.className = "status";
  status.setAttribute("role", "status");
  place.append(label("Outcome", select), label("Search", search, "search"), status);

  const show = () => {
    const wanted = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (row) =>
      (!select.value || row.dataset.final === select.value) &&
      wanted.every((word) => row.dataset.words.includes(word));
    for (const row of all) row.hidden = !fits(row);
    const many = listed.filter((row) => !row.hidden).length;
    status.textContent = many === listed.length ? "" : `${many} of ${listed.length} specs`;
  };
  const keep = () => {
    const state = new URLSearchParams();
    if (select.value) state.set("outcome", select.value);
    if (search.value.trim()) state.set("words", search.value.trim());
    history.replaceState(null, "", `${state}` ? `#specs?${state}` : "#specs");
    show();
  };
  const recall = () => {
    const [name, query] = location.hash.slice(1).split("?");
    if (name === "specs" && query) {
      const state = new URLSearchParams(query);
      select.value = state.get("outcome") || "";
      search.value = state.get("words") || "";
      show();
    }
  };
  select.addEventListener("change", keep);
  search.addEventListener("input", keep);
  addEventListener("hashchange", recall);
  recall();
}

// A link to a spec opens it.
function openLinked() {
  const open = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") {
      target.hidden = false;
      target.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", open);
  open();
}

chooseSpecs();
openLinked();
