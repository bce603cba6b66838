/** From what the network says to what is answered: what prediction/answers.py does. */

// Probabilities are rounded down to these steps before they are compared, as their last digits
// differ from machine to machine; see `score` in prediction/promise.py.
const STEPS = 1e5;

const BEST = 5;

/**
 * Say what is answered to a prediction.
 *
 * @param {Float32Array} probabilities
 * @param {number} familiarity
 * @param {object} known - what flowers.json holds
 * @returns {{kind: "name" | "unknown" | "review", guesses: object[], of: number}} the most probable
 *   names first; `kind` says whether the first one is the answer, `of` how many names there are
 */
export function decide(probabilities, familiarity, known) {
  const order = Array.from(probabilities.keys()); // sorting is stable, as numpy's is there
  order.sort((one, other) => probabilities[other] - probabilities[one]);
  const guesses = order.slice(0, BEST).map((i) => ({
    name: known.names[i],
    category: known.categories[i],
    probability: probabilities[i],
  }));
  const kind = judge(guesses[0].probability, familiarity, known);
  return { kind, guesses, of: known.names.length };
}

function judge(probability, familiarity, { lowest, promise }) {
  if (lowest !== null && familiarity < lowest) return "unknown";
  if (!promise) return "name";
  const safe = Math.min(Math.floor(probability * STEPS), STEPS - 1) / STEPS;
  return familiarity >= promise.least && safe >= promise.lowest ? "name" : "review";
}
