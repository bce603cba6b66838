// Decisions about photographs, one after the other, by clicks or keys: y, n, a name, arrows, z.
// They are kept in this browser and saved as a table; nothing is sent anywhere.
"use strict";

const { columns, rows, table, names, kept } = JSON.parse(
  document.getElementById("data").textContent,
);
const gallery = document.querySelector(".gallery");
const figures = [...gallery.children];
let answers = rows.map(() => "");
let undone = []; // for each decision what to return to: [number, answer before]
let here = 0;

try {
  const found = JSON.parse(localStorage.getItem(kept));
  if (Array.isArray(found) && found.length === rows.length) answers = found.map(String);
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
  yes: element("button", { textContent: "Correct (y)", onclick: () => decide("y") }),
  no: element("button", { textContent: "Wrong (n)", onclick: () => decide("n") }),
  back: element("button", { textContent: "← Back", onclick: () => show(here - 1) }),
  on: element("button", { textContent: "Next →", onclick: () => show(here + 1) }),
  undo: element("button", { textContent: "Undo (z)", onclick: undo }),
  save: element("button", { textContent: `Save ${table} (s)`, onclick: save }),
};
const named = element(
  "form",
  {
    onsubmit: (event) => {
      event.preventDefault();
      if (field.value.trim()) decide(field.value.trim());
    },
  },
  element("label", { htmlFor: "name", textContent: "or its right name (t)" }),
  field,
  element("button", { textContent: "Take it" }),
);
const end = element("p", { className: "end" });
const panel = element(
  "section",
  { className: "panel" },
  status,
  element("div", {}, buttons.yes, buttons.no),
  named,
  element("div", {}, buttons.back, buttons.on, buttons.undo, buttons.save),
  end,
);
panel.setAttribute("aria-label", "Decide");
const list = element("datalist", { id: "names" });
list.append(...names.map((name) => element("option", { value: name })));
const review = element("div", { className: "review" });
gallery.replaceWith(review);
review.append(gallery, panel, list);

function words(answer) {
  if (answer === "y") return "correct";
  return answer === "n" ? "wrong" : answer && `it is ${answer}`;
}

function show(number) {
  here = Math.min(Math.max(number, 0), rows.length - 1);
  figures.forEach((figure, i) => (figure.hidden = i !== here));
  const done = answers.filter(Boolean).length;
  const said = answers[here] ? `; you said: ${words(answers[here])}` : "";
  status.textContent = `${here + 1} of ${rows.length}, ${done} decided${said}`;
  buttons.yes.setAttribute("aria-pressed", answers[here] === "y");
  buttons.no.setAttribute("aria-pressed", answers[here] === "n");
  buttons.back.disabled = here === 0;
  buttons.on.disabled = here === rows.length - 1;
  buttons.undo.disabled = undone.length === 0;
  field.value = answers[here].length > 1 ? answers[here] : "";
  end.textContent = done === rows.length ? `All is decided: save ${table}.` : "";
}

// --- What is decided

function set(number, answer) {
  answers[number] = answer;
  try {
    localStorage.setItem(kept, JSON.stringify(answers));
  } catch {
    // see above
  }
}

function decide(answer) {
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
  set(number, answer);
  show(number);
}

function save() {
  const cell = (text) => (/[",;\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = [columns, ...rows.map((row, i) => [...row.slice(0, -1), answers[i]])];
  const text = `\ufeff${lines.map((line) => line.map(cell).join(",") + "\r\n").join("")}`;
  const link = element("a", {
    href: URL.createObjectURL(new Blob([text], { type: "text/csv" })),
    download: table,
  });
  link.click();
  URL.revokeObjectURL(link.href);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.activeElement === field) {
    if (event.key === "Escape") field.blur();
    return;
  }
  const actions = {
    y: () => decide("y"),
    n: () => decide("n"),
    z: undo,
    s: save,
    t: () => field.focus(),
    ArrowLeft: () => show(here - 1),
    ArrowRight: () => show(here + 1),
  };
  if (!(event.key in actions)) return;
  event.preventDefault();
  actions[event.key]();
});

const first = answers.indexOf("");
show(first < 0 ? rows.length - 1 : first);
