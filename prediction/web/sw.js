/**
 * Keeps the app's files, all of one version, and answers with them.
 *
 * `DIGEST`, of all files, and `FILES` are written above when the app is exported.
 */

const OURS = `flowers ${registration.scope} `; // another app may be on the same server
const CACHE = OURS + DIGEST;

addEventListener("install", (event) => event.waitUntil(keep()));

/** Load all files; what the page has just loaded itself is asked for again only if it is new. */
async function keep() {
  const cache = await caches.open(CACHE);
  await cache.addAll(FILES.map((file) => new Request(file, { cache: "no-cache" })));
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
