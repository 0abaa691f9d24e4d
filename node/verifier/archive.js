// The container of a bundle: a ZIP that can be written in exactly one way. The reader takes the few
// numbers that may vary, the CRC and the size, and requires every other byte to be the one that the
// writer would have written. Offsets and sizes are Numbers: no browser opens a file above 2^53
// bytes.

import { EMPTY, joined, sameBytes, utf8 } from "./bytes.js";
import { FormatError } from "./errors.js";

const CHUNK_BYTES = 1 << 20;
const LOCAL_SIZE = 30;
const IN_EXTRA = 0xffffffff; // "the number is in the 64-bit extra field"
const UNIX = 3 << 8;
const REGULAR_FILE = 0o100644 * 0x10000;
const FIRST_OF_1980 = 0x0021;

// Bytes of little-endian numbers, each given as [width, value].
function packed(...numbers) {
  const bytes = new Uint8Array(numbers.reduce((size, [width]) => size + width, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [width, value] of numbers) {
    if (width === 2) view.setUint16(at, value, true);
    else if (width === 4) view.setUint32(at, value, true);
    else view.setBigUint64(at, BigInt(value), true);
    at += width;
  }
  return bytes;
}

const version = (large) => (large ? 45 : 20);

function headerSize({ name, large }) {
  return LOCAL_SIZE + name.length + (large ? 20 : 0);
}

function localHeader({ name, large, crc, size }) {
  const shown = large ? IN_EXTRA : size;
  const fixed = packed(
    [4, 0x04034b50], [2, version(large)], [2, 0], [2, 0], [2, 0], [2, FIRST_OF_1980],
    [4, crc], [4, shown], [4, shown], [2, name.length], [2, large ? 20 : 0],
  );
  const extra = large ? packed([2, 1], [2, 16], [8, size], [8, size]) : EMPTY;
  return joined(fixed, utf8(name), extra);
}

function entry({ name, large, crc, size, offset }) {
  const shown = large ? IN_EXTRA : size;
  const fixed = packed(
    [4, 0x02014b50], [2, UNIX | version(large)], [2, version(large)], [2, 0], [2, 0], [2, 0],
    [2, FIRST_OF_1980], [4, crc], [4, shown], [4, shown], [2, name.length], [2, large ? 28 : 0],
    [2, 0], [2, 0], [2, 0], [4, REGULAR_FILE], [4, large ? IN_EXTRA : offset],
  );
  const extra = large ? packed([2, 1], [2, 24], [8, size], [8, size], [8, offset]) : EMPTY;
  return joined(fixed, utf8(name), extra);
}

// The central directory and what ends the archive, for a directory at this offset.
function directory(members, offset) {
  const entries = joined(...members.map(entry));
  const count = members.length;
  const size = entries.length;
  if (!members.some((member) => member.large)) {
    const end = packed(
      [4, 0x06054b50], [2, 0], [2, 0], [2, count], [2, count], [4, size], [4, offset], [2, 0],
    );
    return joined(entries, end);
  }
  const end64 = packed(
    [4, 0x06064b50], [8, 44], [2, UNIX | 45], [2, 45], [4, 0], [4, 0], [8, count], [8, count],
    [8, size], [8, offset],
  );
  const locator = packed([4, 0x07064b50], [4, 0], [8, offset + size], [4, 1]);
  const end = packed(
    [4, 0x06054b50], [2, 0], [2, 0], [2, count], [2, count], [4, IN_EXTRA], [4, IN_EXTRA], [2, 0],
  );
  return joined(entries, end64, locator, end);
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

function crc32(bytes, before) {
  let value = ~before;
  for (let at = 0; at < bytes.length; at += 1) {
    value = CRC_TABLE[(value ^ bytes[at]) & 0xff] ^ (value >>> 8);
  }
  return ~value >>> 0;
}

// The members of an archive that has all of `always`, then of each group all or none, each as
// {name, large, crc, size, offset, dataOffset}. `FormatError` unless every byte is what the writer
// would have written. A member that is not large may have at most `sizeMax` bytes.
export async function readArchive(file, always, groups, sizeMax, pace) {
  const members = [];
  let offset = 0;
  for (const group of [always, ...groups]) {
    const last = group === groups[groups.length - 1];
    if (group !== always && !(await begins(file, group, offset, last))) continue;
    for (const expected of group) {
      const member = await readMember(file, expected, offset, sizeMax, pace);
      members.push(member);
      offset = member.dataOffset + member.size;
    }
  }
  const expected = directory(members, offset);
  if (!sameBytes(await file.read(offset, expected.length + 1), expected)) {
    throw new FormatError(
      `the archive's directory at byte ${offset} is not the one that belongs to its members`,
      "The file was changed, cut off or written by another program",
    );
  }
  return members;
}

// Whether a header of the group's first member follows; for the last group, any header.
async function begins(file, group, offset, last) {
  const name = utf8(group[0].name);
  const header = await file.read(offset, LOCAL_SIZE + name.length);
  const isHeader = sameBytes(header.subarray(0, 4), Uint8Array.of(0x50, 0x4b, 3, 4));
  return isHeader && (last || sameBytes(header.subarray(LOCAL_SIZE), name));
}

async function readMember(file, { name, large }, offset, sizeMax, pace) {
  const length = headerSize({ name, large });
  const header = await file.read(offset, length);
  if (header.length < length) {
    throw new FormatError(`the archive ends at the header of ${name}, byte ${offset}`);
  }
  const view = new DataView(header.buffer, header.byteOffset);
  const crc = view.getUint32(14, true);
  const stated = large
    ? view.getBigUint64(LOCAL_SIZE + name.length + 4, true)
    : view.getUint32(18, true);
  if (!sameBytes(header, localHeader({ name, large, crc, size: stated }))) {
    throw new FormatError(
      `at byte ${offset} there is no header of the member ${name} as a bundle has it`,
      "The file is not a bundle, was changed, or was written by another program",
    );
  }
  const size = Number(stated);
  if (!large && size > sizeMax) {
    throw new FormatError(`${name} has ${size} bytes; at most ${sizeMax} are allowed`);
  }
  const dataOffset = offset + length;
  let found = 0;
  for (let left = size; left; ) {
    const chunk = await file.read(dataOffset + size - left, Math.min(left, CHUNK_BYTES));
    if (!chunk.length) {
      throw new FormatError(`the archive ends within ${name}, ${left} bytes before its end`);
    }
    found = crc32(chunk, found);
    left -= chunk.length;
    await pace.step(`reading ${name}`, 1 - left / size);
  }
  if (found !== crc) {
    throw new FormatError(
      `the bytes of ${name} do not have the CRC that its header says`,
      "The file was changed or damaged",
    );
  }
  return { name, large, crc, size, offset, dataOffset };
}
