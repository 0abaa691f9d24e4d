// MessagePack in its one form: the shortest of each integer, text, binary and array; no floats, no
// maps. The reader refuses any other encoding of the same value, so what it read needs not be
// written again to be compared. Integers are BigInt: 64 bits do not fit into a Number.

import { characters, joined, utf8 } from "./bytes.js";
import { FormatError } from "./errors.js";

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export class Reader {
  constructor(bytes, at = 0) {
    this.bytes = bytes;
    this.at = at;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get ended() {
    return this.at === this.bytes.length;
  }

  // Where `size` bytes begin that are taken now.
  take(size) {
    const begin = this.at;
    if (size > this.bytes.length - begin) throw new FormatError("the bytes end too soon");
    this.at = begin + size;
    return begin;
  }

  byte() {
    return this.bytes[this.take(1)];
  }

  // A length that has 1, 2 or 4 bytes and needs more than `below`, which shorter forms can say.
  length(width, below) {
    const begin = this.take(width);
    const { view } = this;
    const size =
      width === 1
        ? view.getUint8(begin)
        : width === 2
          ? view.getUint16(begin)
          : view.getUint32(begin);
    if (size <= below) throw new FormatError("a length is not in its shortest form");
    return size;
  }

  array() {
    const head = this.byte();
    if (head >= 0x90 && head <= 0x9f) return head & 0x0f;
    if (head === 0xdc) return this.length(2, 15);
    if (head === 0xdd) return this.length(4, 0xffff);
    throw new FormatError("expected an array");
  }

  // The header of an array as a batch has it: always with 32 bits.
  array32() {
    if (this.byte() !== 0xdd) throw new FormatError("expected an array with a length of 32 bits");
    return this.view.getUint32(this.take(4));
  }

  // Whether nil follows; it is taken if so.
  nil() {
    if (this.bytes[this.at] !== 0xc0) return false;
    this.at += 1;
    return true;
  }

  integer() {
    const head = this.byte();
    if (head < 0x80) return BigInt(head);
    if (head >= 0xe0) return BigInt(head - 0x100);
    const { view } = this;
    let value;
    let shorter; // whether a shorter form says the same
    switch (head) {
      case 0xcc:
        value = view.getUint8(this.take(1));
        shorter = value < 0x80;
        break;
      case 0xcd:
        value = view.getUint16(this.take(2));
        shorter = value < 0x100;
        break;
      case 0xce:
        value = view.getUint32(this.take(4));
        shorter = value < 0x10000;
        break;
      case 0xcf:
        value = view.getBigUint64(this.take(8));
        shorter = value < 0x100000000n;
        break;
      case 0xd0:
        value = view.getInt8(this.take(1));
        shorter = value >= -0x20;
        break;
      case 0xd1:
        value = view.getInt16(this.take(2));
        shorter = value >= -0x80;
        break;
      case 0xd2:
        value = view.getInt32(this.take(4));
        shorter = value >= -0x8000;
        break;
      case 0xd3:
        value = view.getBigInt64(this.take(8));
        shorter = value >= -0x80000000n;
        break;
      default:
        throw new FormatError("expected an integer");
    }
    if (shorter) throw new FormatError("an integer is not in its shortest form");
    return BigInt(value);
  }

  // A text of `least` to `most` characters.
  text(least = 0, most = Infinity) {
    const head = this.byte();
    let size;
    if (head >= 0xa0 && head <= 0xbf) size = head & 0x1f;
    else if (head === 0xd9) size = this.length(1, 31);
    else if (head === 0xda) size = this.length(2, 0xff);
    else if (head === 0xdb) size = this.length(4, 0xffff);
    else throw new FormatError("expected text");
    const begin = this.take(size);
    const text = this.decoded(begin, begin + size);
    const count = text.length === size ? size : characters(text);
    if (count < least || count > most) {
      throw new FormatError(`a text of ${count} characters; ${least} to ${most} are allowed`);
    }
    return text;
  }

  decoded(begin, end) {
    const { bytes } = this;
    if (end - begin < 64) {
      let text = "";
      let at = begin;
      for (; at < end && bytes[at] < 0x80; at += 1) text += String.fromCharCode(bytes[at]);
      if (at === end) return text;
    }
    try {
      return strict.decode(bytes.subarray(begin, end));
    } catch {
      throw new FormatError("a text is not UTF-8");
    }
  }

  // Bytes, `least` to `most` of them.
  binary(least, most = least) {
    const head = this.byte();
    let size;
    if (head === 0xc4) size = this.length(1, -1);
    else if (head === 0xc5) size = this.length(2, 0xff);
    else if (head === 0xc6) size = this.length(4, 0xffff);
    else throw new FormatError("expected bytes");
    if (size < least || size > most) {
      throw new FormatError(
        `${size} bytes; ${least === most ? least : `${least} to ${most}`} are allowed`,
      );
    }
    const begin = this.take(size);
    return this.bytes.subarray(begin, begin + size);
  }
}

// A value's bytes: null, BigInt, text, bytes, or an array of such.
export function pack(value) {
  if (value === null) return Uint8Array.of(0xc0);
  if (typeof value === "bigint") return packInteger(value);
  if (typeof value === "string") {
    const text = utf8(value);
    return joined(header(text.length, 32, 0xa0, [0xd9, 0xda, 0xdb]), text);
  }
  if (value instanceof Uint8Array) {
    return joined(header(value.length, 0, 0, [0xc4, 0xc5, 0xc6]), value);
  }
  return joined(header(value.length, 16, 0x90, [0, 0xdc, 0xdd]), ...value.map(pack));
}

// A length with the shortest header: in one byte below `few`, else with 8, 16 or 32 bits.
function header(size, few, first, [in8, in16, in32]) {
  if (size < few) return Uint8Array.of(first | size);
  if (in8 && size < 0x100) return Uint8Array.of(in8, size);
  if (size < 0x10000) return Uint8Array.of(in16, size >> 8, size & 0xff);
  const long = new Uint8Array(5);
  long[0] = in32;
  new DataView(long.buffer).setUint32(1, size);
  return long;
}

const FORMS = [
  [0x00n, 0x7fn, null, 1],
  [-0x20n, -1n, null, 1],
  [0n, 0xffn, 0xcc, 1],
  [0n, 0xffffn, 0xcd, 2],
  [0n, 0xffffffffn, 0xce, 4],
  [0n, 0xffffffffffffffffn, 0xcf, 8],
  [-0x80n, -1n, 0xd0, 1],
  [-0x8000n, -1n, 0xd1, 2],
  [-0x80000000n, -1n, 0xd2, 4],
  [-0x8000000000000000n, -1n, 0xd3, 8],
];

function packInteger(value) {
  const form = FORMS.find(([low, high]) => low <= value && value <= high);
  if (!form) throw new FormatError(`${value} does not fit into 64 bits`);
  const [, , head, width] = form;
  const digits = new Uint8Array(8);
  new DataView(digits.buffer).setBigUint64(0, BigInt.asUintN(64, value));
  const tail = digits.subarray(8 - width);
  return head === null ? tail : joined(Uint8Array.of(head), tail);
}

const NESTED_MAX = 1024;
const CUT_OFF = -1; // the value goes on beyond the bytes
const NO_VALUE = -2; // the bytes are not MessagePack, or are nested too deep

// Where the MessagePack value at `at` ends, whatever it is. Headers are looked at, contents are
// not.
export function endOfValue(bytes, at) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const left = []; // of each container that is open, how many values are still to come
  let items = 1;
  const many = (width) => {
    if (at + width > bytes.length) return Infinity;
    const count =
      width === 1 ? view.getUint8(at) : width === 2 ? view.getUint16(at) : view.getUint32(at);
    at += width;
    return count;
  };
  for (;;) {
    if (at >= bytes.length) return CUT_OFF;
    const head = bytes[at];
    at += 1;
    let size = 0;
    let inside = 0;
    if (head < 0x80 || head >= 0xe0 || (head >= 0xc0 && head <= 0xc3 && head !== 0xc1)) size = 0;
    else if (head < 0x90) inside = 2 * (head & 0x0f);
    else if (head < 0xa0) inside = head & 0x0f;
    else if (head < 0xc0) size = head & 0x1f;
    else if (head === 0xc1) return NO_VALUE;
    else if (head <= 0xc6) size = many(1 << (head - 0xc4));
    else if (head <= 0xc9) size = many(1 << (head - 0xc7)) + 1;
    else if (head <= 0xcb) size = head === 0xca ? 4 : 8;
    else if (head <= 0xcf) size = 1 << (head - 0xcc);
    else if (head <= 0xd3) size = 1 << (head - 0xd0);
    else if (head <= 0xd8) size = 1 + (1 << (head - 0xd4));
    else if (head <= 0xdb) size = many(1 << (head - 0xd9));
    else if (head <= 0xdd) inside = many(head === 0xdc ? 2 : 4);
    else inside = 2 * many(head === 0xde ? 2 : 4);
    if (size === Infinity || inside === Infinity || at + size > bytes.length) return CUT_OFF;
    at += size;
    items -= 1;
    if (inside) {
      if (left.length >= NESTED_MAX) return NO_VALUE;
      left.push(items);
      items = inside;
    }
    while (!items && left.length) items = left.pop();
    if (!items && !left.length) return at;
  }
}

export const endings = { CUT_OFF, NO_VALUE };
