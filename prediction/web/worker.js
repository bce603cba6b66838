/**
 * The network, beside the page, so that the page stays quick while it computes.
 *
 * It is sent {id, picture, keeps}, a file or an ImageBitmap, and answers {id, probabilities,
 * familiarity} or {id, error}; with `keeps` there is a `small` JPEG, too. Before that it says
 * {known}, what flowers.json holds, how far it is, {loaded, total} bytes, and {ready} or {broken}.
 */

import * as ort from "./onnxruntime.js";

import { decode, toPixels } from "./pixels.js";

const RUNTIME = "onnxruntime.bin"; // compressed by gzip
const NETWORK = "flowers.onnx";

const MOST_THREADS = 4;
const KEPT = 720; // pixels of the short side

const loading = load();
loading.then(
  () => postMessage({ ready: true }),
  (error) => postMessage({ broken: String(error.message ?? error) }),
);

// One after the other: a message waits here until the one before it is answered.
let last = loading;
onmessage = ({ data: { id, picture, keeps } }) => {
  const answer = last.then(() => loading).then((network) => name(picture, keeps, network));
  last = answer.catch(() => {});
  answer.then(
    (found) => postMessage({ id, ...found }),
    (error) => postMessage({ id, error: String(error.message ?? error) }),
  );
};

/** Load everything there is to load, and compute once, as the first time takes longer. */
async function load() {
  const known = await (await get("flowers.json")).json();
  postMessage({ known });
  const [runtime, network] = await read([RUNTIME, NETWORK]);
  await Promise.all([layUp(RUNTIME, runtime), layUp(NETWORK, network)]);
  ort.env.wasm.wasmBinary = await unpack(runtime);
  // Threads take memory that is shared, which browsers allow where a server's headers ask for it.
  const threads = Math.min(MOST_THREADS, navigator.hardwareConcurrency ?? 1);
  ort.env.wasm.numThreads = self.crossOriginIsolated ? threads : 1;
  const session = await ort.InferenceSession.create(network, { executionProviders: ["wasm"] });
  const { crop } = known.preprocessing;
  await compute(session, new Uint8Array(crop * crop * 3), crop);
  return { session, known };
}

async function get(file) {
  const response = await fetch(file).catch(() => {
    throw new Error("the connection has broken off");
  });
  if (!response.ok) throw new Error(`${file} cannot be loaded (${response.status})`);
  return response;
}

function unpack(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** Read files at once, and say how many of their bytes have come. */
async function read(files) {
  const responses = await Promise.all(files.map(get));
  const lengths = responses.map(({ headers }) => Number(headers.get("Content-Length")));
  const total = lengths.every(Boolean) ? lengths.reduce((sum, length) => sum + length, 0) : 0;
  let loaded = 0;
  return Promise.all(
    responses.map(async (response) => {
      const chunks = [];
      for (const reader = response.body.getReader(); ; ) {
        const { done, value } = await reader.read();
        if (done) return new Uint8Array(await new Blob(chunks).arrayBuffer());
        chunks.push(value);
        loaded += value.length;
        postMessage({ loaded, total });
      }
    }),
  );
}

/** Lay up a large file for the service worker, which would load it once more on a first visit. */
async function layUp(file, bytes) {
  try {
    if (await caches.match(file)) return;
    const cache = await caches.open(`flowers ${new URL("./", location)} loaded`);
    await cache.put(file, new Response(bytes));
  } catch {
    // No place, or no HTTPS: then it is loaded once more, or not kept.
  }
}

/** Name a photograph: a file, or a frame of the camera. */
async function name(picture, keeps, { session, known }) {
  const isFile = picture instanceof Blob;
  const { bitmap, jpeg } = isFile
    ? await open(picture)
    : { bitmap: picture, jpeg: null };
  try {
    const pixels = toPixels(bitmap, known.preprocessing, jpeg);
    const found = await compute(session, pixels, known.preprocessing.crop);
    return keeps ? { ...found, small: await shrink(bitmap) } : found;
  } finally {
    bitmap.close();
  }
}

async function open(file) {
  try {
    return await decode(file);
  } catch {
    throw new Error("this is no picture that your browser can open");
  }
}

/** Ask the network for one picture, crop x crop x 3. */
async function compute(session, pixels, crop) {
  const images = new ort.Tensor("uint8", pixels, [1, crop, crop, 3]);
  const { probabilities, familiarity } = await session.run({ images });
  return { probabilities: probabilities.data, familiarity: familiarity.data[0] };
}

function shrink(bitmap) {
  const scale = Math.min(KEPT / Math.min(bitmap.width, bitmap.height), 1);
  const [width, height] = [bitmap.width, bitmap.height].map((side) =>
    Math.max(Math.round(side * scale), 1),
  );
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white"; // JPEG has no transparency
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 });
}
