/** The page's end of worker.js. */

/**
 * Start the network.
 *
 * @param {(loaded: number, total: number) => void} progress - bytes; `total` is 0 where unknown
 * @returns {{ready: Promise<object>, ask: (picture: Blob | ImageBitmap) => Promise<object>}}
 *   `ready` is what flowers.json holds; `ask` gives an answer, see answers.js, and for a file a
 *   thumbnail. A picture that is asked for before the network is there waits for it.
 */
export function startNetwork(progress = () => {}) {
  const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  const waiting = new Map();
  let number = 0;

  const ready = new Promise((resolve, reject) => {
    worker.onerror = () => reject(new Error("this browser is too old for the app"));
    worker.onmessage = ({ data }) => {
      if (data.ready) return resolve(data.known);
      if (data.broken) return reject(new Error(data.broken));
      if (data.total !== undefined) return progress(data.loaded, data.total);
      const { keep, fail } = waiting.get(data.id);
      waiting.delete(data.id);
      return data.error ? fail(new Error(data.error)) : keep(data);
    };
  });

  function ask(picture) {
    return new Promise((keep, fail) => {
      const id = number++;
      waiting.set(id, { keep, fail });
      worker.postMessage({ id, picture }, picture instanceof ImageBitmap ? [picture] : []);
    });
  }

  return { ready, ask };
}
