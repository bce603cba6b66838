// Questions about photographs, one after the other, answered by clicks or keys: y, n, a name.
// The answers are kept in this browser and saved as a table; nothing is sent anywhere.
"use strict";

const { name, columns, rows, then, command, words, names, isOpen, kept } = JSON.parse(
  document.getElementById("data").textContent,
);
const gallery = document.querySelector(".gallery");
const figures = [...gallery.children];
const LEAVE_OUT = "leave out"; // an answer, too, where a table takes it
const more = names.includes(LEAVE_OUT) ? `, or ${LEAVE_OUT}` : "";
const count = figures.length; // further rows of the table are saved as they are
let answers = rows.slice(0, count).map((row) => row.at(-1));
let undone = []; // for each answer what to return to: [number, answer before]
let here = 0;
let last = ""; // what was just answered, in words

try {
  const found = JSON.parse(localStorage.getItem(kept));
  if (Array.isArray(found) && found.length === count) answers = found.map(String);
} catch {
  // A browser may keep nothing for a page of the disk: then nothing is remembered.
}

// --- What is on the screen

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const status = element("p", { className: "status", role: "status" });
const field = element("input", { id: "name", autocomplete: "off" });
field.setAttribute("list", "names");
const buttons = {
  yes: element("button", { onclick: () => decide("y") }),
  no: element("button", { onclick: () => decide("n") }),
  back: element("button", { textContent: "← Back", onclick: () => show(here - 1) }),
  on: element("button", { textContent: "Next →", onclick: () => show(here + 1) }),
  undo: element("button", { textContent: "Undo (z)", onclick: undo }),
  save: element("button", { textContent: `Save ${name} (s)`, onclick: save }),
};
const named = element(
  "form",
  { onsubmit: take },
  element("label", { htmlFor: "name", textContent: `or its right name${more} (t; Esc leaves)` }),
  field,
  element("button", { textContent: "Take it" }),
);
const problem = element("p", { role: "alert" });
const end = element("p", { role: "status" });
const panel = element(
  "section",
  { className: "panel", tabIndex: -1 },
  status,
  element("div", { className: "choice" }, buttons.yes, buttons.no),
  named,
  problem,
  element("div", {}, buttons.back, buttons.on, buttons.undo, buttons.save),
  end,
  element("p", { textContent: then }),
  element("code", {}, ...command.split(" ").flatMap((word) => [element("span", { textContent: word }), " "])),
);
panel.setAttribute("aria-label", "Answer");
const list = element("datalist", { id: "names" });
list.append(...names.map((each) => element("option", { value: each })));
const review = element("div", { className: "review" });

function open() {
  gallery.replaceWith(review);
  review.append(gallery, panel, list);
  document.addEventListener("keydown", press);
  const first = answers.indexOf("");
  show(first < 0 ? count - 1 : first);
}

function say(answer) {
  if (/^(y|yes)$/i.test(answer)) return words[here][0];
  if (/^(n|no)$/i.test(answer)) return words[here][1];
  return answer === LEAVE_OUT ? answer : `it is ${answer}`;
}

function show(number) {
  here = Math.min(Math.max(number, 0), count - 1);
  figures.forEach((figure, i) => (figure.hidden = i !== here));
  const [yes, no] = words[here];
  const done = answers.filter(Boolean).length;
  const said = answers[here] && say(answers[here]);
  const before = last && `; last answer: ${last}`;
  status.textContent =
    `${here + 1} of ${count}, ${done} answered` + (said ? `; you said: ${said}` : before);
  buttons.yes.textContent = `${yes} (y)`;
  buttons.no.textContent = `${no} (n)`;
  buttons.yes.setAttribute("aria-pressed", said === yes);
  buttons.no.setAttribute("aria-pressed", said === no);
  buttons.back.disabled = here === 0;
  buttons.on.disabled = here === count - 1;
  buttons.undo.disabled = undone.length === 0;
  field.value = !said || said === yes || said === no ? "" : answers[here];
  problem.textContent = "";
  end.textContent = done === count ? `All are answered: save ${name}.` : "";
}

// --- What is answered

function set(number, answer) {
  answers[number] = answer;
  try {
    localStorage.setItem(kept, JSON.stringify(answers));
  } catch {
    // see above
  }
}

function take(event) {
  event.preventDefault();
  const typed = field.value.trim().toLowerCase();
  const known = names.find((each) => each.toLowerCase() === typed);
  if (known) decide(known);
  else problem.textContent = typed ? `There is no category of this name: ${typed}` : "";
}

function decide(answer) {
  last = say(answer);
  undone.push([here, answers[here]]);
  set(here, answer);
  field.blur();
  const next = answers.findIndex((other, i) => i > here && !other);
  const first = answers.indexOf("");
  show(next >= 0 ? next : first >= 0 ? first : here);
  review.scrollIntoView({ block: "nearest" });
}

function undo() {
  if (undone.length === 0) return;
  const [number, answer] = undone.pop();
  last = "";
  set(number, answer);
  show(number);
}

function save() {
  const done = answers.filter(Boolean).length;
  if (!done) {
    end.textContent = "Nothing is answered yet.";
    return;
  }
  const cell = (text) => (/[",;\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const filled = rows.map((row, i) => (i < count ? [...row.slice(0, -1), answers[i]] : row));
  const lines = [columns, ...filled].map((line) => `${line.map(cell).join(",")}\r\n`);
  const link = element("a", {
    href: URL.createObjectURL(new Blob(["\ufeff", ...lines], { type: "text/csv" })),
    download: name,
  });
  link.click();
  URL.revokeObjectURL(link.href);
  end.textContent = `Saved: ${done} answers, in your browser's downloads.`;
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.activeElement === field) {
    if (event.key === "Escape") {
      field.value = "";
      field.blur();
    }
    return;
  }
  const actions = {
    y: () => decide("y"),
    n: () => decide("n"),
    z: undo,
    s: save,
    t: () => field.select(),
    ArrowLeft: () => show(here - 1),
    ArrowRight: () => show(here + 1),
  };
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!(key in actions)) return;
  event.preventDefault();
  actions[key]();
}

if (isOpen) open();
else {
  const start = element("button", { className: "start", textContent: "Find wrong labels, one by one" });
  start.onclick = () => {
    start.remove();
    open();
    review.before(all);
    panel.focus({ preventScroll: true });
    all.scrollIntoView();
  };
  const all = element("button", { className: "start", textContent: "Show all" });
  all.onclick = () => {
    document.removeEventListener("keydown", press);
    all.replaceWith(start);
    review.replaceWith(gallery);
    figures.forEach((figure) => (figure.hidden = false));
    start.focus();
  };
  gallery.before(start);
}
