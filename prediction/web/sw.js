/**
 * Keeps the app's files, all of one version, and answers with them.
 *
 * `FILES`, each with its SHA-256, and `DIGEST`, of them all, are written above at the export.
 */

const OURS = `flowers ${registration.scope} `; // another app may be on the same server
const CACHE = OURS + DIGEST;

addEventListener("install", (event) => event.waitUntil(keep()));

async function keep() {
  const cache = await caches.open(CACHE);
  const files = Object.entries(FILES);
  await Promise.all(files.map(async ([file, sha256]) => cache.put(file, await load(file, sha256))));
}

/** Find a file: in an earlier version, as the page has just loaded it, or on the server. */
async function load(file, sha256) {
  const places = [
    () => caches.match(file),
    () => fetch(file, { cache: "no-cache" }),
    () => fetch(file, { cache: "reload" }),
  ];
  for (const place of places) {
    const response = await place();
    if (response?.ok && (await digest(response.clone())) === sha256) return response;
  }
  throw new Error(`${file} is of another version`);
}

async function digest(response) {
  const bytes = await crypto.subtle.digest("SHA-256", await response.arrayBuffer());
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

addEventListener("activate", (event) => event.waitUntil(take()));

/** Forget earlier versions, and answer the pages that are open. */
async function take() {
  const earlier = (name) => name.startsWith(OURS) && name !== CACHE;
  await Promise.all((await caches.keys()).filter(earlier).map((name) => caches.delete(name)));
  await clients.claim();
}

addEventListener("message", ({ data }) => data === "use" && skipWaiting());

addEventListener("fetch", (event) => {
  const { origin } = new URL(event.request.url);
  // Nothing leaves the device, whoever asks.
  event.respondWith(origin === location.origin ? answer(event.request) : Response.error());
});

async function answer(request) {
  const cache = await caches.open(CACHE);
  return (await cache.match(request, { ignoreSearch: true })) ?? fetch(request);
}
