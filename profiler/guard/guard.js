
// -- guard: pointing at a name in a legend, or stepping to it, brings out its line --------------

for (const legend of document.querySelectorAll(".lines")) {
  const scope = legend.closest(".plot") || legend.parentElement;
  const light = (name) => {
    scope.classList.toggle("lit", Boolean(name));
    for (const mark of scope.querySelectorAll("[data-line]")) {
      mark.classList.toggle("lit-line", mark.dataset.line === name);
    }
  };
  for (const item of legend.children) {
    item.tabIndex = 0;
    for (const event of ["pointerenter", "focus"]) item.addEventListener(event, () => light(item.dataset.line));
    for (const event of ["pointerleave", "blur"]) item.addEventListener(event, () => light(""));
  }
}
