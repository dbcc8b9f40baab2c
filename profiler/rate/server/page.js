// The rating page: draws what the server says, and sends answers. It keeps no answer of its own.

const KEYS = { y: "yes", m: "maybe", n: "no", s: "skip", u: "undo" };
const NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
const PATIENCE = 4000; // milliseconds that a picture may take before the question counts as shown

const $ = (id) => document.getElementById(id);
const inWords = (number) => NUMBERS[number] ?? String(number);
const range = (from, to) => (from === to ? String(from) : `${from} to ${to}`);

let setup = null;
let state = null;
let busy = true; // no answer is taken while a question is on its way
let pace = []; // when answers were given, on this visit

// -- the server -----------------------------------------------------------------------------------

async function ask(path, content) {
  const options = content === undefined ? {} : {
    method: "POST",
    headers: { "content-type": "application/json", "x-profiler-token": setup.token },
    body: JSON.stringify(content),
  };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer, so this answer was not kept. Start `profiler rate` again and open the address it prints; everything before this question is on the disk.");
  }
  const type = response.headers.get("content-type") ?? "";
  const found = type.startsWith("application/json") ? await response.json() : { error: await response.text() };
  if (!response.ok) throw new Error(found.error);
  return found;
}

function complain(error) {
  $("trouble").textContent = error ? error.message : "";
  $("trouble").hidden = !error;
}

// -- one question ---------------------------------------------------------------------------------

function picture(id, place) {
  const image = new Image();
  image.src = `/image/${id}`;
  image.alt = `Image ${place + 1} of the unit’s ${setup.view === "range" ? "range, strongest first" : "most activating ones"}`;
  image.decoding = "async";
  return image;
}

/** A picture of the range: how strongly the unit responds to it stands below. */
function figure(image, { text, share }) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  image.alt = `${image.alt}, response ${text}`;
  caption.textContent = text;
  figure.append(image, bar(share), caption);
  return figure;
}

function bar(share) {
  const bar = document.createElement("span");
  const filled = document.createElement("span");
  bar.className = "strength";
  filled.style.width = `${100 * share}%`;
  bar.append(filled);
  return bar;
}

function word({ text, share }, place) {
  const node = document.createElement("span");
  node.append(text, bar(share));
  return place ? [" + ", node] : [node];
}

async function show(found) {
  state = found;
  $("welcome").hidden = true;
  $("progress").hidden = false;
  $("end").hidden = state.question !== null;
  $("work").hidden = state.question === null;
  $("who").textContent = state.rater;
  $("count").textContent = `· ${state.done} of ${state.total}`;
  $("bar").value = state.done / state.total;
  $("pace").textContent = timeLeft();
  $("undo").disabled = $("undo-last").disabled = state.last === null;
  $("last").textContent = state.last === null ? "\u00a0"
    : `Kept: “${state.last.description}”, ${state.last.answer}. U takes it back.`;
  if (state.question === null) return showEnd();
  const { question } = state;
  const images = question.images.map(picture);
  const loaded = Promise.allSettled(images.map((image) => image.decode()));
  await Promise.race([loaded, new Promise((done) => setTimeout(done, PATIENCE))]);
  // Description and pictures change together.
  const ranges = setup.view === "range";
  if (ranges) $("description").replaceChildren(...question.words.flatMap(word));
  else $("description").textContent = question.description;
  $("place").textContent = setup.blind ? ""
    : `Unit ${question.unit} of ${question.layer}, ${ranges ? `r ${question.score.toFixed(2)}` : `score ${question.score.toFixed(3)}`}`;
  $("images").replaceChildren(...(ranges ? images.map((image, i) => figure(image, question.activations[i])) : images));
  for (const id of state.coming) new Image().src = `/image/${id}`;
  for (const button of document.querySelectorAll(".given")) button.classList.remove("given");
  $("work").dataset.number = question.number;
  return undefined;
}

function timeLeft() {
  const gaps = pace.slice(1).map((at, i) => at - pace[i]).slice(-30).sort((a, b) => a - b);
  if (gaps.length < 8 || state.question === null) return "";
  // The median, so that a break counts as one answer.
  const minutes = (gaps[gaps.length >> 1] * (state.total - state.done)) / 60000;
  return minutes < 1 ? "· under a minute left" : `· about ${Math.round(minutes)} min left`;
}

function showEnd() {
  const { tally } = state;
  const parts = ["yes", "maybe", "no", "skip"].filter((answer) => tally[answer])
    .map((answer) => `${tally[answer]} × ${answer}`);
  $("sum").textContent = `${state.rater}, you answered ${state.total} questions: ${parts.join(", ")}.`;
  $("end").focus();
}

async function act(make) {
  if (busy) return;
  busy = true;
  $("work").classList.add("waiting");
  try {
    const found = await make();
    complain(null);
    await show(found);
  } catch (error) {
    complain(error);
    for (const button of document.querySelectorAll(".given")) button.classList.remove("given");
  } finally {
    $("work").classList.remove("waiting");
    busy = false;
  }
}

function answer(given) {
  if (!state || busy) return;
  if (given === "undo") {
    const { rater, last } = state;
    if (last) act(() => ask("/api/undo", { rater, number: last.number }));
    return;
  }
  if (!state.question) return;
  const { rater, question } = state;
  document.querySelector(`[data-answer=${given}]`).classList.add("given");
  act(async () => {
    const found = await ask("/api/rate", { rater, number: question.number, answer: given });
    pace.push(performance.now());
    return found;
  });
}

// -- who is looking -------------------------------------------------------------------------------

function enter(name) {
  act(async () => {
    const found = await ask(`/api/state?rater=${encodeURIComponent(name)}`);
    pace = [];
    // The name stays in the address, so a reload carries on.
    history.replaceState(null, "", `#${new URLSearchParams({ rater: found.rater })}`);
    return found;
  });
}

async function welcome() {
  setup = await ask("/api/start");
  state = null;
  $("subject").textContent = setup.probe ? `${setup.subject} on ${setup.probe}` : setup.subject;
  document.title = `Rate: ${setup.subject}`;
  const { shown, from, to } = setup.guidelines;
  $("shown-1").textContent = $("shown-2").textContent = inWords(shown);
  $("yes-count").textContent = to < shown ? range(to + 1, shown) : String(shown);
  $("maybe-count").textContent = range(from, to);
  $("total").textContent = setup.total;
  $("file").textContent = setup.file;
  $("next").textContent = setup.next;
  for (const node of document.querySelectorAll("[data-view]")) node.hidden = node.dataset.view !== setup.view;
  $("work").classList.toggle("of-range", setup.view === "range");
  $("name").value = setup.rater;
  $("known-title").hidden = setup.raters.length === 0;
  $("known").replaceChildren(...setup.raters.map(({ name, done }) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const count = document.createElement("span");
    button.type = "button";
    count.textContent = ` ${done} of ${setup.total}`;
    button.append(name, count);
    button.addEventListener("click", () => enter(name));
    item.append(button);
    return item;
  }));
  for (const id of ["work", "end", "progress"]) $(id).hidden = true;
  $("welcome").hidden = false;
  $("name").focus();
}

$("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  enter($("name").value);
});
$("other").addEventListener("click", () => {
  history.replaceState(null, "", location.pathname);
  welcome().catch(complain);
});
for (const button of document.querySelectorAll("[data-answer]")) {
  button.addEventListener("click", () => answer(button.dataset.answer));
}
$("undo").addEventListener("click", () => answer("undo"));
$("undo-last").addEventListener("click", () => answer("undo"));
document.addEventListener("keydown", (event) => {
  // A key held down, or one meant for the browser or for a text field, is no answer.
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input")) return;
  const given = KEYS[event.key.toLowerCase()];
  if (given) {
    event.preventDefault();
    answer(given);
  }
});

try {
  await welcome();
  busy = false;
  const rater = new URLSearchParams(location.hash.slice(1)).get("rater") || setup.rater;
  if (rater) enter(rater);
} catch (error) {
  complain(error);
}
