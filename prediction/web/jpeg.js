/**
 * JPEG at a part of its size, as Pillow's decoder (libjpeg-turbo) gives it.
 *
 * The decoder leaves out what the smaller picture does not show, which comes to the mean of each
 * block of pixels. A browser decodes all of it; pixels.js takes the means. But most cameras store
 * colours at half the size, which the browser enlarges smoothly first, and the decoder need not:
 * `restoreColours` undoes that.
 */

import { readOrientation } from "./upright.js";

const START = 0xffd8;
// What begins a frame is 0xffc0 to 0xffcf, but for these, which are other things
// (ITU-T T.81, table B.1).
const OTHERS = [0xffc4, 0xffc8, 0xffcc];
const HALVED = "22 11 11"; // of brightness and both colours, how many there are across and down

// The orientations by which the picture's left was right, or its top was at the bottom.
const EXIF = 0xffe1;
const FLIPPED = [
  [2, 3, 6, 7],
  [3, 4, 7, 8],
];

// What each makes of the brightness (JFIF 1.02).
const [RED, GREEN, BLUE] = [0.299, 0.587, 0.114];

/** The part of its size at which a JPEG is decoded, so that it still covers `resize`. */
export function draftFactor(width, height, resize) {
  const fits = Math.min(Math.floor(width / resize), Math.floor(height / resize));
  return [8, 4, 2].find((factor) => fits >= factor) ?? 1;
}

/**
 * Look at a file's first parts.
 *
 * @param {Blob} file
 * @returns {Promise<{halved: boolean, flips: boolean[]} | null>} whether its colours are at half
 *   the size, and which sides are turned round when it is turned upright; null: it is no JPEG
 */
export async function lookAtJpeg(file) {
  let part = await read(file, 0, 20);
  if (part.byteLength < 2 || part.getUint16(0) !== START) return null;
  let orientation = 1;
  for (let at = 2; ; at += 2 + part.getUint16(2)) {
    part = await read(file, at, 20);
    if (part.byteLength < 20) break;
    const marker = part.getUint16(0);
    if (marker === EXIF) {
      orientation = readOrientation(await read(file, at + 4, part.getUint16(2)));
    }
    if (marker >= 0xffc0 && marker <= 0xffcf && !OTHERS.includes(marker)) break;
  }
  return {
    halved: part.byteLength === 20 && haveHalf(part),
    flips: FLIPPED.map((orientations) => orientations.includes(orientation)),
  };
}

async function read(file, at, length) {
  return new DataView(await file.slice(at, at + length).arrayBuffer());
}

/** Tell whether a frame's header says that both colours are at half the size. */
function haveHalf(header) {
  const parts = header.getUint8(9) === 3 ? [11, 14, 17] : [];
  return parts.map((i) => header.getUint8(i).toString(16)).join(" ") === HALVED;
}

/**
 * Undo the smooth enlargement of colours in a picture that was shrunk by `factor` since.
 *
 * Enlarging a colour gives a pixel's nearer half 3/4 of its own and 1/4 of its neighbour's, so that
 * 1 / (4 factor) of the mean of a block is of the neighbour on each side. What that took from the
 * difference to the neighbours is added to it: an exact inverse would add as much again to the
 * errors of rounding. Brightness stays as it is.
 *
 * @param {{width: number, height: number, data: Uint8ClampedArray}} picture - changed in place
 */
export function restoreColours({ width, height, data }, factor) {
  const share = 1 / (4 * factor);
  sharpen(data, width, height, 1, 0, share);
  sharpen(data, width, height, 0, 1, share);
}

/** Add to each pixel a share of its colour's difference to its neighbours in one direction. */
function sharpen(data, width, height, right, down, share) {
  const old = data.slice();
  const step = 3 * (right + down * width);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i += 3) {
      const before = right * x + down * y > 0 ? i - step : i;
      const after = right * x + down * y < right * (width - 1) + down * (height - 1) ? i + step : i;
      const red = share * (2 * old[i] - old[before] - old[after]);
      const green = share * (2 * old[i + 1] - old[before + 1] - old[after + 1]);
      const blue = share * (2 * old[i + 2] - old[before + 2] - old[after + 2]);
      const brighter = RED * red + GREEN * green + BLUE * blue;
      data[i] = old[i] + red - brighter; // is rounded
      data[i + 1] = old[i + 1] + green - brighter;
      data[i + 2] = old[i + 2] + blue - brighter;
    }
  }
}
