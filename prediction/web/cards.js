/** The cards: a photograph, its answer, and what a person does with it. */

import { has, list, put, remove } from "./store.js";
import { advice, named, percent, phrase, spoken, worthShowing } from "./words.js";

/** Copy a part of the page that is made more than once. */
function make(template) {
  return document.getElementById(template).content.cloneNode(true);
}

/** Put an answer, see answers.js, into an element. */
export function showAnswer(element, answer) {
  if (!element.querySelector("h3")) element.replaceChildren(make("answer-template"));
  element.className = `answer ${answer.kind}`;
  element.querySelector("h3").textContent = phrase(answer);
  element.querySelector(".why").textContent = advice(answer);
  const list = element.querySelector("ol");
  const guesses = worthShowing(answer);
  while (list.children.length < guesses.length) list.append(make("guess-template"));
  [...list.children].forEach((item, i) => {
    item.hidden = i >= guesses.length;
    if (item.hidden) return;
    item.querySelector(".name").textContent = guesses[i].name;
    item.querySelector(".share").textContent = percent(guesses[i].probability);
    item.querySelector(".bar span").style.setProperty("--share", guesses[i].probability);
  });
}

/** Make images of what a category looks like, where the app has some. */
export function makeLooks(category, { categories, pictures }) {
  const files = pictures?.[categories.indexOf(category)] ?? [];
  return files.map((src) => Object.assign(new Image(), { src, alt: "", loading: "lazy" }));
}

/** Make a figure of what a category looks like, or null where the app has none. */
function makeFigure({ category, name }, known) {
  const looks = makeLooks(category, known);
  if (!looks.length) return null;
  const figure = make("looks-template").firstElementChild;
  figure.querySelector("figcaption").textContent = `What ${name} looks like:`;
  figure.querySelector("div").append(...looks);
  return figure;
}

/**
 * Make a card for a photograph that is being looked at.
 *
 * @param {string} title - of the photograph
 * @returns {HTMLElement}
 */
export function makeCard(title) {
  const card = make("card-template").firstElementChild;
  card.querySelector("canvas").setAttribute("aria-label", title);
  card.querySelector(".answer").textContent = "Looking at it";
  card.querySelector(".actions").hidden = true;
  return card;
}

/**
 * Put an entry of the history, see store.js, into its card.
 *
 * @param {object} known - what flowers.json holds
 * @param {{answer: (picture: ImageBitmap) => Promise<object>, changed: () => void,
 *   announce: (text: string) => void}} page - answers a picture; is told of changes; says something
 */
export async function fillCard(card, entry, known, page) {
  card.dataset.id = entry.id; // of the history
  const part = (name) => card.querySelector(name);
  const canvas = part("canvas");
  const answer = () => entry.closer?.answer ?? entry.answer;
  const best = () => answer().guesses[0];
  /** Return its name, where it has one. */
  const name = () => entry.label?.name ?? (answer().kind === "name" ? best().name : "");

  async function showPicture() {
    const bitmap = await open(entry);
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    canvas.getContext("bitmaprenderer").transferFromImageBitmap(bitmap);
    part(".part").setAttribute("aria-pressed", Boolean(entry.closer));
  }

  /** Show what a person says, or else what the network says. */
  function showWords() {
    const { label } = entry;
    showAnswer(part(".answer"), answer());
    const figures = (label ? [label] : named(answer())).map((each) => makeFigure(each, known));
    part(".looks").replaceChildren(...figures.filter(Boolean));
    if (label) [part("h3").textContent, part(".why").textContent] = [label.name, ""];
    part(".label").textContent = label ? "You have said what it is." : "";
    part(".right").textContent = answer().kind === "name" ? "Right" : `It is ${best().name}`;
    if (label) part(".right").textContent = "Take that back";
    part(".no").textContent = label ? "Change it ..." : "No, it is ...";
    part(".copy").hidden = !navigator.clipboard || !name();
  }

  /** Look at the part around a point, in shares of the sides, or again at all of it. */
  async function look(point) {
    const closer = entry.closer ? null : { point };
    if (closer) closer.answer = await page.answer(await open({ ...entry, closer }));
    if (!(await has(entry.id))) return card.remove();
    entry.closer = closer;
    await showPicture();
    showWords();
    await put(entry);
    page.announce(spoken(answer()));
  }

  async function setLabel(label) {
    if (!(await has(entry.id))) return card.remove(); // another tab has removed it
    entry.label = label;
    showWords();
    await put(entry);
    page.changed();
    page.announce(label ? `You say: ${label.name}` : "taken back");
  }

  await showPicture();
  showWords();
  part(".actions").hidden = false;
  part(".right").onclick = () => {
    const { category, name } = best();
    setLabel(entry.label ? null : { category, name });
  };
  const form = part("form");
  part(".no").onclick = () => {
    form.hidden = !form.hidden;
    part(".no").setAttribute("aria-expanded", !form.hidden);
    if (!form.hidden) form.querySelector("input").focus();
  };
  function close() {
    form.hidden = true;
    part(".no").setAttribute("aria-expanded", false);
    part(".no").focus();
  }
  form.onkeydown = ({ key }) => key === "Escape" && close();
  form.onsubmit = async (event) => {
    event.preventDefault();
    close();
    const label = await findLabel(form.querySelector("input").value, known);
    if (label) setLabel(label);
  };
  part(".part").onclick = () => look([0.5, 0.5]);
  canvas.onclick = ({ offsetX, offsetY }) => look(place(canvas, offsetX, offsetY));
  part(".remove").onclick = async () => {
    if (entry.label && !confirm(`Remove this photograph of ${entry.label.name}?`)) return;
    await remove(entry.id);
    const next = card.nextElementSibling ?? card.previousElementSibling;
    card.remove();
    page.changed();
    page.announce("removed");
    next?.querySelector(".remove").focus();
  };
  part(".copy").onclick = async () => {
    await navigator.clipboard.writeText(name());
    page.announce(`copied: ${name()}`);
    part(".copy").textContent = "Copied";
    setTimeout(() => (part(".copy").textContent = "Copy the name"), 2000);
  };
  const file = new File([entry.picture], `${entry.id}.jpg`, { type: entry.picture.type });
  const shared = () => ({ ...(name() && { title: name(), text: name() }), files: [file] });
  part(".send").hidden = !navigator.canShare?.(shared());
  part(".send").onclick = () => navigator.share(shared()).catch(() => {}); // closed again
}

/** Find where a point of a square canvas lies in its picture, which covers it. */
function place(canvas, x, y) {
  const sides = [canvas.width, canvas.height];
  const at = [x / canvas.clientWidth, y / canvas.clientHeight];
  const short = Math.min(...sides);
  return sides.map((side, i) => 0.5 + ((at[i] - 0.5) * short) / side);
}

/** Open an entry's photograph, or the part that was looked at closer, half as wide. */
async function open({ picture, closer }) {
  const whole = await createImageBitmap(picture);
  if (!closer) return whole;
  const side = Math.max(Math.round(Math.min(whole.width, whole.height) / 2), 1);
  const corner = [whole.width, whole.height].map((length, i) =>
    Math.round(Math.max(0, Math.min(length - side, closer.point[i] * length - side / 2))),
  );
  return createImageBitmap(whole, ...corner, side, side);
}

/** Find the category that a typed name means, of the network or typed before, or make a new one. */
async function findLabel(typed, { names, categories }) {
  const name = typed.replace(/[\u0000-\u001f\\/:*?"<>|]/g, " ").replace(/\s+/g, " ").trim();
  if (!name || /^\.+$/.test(name)) return null;
  const reserved = /^(con|prn|aux|nul|com\d|lpt\d)$/i.test(name); // on Windows
  const wanted = name.toLocaleLowerCase();
  const i = names.findIndex((each) => each.toLocaleLowerCase() === wanted);
  if (i >= 0) return { category: categories[i], name: names[i] };
  const earlier = (await list()).map(({ label }) => label);
  const same = earlier.find((label) => label?.name.toLocaleLowerCase() === wanted);
  if (same) return same;
  return { category: reserved ? `${name}_` : name, name };
}

/** Say in a card what went wrong. */
export function spoilCard(card, message) {
  card.querySelector(".view").hidden = true;
  card.querySelector(".answer").textContent = message;
  const actions = card.querySelector(".actions");
  for (const button of actions.children) button.hidden = !button.matches(".remove");
  actions.hidden = false;
  card.querySelector(".remove").onclick = async () => {
    if (card.dataset.id) await remove(card.dataset.id);
    card.remove();
  };
}

