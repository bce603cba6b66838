/** The page: where photographs come from, and where their answers go. */

import { explain, hasCamera, startCamera } from "./camera.js";
import { startNetwork } from "./network.js";
import { addCard, fillCard, headline, showAnswer, spoilCard, spoken } from "./show.js";
import { keepOffline } from "./offline.js";

const STABLE = 1000; // milliseconds that the camera's answer stays before it is said aloud

const at = (id) => document.getElementById(id);

const network = startNetwork(showLoading);
let stopCamera = null;

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
    const { names, preprocessing } = await network.ready;
    const count = `${names.length} ${names.length === 1 ? "kind" : "kinds"} of flowers`;
    say(`Ready. It knows ${count}.`);
    at("video").style.setProperty("--closer", preprocessing.resize / preprocessing.crop);
    at("about").hidden = false;
    at("about").lastElementChild.textContent = [...names].sort().join(", ");
  } catch (error) {
    say(`The network cannot be loaded: ${error.message}.`, true);
  }
  at("loading").hidden = true;
}

// --- Photographs --------------------------------------------------------------------

/** Name photographs, one card each, the first one on top. */
async function nameFiles(files) {
  const upwards = [...files].reverse().map((file) => [file, addCard(file.name)]);
  const cards = upwards.reverse();
  cards[0]?.[1].scrollIntoView({ block: "nearest" });
  for (const [file, card] of cards) {
    try {
      const found = await network.ask(file);
      fillCard(card, found);
      announce(cards.length > 1 ? `${file.name}: ${spoken(found.answer)}` : spoken(found.answer));
    } catch (error) {
      spoilCard(card, `${file.name}: ${error.message}.`);
      announce(`${file.name}: ${error.message}`);
    }
  }
}

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
function watcher() {
  let shown = null;
  let since = 0;
  let said = null;
  return async (frame) => {
    const { answer } = await network.ask(frame);
    if (at("live").hidden) return;
    showAnswer(at("live-answer"), answer);
    const what = headline(answer);
    if (what !== shown) [shown, since] = [what, performance.now()];
    if (shown !== said && performance.now() - since >= STABLE) {
      said = shown;
      announce(spoken(answer));
    }
  };
}

async function toggleCamera() {
  if (stopCamera) return stopCamera();
  at("camera-button").disabled = true;
  at("live").hidden = false;
  at("live-answer").replaceChildren();
  try {
    stopCamera = await startCamera(at("video"), watcher(), endCamera);
    at("camera-button").textContent = "Stop the camera";
  } catch (error) {
    endCamera(error);
  }
  at("camera-button").disabled = false;
}

function endCamera(error) {
  stopCamera = null;
  at("live").hidden = true;
  at("camera-button").textContent = "Start the camera";
  if (error) {
    say(explain(error), true);
    at("take").hidden = false;
  }
}

// --- The start ----------------------------------------------------------------------

at(hasCamera() ? "camera-button" : "take").hidden = false;
at("camera-button").addEventListener("click", toggleCamera);
document.addEventListener("visibilitychange", () => document.hidden && stopCamera?.());
watchField("take-input");
watchField("choose-input");
watchDrops();
showReady().then(() => keepOffline(() => !stopCamera && !at("cards").children.length));
