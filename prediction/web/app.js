/** The page: where photographs come from, and where their answers go. */

import { decide } from "./answers.js";
import { explain, hasCamera, isAllowed, startCamera } from "./camera.js";
import { fillCard, makeCard, makeLooks, showAnswer, spoilCard } from "./cards.js";
import { startNetwork } from "./network.js";
import { keepOffline } from "./offline.js";
import { makeSteady } from "./steady.js";
import { clear, list, outlives, put } from "./store.js";
import { phrase, spoken } from "./words.js";
import { zip } from "./zip.js";

const STABLE = 1000; // milliseconds that the camera's answer stays before it is said aloud
const AT_ONCE = 30; // cards of the history that are shown

const at = (id) => document.getElementById(id);

const network = startNetwork(showLoading);
let camera = null;
let busy = 0; // photographs that are being looked at

// --- Words --------------------------------------------------------------------------

function say(text, isError = false) {
  at("status").textContent = text;
  at("status").classList.toggle("error", isError);
}

/** Have a screen reader say something. */
function announce(text) {
  at("said").textContent = text;
}

function showLoading(loaded, total) {
  const mega = (bytes) => (bytes / 1e6).toFixed(0);
  const [bar, text] = at("loading").children;
  bar.value = total ? Math.min(loaded / total, 1) : 0;
  text.textContent = total ? `${mega(loaded)} of ${mega(total)} MB` : `${mega(loaded)} MB`;
}

async function showReady() {
  try {
    await network.ready;
    const known = await network.known;
    const { names, categories } = known;
    const count = `${names.length} ${names.length === 1 ? "kind" : "kinds"} of flowers`;
    say(`Ready. I know ${count}.`);
    const sorted = names.map((name, i) => [name, categories[i]]).sort();
    at("names").append(...sorted.map(([value]) => Object.assign(new Option(), { value })));
    at("about").hidden = false;
    for (const [name, category] of sorted) {
      const item = document.createElement("li");
      const words = Object.assign(document.createElement("span"), { textContent: name });
      item.append(words, ...makeLooks(category, known));
      at("about").lastElementChild.append(item);
      item.dataset.name = name.toLocaleLowerCase();
    }
  } catch (error) {
    say(`The network cannot be loaded: ${error.message}.`, true);
    at("retry").hidden = false;
  }
  at("loading").hidden = true;
}

// --- Photographs and their history --------------------------------------------------

const page = { answer: async (picture) => (await look(picture)).answer, changed: showHistory, announce };

/** Look at a photograph: its answer, and a small JPEG of it. */
async function look(picture) {
  const { probabilities, familiarity, small } = await network.ask(picture, true);
  return { picture: small, answer: decide(probabilities, familiarity, await network.known) };
}

/** Name photographs, one card each, the first one on top. */
async function nameAll(pictures) {
  const upwards = [...pictures].reverse().map(([title, picture]) => {
    const card = makeCard(title);
    at("cards").prepend(card);
    return [title, picture, card];
  });
  at("history").hidden = false;
  const cards = upwards.reverse();
  cards[0]?.[2].scrollIntoView({ block: "nearest" });
  busy += cards.length;
  let time = Date.now(); // the first one is the newest, as it stands on top
  for (const [title, picture, card] of cards) {
    try {
      const found = await look(picture);
      if (!card.isConnected) continue; // removed meanwhile
      await keep({ time: time--, title, ...found }, card);
      announce(cards.length > 1 ? `${title}: ${spoken(found.answer)}` : spoken(found.answer));
    } catch (error) {
      spoilCard(card, `${title}: ${error.message}.`);
      announce(`${title}: ${error.message}`);
    } finally {
      busy--;
    }
  }
}

/** Keep an answer with its photograph on this device. */
async function keep(found, card) {
  const day = new Date(found.time).toISOString().slice(0, 10);
  const id = `${day}-${found.time}-${crypto.getRandomValues(new Uint16Array(1))[0]}`;
  const entry = { ...found, id, closer: null, label: null };
  try {
    await put(entry);
    navigator.storage?.persist?.();
  } catch {
    say("This device has no room to keep more photographs: remove some.", true);
  }
  await fillCard(card, entry, await network.known, page);
  showHistory();
}

/** Show what there is to be done with the history. */
async function showHistory() {
  const entries = await list();
  const labelled = entries.filter(({ label }) => label).length;
  at("history").hidden = !at("cards").children.length && !entries.length;
  if (entries.length && !at("cards").children.length) showOlder();
  at("where").textContent = outlives()
    ? "They are kept in this browser alone, until you remove them."
    : "This browser keeps nothing: they go when the page is closed.";
  at("save").hidden = !labelled;
  at("save").textContent = `Save the ${labelled} you have named`;
}

async function showOlder() {
  const shown = new Set([...at("cards").children].map((card) => card.dataset.id));
  const entries = (await list()).filter(({ id }) => !shown.has(id));
  const cards = entries.slice(0, AT_ONCE).map((entry) => [makeCard(entry.title), entry]);
  for (const [card, { id }] of cards) card.dataset.id = id;
  at("cards").append(...cards.map(([card]) => card));
  at("older").hidden = entries.length <= AT_ONCE;
  const known = await network.known;
  for (const [card, entry] of cards) {
    await fillCard(card, entry, known, page).catch(() => {
      spoilCard(card, `${entry.title} cannot be shown any more.`);
    });
  }
  await showHistory();
}

/** Save the photographs that somebody has named as what `train.py --update` reads. */
async function saveNamed() {
  const entries = (await list()).filter(({ label }) => label);
  const files = entries.map(({ id, time, picture, label }) => ({
    path: `train/${label.category}/app-${id}.jpg`,
    blob: picture,
    time,
  }));
  const url = URL.createObjectURL(await zip(files));
  Object.assign(document.createElement("a"), { href: url, download: "flowers.zip" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  const count = files.length === 1 ? "1 photograph" : `${files.length} photographs`;
  say(`Saved ${count} as flowers.zip. Unpack it into the folder of training photographs, and run train.py --update.`);
}

async function removeAll() {
  if (!confirm("Remove all photographs and answers from this device?")) return;
  await clear();
  at("cards").replaceChildren();
  at("older").hidden = true;
  say("");
  showHistory();
}

const nameFiles = (files) => nameAll([...files].map((file) => [file.name, file]));

function watchField(id) {
  at(id).addEventListener("change", ({ target }) => {
    nameFiles([...target.files]);
    target.value = ""; // so that the same photograph can be chosen again
  });
}

function watchDrops() {
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", ({ relatedTarget }) => {
    if (!relatedTarget) document.body.classList.remove("dropping");
  });
  addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    if (!hasFiles(event)) return;
    event.preventDefault();
    nameFiles(event.dataTransfer.files);
  });
  addEventListener("paste", ({ clipboardData }) => nameFiles(clipboardData.files));
}

// --- The camera ---------------------------------------------------------------------

/** Show the camera's answers as they come, and say one aloud when it is new and stays. */
function watcher(known) {
  const steady = makeSteady(known);
  let shown = null;
  let since = 0;
  let said = null;
  return async (frame) => {
    const answer = steady(await network.ask(frame));
    if (at("live").hidden) return;
    showAnswer(at("live-answer"), answer);
    const what = phrase(answer);
    if (what !== shown) [shown, since] = [what, performance.now()];
    if (shown !== said && performance.now() - since >= STABLE) {
      said = shown;
      announce(spoken(answer));
    }
  };
}

async function beginCamera() {
  if (camera) return;
  at("camera-button").disabled = true;
  try {
    const known = await network.known;
    const { resize, crop } = known.preprocessing;
    at("live-answer").textContent = "";
    at("live").hidden = false;
    document.body.classList.add("filming");
    camera = await startCamera(at("video"), resize / crop, watcher(known), endCamera);
    at("live").scrollIntoView({ block: "nearest" });
  } catch (error) {
    endCamera(error);
  }
  at("camera-button").disabled = false;
}

function endCamera(error) {
  camera = null;
  at("live").hidden = true;
  document.body.classList.remove("filming");
  at("closer").setAttribute("aria-pressed", false);
  if (error) {
    say(explain(error), true);
    at("camera-button").classList.remove("main");
    at("take").hidden = false;
  }
}

async function takeFrame() {
  if (!camera || busy) return;
  const time = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  nameAll([[`photograph of ${time}`, await camera.take()]]);
}

/** Look closer at a point of what is seen, or again at all. */
function lookCloser(point) {
  const isCloser = at("closer").getAttribute("aria-pressed") === "true";
  camera?.aim(isCloser ? null : point);
  at("closer").setAttribute("aria-pressed", !isCloser);
}

function watchTaps() {
  document.querySelector("#live .view").addEventListener("click", (event) => {
    const { left, top, width, height } = event.currentTarget.getBoundingClientRect();
    lookCloser([(event.clientX - left) / width, (event.clientY - top) / height]);
  });
  at("closer").addEventListener("click", () => lookCloser([0.5, 0.5]));
}

// --- The start ----------------------------------------------------------------------

at(hasCamera() ? "camera-button" : "take").hidden = false;
at("camera-button").addEventListener("click", beginCamera);
at("stop").addEventListener("click", () => camera?.stop());
at("shutter").addEventListener("click", takeFrame);
at("save").addEventListener("click", saveNamed);
at("clear").addEventListener("click", removeAll);
at("older").addEventListener("click", showOlder);
at("find").addEventListener("input", ({ target }) => {
  const wanted = target.value.trim().toLocaleLowerCase();
  for (const item of at("about").lastElementChild.children) {
    item.hidden = !item.dataset.name.includes(wanted);
  }
});
at("retry").addEventListener("click", () => location.reload());
document.addEventListener("visibilitychange", () => document.hidden && camera?.stop());
watchTaps();
watchField("take-input");
watchField("choose-input");
watchDrops();
const isIdle = () => !camera && !busy && (outlives() || !at("cards").children.length);
keepOffline(isIdle, showReady());
showOlder();
isAllowed().then((yes) => yes && hasCamera() && beginCamera());
