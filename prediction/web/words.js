/** What is said of an answer, see answers.js, in words for people. */

const PROBABLY = 0.9; // from here on a name is said that is not sure
const EITHER = 0.8; // so much have two names together, ...
const EVEN = 0.2; // ... and so much the second, to be said both
const NONE = 0.5; // below, what looks like nothing that was learned has no name at all
const SEEN = 0.005; // guesses that are less probable are not shown

const MOST = 3; // guesses that are shown

/** Say an answer in a few words. */
export function phrase({ kind, guesses: [best, second], of }) {
  if (kind === "name") return best.name;
  if (best.probability >= PROBABLY) return `probably ${best.name}`;
  const both = best.probability + (second?.probability ?? 0);
  if (both >= EITHER && second?.probability >= EVEN) return `${best.name} or ${second.name}`;
  if (kind === "unknown" && best.probability < NONE) return `not one of the ${of} flowers I know`;
  return `perhaps ${best.name}`;
}

/** Say what helps where a name is not sure. */
export function advice({ kind, guesses: [best] }) {
  if (kind === "name") return "";
  if (kind === "unknown" && best.probability < NONE) return `It looks most like ${best.name}.`;
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
