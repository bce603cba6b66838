// Questions about groups of photographs: a name for the first, and which of the others differ.
// Each answer goes to the program that serves this page, which keeps it at once.
"use strict";

const LETTERS = "abcdefghijk"; // of the photographs beside the first
let state = null; // what the program said last
let away = new Set(); // what was clicked away, of the question that is shown
let isBusy = true;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const pictures = element("div", { className: "group" });
const figure = element("figure", {}, pictures);
const status = element("p", { className: "status", role: "status" });
const guesses = element("div", { className: "guesses" });
const field = element("input", { id: "name", autocomplete: "off" });
field.setAttribute("list", "names");
const form = element(
  "form",
  { onsubmit: take },
  element("label", { htmlFor: "name", textContent: "its name (n; Esc leaves)" }),
  field,
  element("button", { textContent: "Name it" }),
);
const alone = element("button", { textContent: "Only the first (o)" });
alone.onclick = () => {
  alone.setAttribute("aria-pressed", String(alone.getAttribute("aria-pressed") !== "true"));
};
const skip = element("button", { textContent: "Skip (s)", onclick: () => answer("") });
const undo = element("button", { textContent: "Undo (z)", onclick: () => send("undo") });
const finish = element("button", { textContent: "Stop for now", onclick: stop });
const problem = element("p", { role: "alert" });
const estimate = element("p", { role: "status" });
const names = element("datalist", { id: "names" });
const panel = element(
  "section",
  { className: "panel" },
  status,
  guesses,
  form,
  element("div", {}, alone, skip, undo, finish),
  problem,
  estimate,
);
panel.setAttribute("aria-label", "Answer");
const review = element("div", { className: "review" }, figure, panel, names);
document.querySelector("main").append(review);

// --- What is on the screen

function question() {
  return state?.questions[0];
}

function show() {
  const asked = question();
  away = new Set();
  alone.setAttribute("aria-pressed", "false");
  field.value = "";
  problem.textContent = "";
  estimate.textContent = state.estimate;
  names.replaceChildren(...state.names.map((value) => element("option", { value })));
  const number = state.count - state.questions.length + 1;
  status.textContent = asked
    ? `Question ${number} of ${state.count}; ${state.status}`
    : `Nothing is left to ask. ${state.status}`;
  pictures.replaceChildren(...(asked ? asked.photographs.map(picture) : []));
  const words = asked ? asked.guesses : [];
  guesses.replaceChildren(
    ...words.map((name, i) =>
      element("button", { textContent: `${name} (${i + 1})`, onclick: () => answer(name) }),
    ),
  );
  alone.disabled = !asked || asked.photographs.length < 2;
  skip.disabled = !asked;
  undo.disabled = !state.undo;
}

function picture(index, place) {
  const alt = place ? `photograph ${LETTERS[place - 1]}` : "the photograph to be named";
  const image = element("img", { src: `photo/${index}`, alt });
  if (!place) return element("span", { className: "picture" }, image);
  const words = element("small", { textContent: LETTERS[place - 1] });
  const made = element("button", { type: "button", className: "picture" }, image, words);
  made.setAttribute("aria-pressed", "false");
  made.onclick = () => {
    if (!away.delete(index)) away.add(index);
    made.setAttribute("aria-pressed", String(away.has(index)));
    words.textContent = LETTERS[place - 1] + (away.has(index) ? ": something else" : "");
  };
  return made;
}

// --- What is answered

async function call(what, body) {
  const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  const reply = await fetch(what, options);
  const found = await reply.json();
  if (!reply.ok) throw new Error(found);
  return found;
}

async function send(what, body = null) {
  if (isBusy) return;
  isBusy = true;
  try {
    await call(what, body);
    await load();
  } catch (error) {
    fail(error);
  }
  isBusy = false;
}

async function load() {
  if (!state || state.questions.length <= 1) status.textContent = "Choosing what to ask next ...";
  state = await call("state");
  show();
  const next = state.questions[1]; // so that it is there when it is asked about
  for (const index of next ? next.photographs : []) new Image().src = `photo/${index}`;
}

function fail(error) {
  problem.textContent =
    error instanceof TypeError
      ? "The program has ended: type its command again. All answers before this one are kept."
      : error.message;
}

function answer(name) {
  const asked = question();
  if (!asked) return;
  field.blur();
  const isAlone = alone.getAttribute("aria-pressed") === "true";
  send("answer", { first: asked.photographs[0], name, away: [...away], alone: isAlone });
}

function take(event) {
  event.preventDefault();
  const name = field.value.trim();
  if (name) answer(name);
  else problem.textContent = "Type a name, or skip this photograph.";
}

async function stop() {
  try {
    await call("stop", null);
    status.textContent = "All answers are kept. The terminal says what to type next.";
    for (const button of panel.querySelectorAll("button")) button.disabled = true;
  } catch (error) {
    fail(error);
  }
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.activeElement === field) {
    if (event.key === "Escape") field.blur();
    return;
  }
  const key = event.key.toLowerCase();
  const button =
    LETTERS.includes(key) && key.length === 1
      ? pictures.children[LETTERS.indexOf(key) + 1]
      : /^[1-5]$/.test(key)
        ? guesses.children[Number(key) - 1]
        : { o: alone, s: skip, z: undo }[key];
  if (key === "n") field.select();
  else if (button && !button.disabled) button.click();
  else return;
  event.preventDefault();
});

load().catch(fail).finally(() => (isBusy = false));
