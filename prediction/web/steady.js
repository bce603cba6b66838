/** Keeps the camera's answer from flickering. */

import { decide } from "./answers.js";
import { phrase } from "./words.js";

const FRAMES = 7; // about a second, whose log-probabilities are averaged
const AGAIN = 5; // times in a row that another answer comes before it is shown

/**
 * Make what turns predictions of frames, one after the other, into answers to be shown.
 *
 * @param {object} known - what flowers.json holds
 */
export function makeSteady(known) {
  const frames = [];
  let shown = null;
  let other = "";
  let times = 0;
  return (prediction) => {
    frames.push(prediction);
    if (frames.length > FRAMES) frames.shift();
    const answer = decide(...average(frames), known);
    const words = phrase(answer);
    if (shown && words !== phrase(shown)) {
      times = words === other ? times + 1 : 1;
      other = words;
      if (times < AGAIN) return shown;
    }
    times = 0;
    shown = answer;
    return shown;
  };
}

/** Average predictions: their log-probabilities and their familiarity. */
function average(frames) {
  const logs = new Float64Array(frames[0].probabilities.length);
  for (const { probabilities } of frames) {
    probabilities.forEach((p, i) => (logs[i] += Math.log(Math.max(p, 1e-12)) / frames.length));
  }
  const shares = Float32Array.from(logs, Math.exp);
  const sum = shares.reduce((total, share) => total + share, 0);
  const familiarity = frames.reduce((total, frame) => total + frame.familiarity, 0);
  return [shares.map((share) => share / sum), familiarity / frames.length];
}
