/** The page's end of worker.js. */

/**
 * Start the network.
 *
 * @param {(loaded: number, total: number) => void} progress - bytes; `total` is 0 where unknown
 * @returns {{known: Promise<object>, ready: Promise<void>, ask: (picture: Blob | ImageBitmap,
 *   keeps?: boolean) => Promise<object>}} `known` is what flowers.json holds; `ask` gives
 *   {probabilities, familiarity}, and if it `keeps` a `small` JPEG. A picture that is asked for
 *   before the network is `ready` waits for it.
 */
export function startNetwork(progress = () => {}) {
  const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  const waiting = new Map();
  let number = 0;

  let learn = null;
  const known = new Promise((resolve) => (learn = resolve));
  const ready = new Promise((resolve, reject) => {
    worker.onerror = () => reject(new Error("this browser is too old for the app"));
    worker.onmessage = ({ data }) => {
      if (data.known) return learn(data.known);
      if (data.ready) return resolve();
      if (data.broken) return reject(new Error(data.broken));
      if (data.total !== undefined) return progress(data.loaded, data.total);
      const { keep, fail } = waiting.get(data.id);
      waiting.delete(data.id);
      if (data.error) fail(new Error(data.error));
      else keep(data);
    };
  });

  function ask(picture, keeps = false) {
    return new Promise((keep, fail) => {
      const id = number++;
      waiting.set(id, { keep, fail });
      worker.postMessage({ id, picture, keeps }, picture instanceof ImageBitmap ? [picture] : []);
    });
  }

  return { known, ready, ask };
}
