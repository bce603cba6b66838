/**
 * The history: photographs and their answers, in this browser alone.
 *
 * An entry is {id, time, title, picture, answer, closer, label}: milliseconds, a JPEG, see
 * answers.js, {point, answer} where a part is looked at, and {category, name} where somebody has
 * said what it is.
 */

const NAME = `flowers ${new URL("./", location)}`; // another app may be on the same server
const ENTRIES = "entries";

let isKept = true;
const database = open();
const lost = new Map(); // entries, where the browser keeps nothing

function open() {
  return new Promise((resolve) => {
    const none = () => {
      isKept = false;
      resolve(null);
    };
    try {
      const opening = indexedDB.open(NAME, 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore(ENTRIES, { keyPath: "id" });
      opening.onsuccess = () => resolve(opening.result);
      opening.onerror = none;
    } catch {
      none();
    }
  });
}

/** Tell whether entries outlive the page. */
export function outlives() {
  return isKept;
}

async function work(mode, ask, otherwise) {
  const found = await database;
  if (!found) return otherwise();
  return new Promise((resolve, reject) => {
    const transaction = found.transaction(ENTRIES, mode);
    const request = ask(transaction.objectStore(ENTRIES));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error ?? new Error("nothing more can be kept"));
  });
}

/** Add an entry, or put a changed one in the place of the earlier one. */
export function put(entry) {
  const otherwise = () => lost.set(entry.id, entry);
  return work("readwrite", (store) => store.put(entry), otherwise);
}

/** Tell whether an entry is still there, as another tab may have removed it. */
export async function has(id) {
  const found = (store) => store.count(id);
  return Boolean(await work("readonly", found, () => lost.has(id)));
}

export function remove(id) {
  return work("readwrite", (store) => store.delete(id), () => lost.delete(id));
}

export function clear() {
  return work("readwrite", (store) => store.clear(), () => lost.clear());
}

/** Return all entries, the newest first. */
export async function list() {
  const entries = await work("readonly", (store) => store.getAll(), () => [...lost.values()]);
  return entries.sort((one, other) => other.time - one.time || (one.id < other.id ? 1 : -1));
}
