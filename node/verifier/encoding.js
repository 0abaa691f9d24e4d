// MessagePack in its one form: the shortest of each integer, text, binary and array; no floats, no
// maps. The reader refuses any other encoding of the same value, so what it read needs not be
// written again to be compared. Integers are BigInt: 64 bits do not fit into a Number.

import { characters, utf8 } from "./bytes.js";
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
  const writer = new Writer();
  writer.write(value);
  return writer.bytes.slice(0, writer.at);
}

const INTEGERS = [
  // The lowest and the highest value of each form, its first byte and the bytes that follow it.
  [0n, 0xffn, 0xcc, 1],
  [0n, 0xffffn, 0xcd, 2],
  [0n, 0xffffffffn, 0xce, 4],
  [0n, 0xffffffffffffffffn, 0xcf, 8],
  [-0x80n, -1n, 0xd0, 1],
  [-0x8000n, -1n, 0xd1, 2],
  [-0x80000000n, -1n, 0xd2, 4],
  [-0x8000000000000000n, -1n, 0xd3, 8],
];

class Writer {
  constructor() {
    this.bytes = new Uint8Array(256);
    this.at = 0;
  }

  // Room for `size` bytes more.
  room(size) {
    if (this.at + size <= this.bytes.length) return;
    const larger = new Uint8Array(Math.max(2 * this.bytes.length, this.at + size));
    larger.set(this.bytes);
    this.bytes = larger;
  }

  write(value) {
    if (value === null) this.number(0xc0, 1);
    else if (typeof value === "bigint") this.integer(value);
    else if (typeof value === "string") this.text(value);
    else if (value instanceof Uint8Array) {
      this.header(value.length, 0, 0, [0xc4, 0xc5, 0xc6]);
      this.copy(value);
    } else {
      this.header(value.length, 16, 0x90, [0, 0xdc, 0xdd]);
      for (const one of value) this.write(one);
    }
  }

  // A number in `width` bytes, big-endian.
  number(value, width) {
    this.room(width);
    for (let shift = 8 * (width - 1); shift >= 0; shift -= 8) {
      this.bytes[this.at] = value >>> shift;
      this.at += 1;
    }
  }

  copy(bytes) {
    this.room(bytes.length);
    this.bytes.set(bytes, this.at);
    this.at += bytes.length;
  }

  text(value) {
    if (value.length < 32) {
      this.room(1 + value.length);
      const { at } = this;
      let letters = 0; // the bits that any of them has
      for (let place = 0; place < value.length; place += 1) {
        letters |= value.charCodeAt(place);
        this.bytes[at + 1 + place] = value.charCodeAt(place);
      }
      if (letters < 0x80) {
        this.bytes[at] = 0xa0 | value.length;
        this.at = at + 1 + value.length;
        return;
      }
    }
    const bytes = utf8(value);
    this.header(bytes.length, 32, 0xa0, [0xd9, 0xda, 0xdb]);
    this.copy(bytes);
  }

  // A length with the shortest header: in one byte below `few`, else with 8, 16 or 32 bits.
  header(size, few, first, [in8, in16, in32]) {
    if (size < few) this.number(first | size, 1);
    else if (in8 && size < 0x100) this.number((in8 << 8) | size, 2);
    else if (size < 0x10000) {
      this.number(in16, 1);
      this.number(size, 2);
    } else {
      this.number(in32, 1);
      this.number(size, 4);
    }
  }

  integer(value) {
    if (value >= -0x20n && value < 0x80n) {
      this.number(Number(value) & 0xff, 1);
      return;
    }
    const form = INTEGERS.find(([low, high]) => low <= value && value <= high);
    if (!form) throw new FormatError(`${value} does not fit into 64 bits`);
    const [, , head, width] = form;
    this.number(head, 1);
    for (let shift = BigInt(8 * (width - 1)); shift >= 0n; shift -= 8n) {
      this.number(Number((value >> shift) & 0xffn), 1);
    }
  }
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
