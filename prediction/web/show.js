/** What is seen of an answer. */

const MOST = 60; // cards; the oldest go

/** Copy a part of the page that is made more than once. */
function make(template) {
  return document.getElementById(template).content.cloneNode(true);
}

/** Put an answer, see answers.js, into an element. */
export function showAnswer(element, { kind, guesses }) {
  if (!element.querySelector("h2")) element.append(make("answer-template"));
  element.className = `answer ${kind}`;
  element.querySelector("h2").textContent = headline({ kind, guesses });
  element.querySelector(".why").textContent = why(kind, guesses);
  const list = element.querySelector("ol");
  while (list.children.length < guesses.length) list.append(make("guess-template"));
  guesses.forEach(({ name, probability }, i) => {
    const item = list.children[i];
    item.querySelector(".name").textContent = name;
    item.querySelector(".share").textContent = percent(probability);
    item.querySelector(".bar span").style.setProperty("--share", probability);
  });
}

/** Say an answer in a word or two. */
export function headline({ kind, guesses }) {
  return kind === "name" ? guesses[0].name : kind;
}

function why(kind, guesses) {
  const best = guesses[0].name;
  if (kind === "unknown") return `This looks like nothing it has learned; most like ${best}.`;
  if (kind === "review") return `It is not sure enough for a name. Its best guess is ${best}.`;
  return "";
}

/** Say an answer in a few words, for those who hear the page. */
export function spoken({ kind, guesses }) {
  return `${headline({ kind, guesses })}. ${why(kind, guesses)}`.trim();
}

function percent(probability) {
  const share = 100 * probability;
  if (share > 0 && share < 0.1) return "< 0.1 %";
  return share < 100 && share > 99.9 ? "> 99.9 %" : `${share.toFixed(1)} %`;
}

/**
 * Put an empty card on top of the others.
 *
 * @param {string} title - of the photograph
 * @returns {HTMLElement}
 */
export function addCard(title) {
  const cards = document.getElementById("cards");
  cards.prepend(make("card-template"));
  while (cards.children.length > MOST) cards.lastElementChild.remove();
  const card = cards.firstElementChild;
  card.querySelector("canvas").setAttribute("aria-label", title);
  const waiting = document.createElement("p");
  waiting.textContent = "Looking at it";
  card.querySelector(".answer").append(waiting);
  return card;
}

/** Put what was found into a card. */
export function fillCard(card, { answer, thumbnail }) {
  const canvas = card.querySelector("canvas");
  canvas.width = thumbnail.width;
  canvas.height = thumbnail.height;
  canvas.getContext("bitmaprenderer").transferFromImageBitmap(thumbnail);
  const element = card.querySelector(".answer");
  element.replaceChildren();
  showAnswer(element, answer);
}

/** Say in a card what went wrong. */
export function spoilCard(card, message) {
  card.querySelector(".view").hidden = true;
  card.querySelector(".answer").firstElementChild.textContent = message;
}
