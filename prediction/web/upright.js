/** How a camera was held: EXIF says it, and browsers follow it in JPEG and PNG, but not in WebP. */

const ORIENTATION = 0x0112;
const EXIF_MARK = 0x45786966; // "Exif", which may stand before what EXIF's own header begins

// What turns a picture of w x h upright, as of CanvasRenderingContext2D.transform.
const TURNS = {
  2: (w) => [-1, 0, 0, 1, w, 0],
  3: (w, h) => [-1, 0, 0, -1, w, h],
  4: (w, h) => [1, 0, 0, -1, 0, h],
  5: () => [0, 1, 1, 0, 0, 0],
  6: (w, h) => [0, 1, -1, 0, h, 0],
  7: (w, h) => [0, -1, -1, 0, h, w],
  8: (w) => [0, -1, 1, 0, 0, w],
};

/** Find how the camera was held (EXIF 2.32, sections 4.6.2 and 4.6.4); 1 is upright. */
export function readOrientation(exif) {
  try {
    const start = exif.getUint32(0) === EXIF_MARK ? 6 : 0;
    const isLittle = exif.getUint16(start) === 0x4949;
    const directory = start + exif.getUint32(start + 4, isLittle);
    const count = exif.getUint16(directory, isLittle);
    for (let at = directory + 2; at < directory + 2 + 12 * count; at += 12) {
      if (exif.getUint16(at, isLittle) === ORIENTATION) return exif.getUint16(at + 8, isLittle);
    }
  } catch {
    // It ends too early: the browser makes nothing of it, either.
  }
  return 1;
}

/**
 * Take its orientation out of a WebP, so that no browser turns it a second time.
 *
 * @param {Blob} file
 * @returns {Promise<{file: Blob, orientation: number}>}
 */
export async function withoutOrientation(file) {
  const read = async (at, length) => new DataView(await file.slice(at, at + length).arrayBuffer());
  const text = (part, at) => String.fromCharCode(...[0, 1, 2, 3].map((i) => part.getUint8(at + i)));
  for (let at = 12; at + 8 <= file.size; ) {
    const chunk = await read(at, 8);
    const length = chunk.getUint32(4, true);
    if (text(chunk, 0) === "EXIF") {
      const orientation = readOrientation(await read(at + 8, length));
      return { file: new Blob([file.slice(0, at), "JUNK", file.slice(at + 4)]), orientation };
    }
    at += 8 + length + (length % 2);
  }
  return { file, orientation: 1 };
}

/** Turn a picture upright. */
export function turn(bitmap, orientation) {
  const { width, height } = bitmap;
  const transform = TURNS[orientation]?.(width, height);
  if (!transform) return bitmap;
  const canvas = new OffscreenCanvas(...(orientation > 4 ? [height, width] : [width, height]));
  const context = canvas.getContext("2d");
  context.transform(...transform);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return canvas.transferToImageBitmap();
}
