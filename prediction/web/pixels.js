/**
 * From a photograph to the pixels a network sees: what images/decode.py does, step by step.
 *
 * There it is Pillow that decodes large JPEGs at a part of their size, shrinks by whole factors
 * and resizes. The browser's own resizing is another one in every browser, and would give other
 * probabilities; so it is done here, rounded to whole numbers where Pillow rounds.
 */

import { draftFactor, lookAtJpeg, restoreColours } from "./jpeg.js";
import { turn, withoutOrientation } from "./upright.js";

// Pillow's Resample.c: how far a filter reaches, in pixels of the result, and its weights.
const FILTERS = {
  bilinear: { reach: 1, weight: (x) => Math.max(1 - Math.abs(x), 0) },
  bicubic: { reach: 2, weight: cubic },
};

// Weights are whole numbers of this part of one, as Pillow has them for pixels of eight bits.
const PRECISION = 22;

// The steps in which a photograph is read: a phone's has 48 million pixels, and Safari's canvas
// at most 16 million.
const PIXELS_AT_ONCE = 1_000_000;

// Where an ICC profile begins, among the first bytes of JPEG, PNG, WebP, HEIC and AVIF.
const PROFILES = ["ICC_PROFILE\0", "iCCP", "ICCP", "colrprof", "colrrICC"];
const START = 300_000;

/** Convolve by cubic polynomials (Keys, 1981) with a = -0.5. */
function cubic(signed) {
  const x = Math.abs(signed);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

/**
 * Decode a photograph's file: upright, its colours by its ICC profile.
 *
 * A file without a profile keeps its values, whatever a browser makes of a PNG's gamma.
 *
 * @param {Blob} file
 * @returns {Promise<{bitmap: ImageBitmap, jpeg: object | null}>} see `lookAtJpeg`
 */
export async function decode(file) {
  const jpeg = await lookAtJpeg(file);
  const start = new TextDecoder("latin1").decode(await file.slice(0, START).arrayBuffer());
  const isWebp = start.startsWith("RIFF") && start.startsWith("WEBP", 8);
  const upright = isWebp ? await withoutOrientation(file) : { file, orientation: 1 };
  const bitmap = await createImageBitmap(upright.file, {
    imageOrientation: "from-image",
    colorSpaceConversion: PROFILES.some((mark) => start.includes(mark)) ? "default" : "none",
  });
  return { bitmap: turn(bitmap, upright.orientation), jpeg };
}

/**
 * Scale a picture's short side to `resize` and cut out the central square of side `crop`.
 *
 * @param {ImageBitmap} bitmap - transparent parts become white
 * @param {{resize: number, crop: number, interpolation: string}} preprocessing
 * @param {object | null} jpeg - see `lookAtJpeg`: a large one is first shrunk as Pillow's decoder
 *   shrinks it
 * @returns {Uint8Array} red, green, blue, in rows: crop x crop x 3
 */
export function toPixels(bitmap, { resize, crop, interpolation }, jpeg) {
  const { reach, weight } = FILTERS[interpolation];
  const draft = jpeg ? draftFactor(bitmap.width, bitmap.height, resize) : 1;
  const lengths = [bitmap.width, bitmap.height];
  const sides = lengths.map((length) => Math.ceil(length / draft));
  const scale = Math.min(...sides) / resize;
  const axes = sides.map((side, i) => {
    // The last block of a JPEG is cut off, which may have become the first.
    const missing = jpeg?.flips[i] ? side * draft - lengths[i] : 0;
    return { missing, length: lengths[i], ...planAxis(side, scale, crop, reach) };
  });
  const small = shrink(bitmap, draft, axes);
  if (draft > 1 && jpeg.halved) restoreColours(small, draft);
  const filter = { size: crop, reach, weight };
  const across = weigh(axes[0], small.width, filter);
  const down = weigh(axes[1], small.height, filter);
  return resample(small, across, down);
}

/**
 * Say what is read of one side of a picture.
 *
 * @returns `start` and `end` of the crop; `first` and `last` of the pixels that count for it; the
 *   whole `factor` by which they are shrunk before they are resized, to no less than twice the crop
 */
function planAxis(side, scale, crop, reach) {
  const from = roundHalfEven((side / scale - crop) / 2);
  const start = Math.max(from * scale, 0);
  const end = Math.min((from + crop) * scale, side);
  const step = (end - start) / crop;
  const beyond = step < 1 ? reach : (reach - 0.5) * step;
  return {
    start,
    end,
    first: Math.max(0, Math.trunc(start - beyond)),
    last: Math.min(side, Math.ceil(end + beyond)),
    factor: Math.trunc(step / 2) || 1,
  };
}

/** Round as Python does: halves go to the even number. */
function roundHalfEven(x) {
  const below = Math.floor(x);
  const rest = x - below;
  return rest > 0.5 || (rest === 0.5 && below % 2) ? below + 1 : below;
}

/**
 * Read the part of a picture that counts, each pixel the mean of a block.
 *
 * @param {number} draft - what both sides are shrunk by, before the axes' own factors
 * @returns {{width: number, height: number, data: Uint8ClampedArray}} red, green, blue, in rows
 */
function shrink(bitmap, draft, axes) {
  const [across, down] = axes.map((axis) => cutIntoBlocks(axis, draft));
  const [left, right] = [across[0].from, across.at(-1).to];
  const [width, height] = [across.length, down.length];
  const data = new Uint8ClampedArray(width * height * 3);

  const size = draft * axes[1].factor;
  const rows = Math.max(1, Math.floor(PIXELS_AT_ONCE / (right - left) / size));
  const canvas = new OffscreenCanvas(right - left, Math.min(height, rows) * size);
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  for (let row = 0; row < height; row += rows) {
    const blocks = down.slice(row, row + rows);
    const [top, lines] = [blocks[0].from, blocks.at(-1).to - blocks[0].from];
    context.fillStyle = "white";
    context.fillRect(0, 0, canvas.width, lines);
    context.drawImage(bitmap, left, top, canvas.width, lines, 0, 0, canvas.width, lines);
    const strip = context.getImageData(0, 0, canvas.width, lines);
    blocks.forEach(({ from, to }, i) => {
      const line = data.subarray((row + i) * width * 3);
      average(strip, across, left, from - top, to - top, line);
    });
  }
  return { width, height, data };
}

/** Say from where to where each block of an axis goes, in the picture's own pixels. */
function cutIntoBlocks({ first, last, factor, missing, length }, draft) {
  const inside = (at) => Math.min(Math.max(at * draft - missing, 0), length);
  return Array.from({ length: Math.ceil((last - first) / factor) }, (_, i) => ({
    from: inside(first + i * factor),
    to: inside(Math.min(first + (i + 1) * factor, last)),
  }));
}

/** Put the means of a row of blocks, from line `top` to `bottom` of a strip, into `line`. */
function average({ width, data }, across, start, top, bottom, line) {
  let out = 0;
  for (const { from, to } of across) {
    let red = 0;
    let green = 0;
    let blue = 0;
    for (let y = top; y < bottom; y++) {
      const end = (y * width + to - start) * 4;
      for (let i = (y * width + from - start) * 4; i < end; i += 4) {
        red += data[i];
        green += data[i + 1];
        blue += data[i + 2];
      }
    }
    const count = (to - from) * (bottom - top);
    // As Pillow divides: what is all but a half is rounded down, as well.
    const half = count >> 1;
    const share = Math.floor(2 ** 24 / count) / 2 ** 24;
    line[out++] = Math.floor((red + half) * share);
    line[out++] = Math.floor((green + half) * share);
    line[out++] = Math.floor((blue + half) * share);
  }
}

/**
 * Compute which pixels of a side make up each pixel of the result, and by which weights.
 *
 * @param {object} axis - what was read of the side, see `planAxis`
 * @param {number} count - the pixels that it was shrunk to
 * @param {{size: number, reach: number, weight: Function}} filter - and the pixels wanted
 * @returns {{first: number, weights: Int32Array}[]}
 */
function weigh({ start, end, first: origin, factor }, count, { size, reach, weight }) {
  // Pillow counts from the side's own beginning, unless it was shrunk; and in float32.
  const offset = factor === 1 ? origin : 0;
  const place = (at) => Math.fround(factor === 1 ? at : (at - origin) / factor);
  const from = place(start);
  const scale = Math.fround(place(end) - from) / size;
  const wide = Math.max(scale, 1); // a filter that shrinks takes all pixels in
  return Array.from({ length: size }, (_, i) => {
    const centre = from + (i + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - reach * wide + 0.5), offset);
    const last = Math.min(Math.trunc(centre + reach * wide + 0.5), offset + count);
    const parts = Array.from({ length: last - first }, (_, j) =>
      weight((j + first - centre + 0.5) * (1 / wide)),
    );
    const sum = parts.reduce((total, part) => total + part, 0);
    const whole = (part) => Math.trunc(part * 2 ** PRECISION + 0.5 * Math.sign(part));
    return { first: first - offset, weights: Int32Array.from(parts, (part) => whole(part / sum)) };
  });
}

/** Resize: first the rows, to whole numbers, and then the columns. */
function resample({ width, height, data }, across, down) {
  const size = across.length;
  const rows = new Uint8ClampedArray(height * size * 3);
  for (let y = 0; y < height; y++) {
    convolve(data, y * width * 3, 3, across, rows, y * size * 3, 3);
  }
  const result = new Uint8ClampedArray(down.length * size * 3);
  for (let x = 0; x < size; x++) {
    convolve(rows, x * 3, size * 3, down, result, x * 3, size * 3);
  }
  return new Uint8Array(result.buffer);
}

/** Weigh the pixels of a line, which lie a step apart, into a line of another picture. */
function convolve(from, fromStart, fromStep, plan, to, toStart, toStep) {
  const half = 1 << (PRECISION - 1); // so that it is rounded
  for (let i = 0, out = toStart; i < plan.length; i++, out += toStep) {
    const { first, weights } = plan[i];
    let red = half;
    let green = half;
    let blue = half;
    for (let j = 0, at = fromStart + first * fromStep; j < weights.length; j++, at += fromStep) {
      red += from[at] * weights[j];
      green += from[at + 1] * weights[j];
      blue += from[at + 2] * weights[j];
    }
    to[out] = red >> PRECISION;
    to[out + 1] = green >> PRECISION;
    to[out + 2] = blue >> PRECISION;
  }
}
