/** Zip files without compression, as JPEG has no need of any (PKWARE's APPNOTE.TXT, 6.3.10). */

const TABLE = Uint32Array.from({ length: 256 }, (_, i) => {
  let value = i;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = (value >>> 8) ^ TABLE[(value ^ byte) & 0xff];
  return ~value >>> 0;
}

/** Write numbers, each of so many bytes, the least byte first. */
function numbers(...pairs) {
  const size = pairs.reduce((sum, [, bytes]) => sum + bytes, 0);
  const view = new DataView(new ArrayBuffer(size));
  let at = 0;
  for (const [value, bytes] of pairs) {
    if (bytes === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += bytes;
  }
  return new Uint8Array(view.buffer);
}

/**
 * Zip files, together below 4 GB and 65,536 of them.
 *
 * @param {{path: string, blob: Blob, time: number}[]} files - `time` in milliseconds
 * @returns {Promise<Blob>}
 */
export async function zip(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { path, blob, time } of files) {
    const name = new TextEncoder().encode(path);
    const crc = crc32(new Uint8Array(await blob.arrayBuffer()));
    const date = new Date(time);
    const clock = (date.getHours() << 11) | (date.getMinutes() << 5) | (date.getSeconds() >> 1);
    const day = ((date.getFullYear() - 1980) << 9) | ((date.getMonth() + 1) << 5) | date.getDate();
    // Version 2.0, names in UTF-8, stored as it is.
    const shared = [[20, 2], [0x800, 2], [0, 2], [clock, 2], [day, 2], [crc, 4]];
    shared.push([blob.size, 4], [blob.size, 4], [name.length, 2], [0, 2]);
    parts.push(numbers([0x04034b50, 4], ...shared), name, blob);
    const rest = [[0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]];
    directory.push(numbers([0x02014b50, 4], [20, 2], ...shared, ...rest), name);
    offset += 30 + name.length + blob.size;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const count = files.length;
  const end = numbers([0x06054b50, 4], [0, 4], [count, 2], [count, 2], [size, 4], [offset, 4], [0, 2]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}
