/** What is said of an answer, see answers.js, in words for people. */

const PROBABLY = 0.9; // from here on a name is said that is not sure
const EITHER = 0.8; // so much have two names together, ...
const EVEN = 0.2; // ... and so much the second, to be said both
const NONE = 0.5; // below, what looks like nothing that was learned has no name at all
const SEEN = 0.005; // guesses that are less probable are not shown

const MOST = 3; // guesses that are shown

/** Choose the guesses that an answer names: one, or two between which it cannot decide. */
export function named({ kind, guesses: [best, second] }) {
  if (kind === "name" || !second || best.probability >= PROBABLY) return [best];
  const both = best.probability + second.probability;
  return both >= EITHER && second.probability >= EVEN ? [best, second] : [best];
}

/** Tell whether an answer is that the network knows nothing of the kind. */
function isNone(answer) {
  const [best, second] = named(answer);
  return answer.kind === "unknown" && best.probability < NONE && !second;
}

/** Say an answer in a few words. */
export function phrase(answer) {
  const [best, second] = named(answer);
  if (answer.kind === "name") return best.name;
  if (best.probability >= PROBABLY) return `probably ${best.name}`;
  if (second) return `${best.name} or ${second.name}`;
  if (isNone(answer)) return `not one of the ${answer.of} flowers I know`;
  return `perhaps ${best.name}`;
}

/** Say what helps where a name is not sure. */
export function advice(answer) {
  if (answer.kind === "name") return "";
  if (isNone(answer)) return `It looks most like ${answer.guesses[0].name}.`;
  return "Try closer, or from the front.";
}

/** Say an answer for those who hear the page. */
export function spoken(answer) {
  return `${phrase(answer)}. ${advice(answer)}`.trim();
}

/** Choose the guesses that say something: one, where it is sure. */
export function worthShowing({ guesses }) {
  return guesses.filter(({ probability }, i) => !i || probability >= SEEN).slice(0, MOST);
}

export function percent(probability) {
  const share = 100 * probability;
  if (share > 0 && share < 0.1) return "< 0.1 %";
  return share < 100 && share > 99.9 ? "> 99.9 %" : `${share.toFixed(1)} %`;
}
