// Reading DER (X.690): values in their one form, as timestamps and certificates are made of. Only
// what those need: definite lengths in their shortest form, tags of one byte.

import { FormatError } from "./errors.js";

export const BOOLEAN = 0x01;
export const INTEGER = 0x02;
export const BIT_STRING = 0x03;
export const OCTET_STRING = 0x04;
export const OID = 0x06;
export const UTF8 = 0x0c;
export const PRINTABLE = 0x13;
export const IA5 = 0x16;
export const UTC_TIME = 0x17;
export const GENERAL_TIME = 0x18;
export const SEQUENCE = 0x30;
export const SET = 0x31;

const NUMBER_BYTES_MAX = 64; // of an integer or an object identifier; those in use have about 20

// The values that these bytes are, one after the other, as {tag, content, raw}.
export function readValues(bytes) {
  const values = [];
  let at = 0;
  while (at < bytes.length) {
    if (bytes.length - at < 2) throw new FormatError("not DER: a value is cut off");
    const tag = bytes[at];
    let length = bytes[at + 1];
    let begin = at + 2;
    if ((tag & 0x1f) === 0x1f) {
      throw new FormatError("not DER: a tag of several bytes, which nothing here has");
    }
    if (length >= 0x80) {
      const size = length & 0x7f;
      begin += size;
      length = 0;
      for (const byte of bytes.subarray(at + 2, begin)) length = length * 256 + byte;
      if (size < 1 || size > 4 || length < 0x80 || length < 256 ** (size - 1)) {
        throw new FormatError("not DER: a length is not in its shortest form");
      }
    }
    const end = begin + length;
    if (end > bytes.length) throw new FormatError("not DER: a value is cut off");
    values.push({ tag, content: bytes.subarray(begin, end), raw: bytes.subarray(at, end) });
    at = end;
  }
  return values;
}

// The one value that these bytes are.
export function readValue(bytes) {
  const values = readValues(bytes);
  if (values.length !== 1) {
    throw new FormatError(`not DER: ${values.length} values where one is due`);
  }
  return values[0];
}

// Takes the values of a sequence in order; whoever it is `of` is named when one is missing.
export class Reader {
  constructor(value, of) {
    this.values = readValues(value.content);
    this.at = 0;
    this.of = of;
  }

  take(...tags) {
    const value = this.maybe(...tags);
    if (!value) throw new FormatError(`${this.of} lacks a part, or has one of another kind`);
    return value;
  }

  maybe(...tags) {
    if (this.at >= this.values.length || !tags.includes(this.values[this.at].tag)) return null;
    this.at += 1;
    return this.values[this.at - 1];
  }

  rest() {
    const values = this.values.slice(this.at);
    this.at = this.values.length;
    return values;
  }

  end() {
    if (this.rest().length) throw new FormatError(`${this.of} has a part too many`);
  }
}

export function expect(value, tag, what) {
  if (value.tag !== tag) throw new FormatError(`${what} is of another kind`);
  return value;
}

// An object identifier in dots.
export function oidOf(value) {
  const numbers = [];
  let number = 0n;
  let begins = true;
  const bytes = expect(value, OID, "an object identifier").content;
  if (bytes.length > NUMBER_BYTES_MAX) {
    throw new FormatError(`an object identifier of ${bytes.length} bytes`);
  }
  for (const byte of bytes) {
    if (begins && byte === 0x80) {
      throw new FormatError("not DER: an object identifier is not in its shortest form");
    }
    number = (number << 7n) | BigInt(byte & 0x7f);
    begins = byte < 0x80;
    if (begins) {
      numbers.push(number);
      number = 0n;
    }
  }
  if (!numbers.length || !begins) {
    throw new FormatError("not DER: an object identifier is cut off");
  }
  const [first, ...others] = numbers;
  const root = first < 80n ? first / 40n : 2n;
  return [root, first - 40n * root, ...others].join(".");
}

// An integer, as a BigInt.
export function integerOf(value) {
  const bytes = expect(value, INTEGER, "an integer").content;
  if (bytes.length > NUMBER_BYTES_MAX) throw new FormatError(`an integer of ${bytes.length} bytes`);
  const spare = bytes.length > 1 && (bytes[0] === 0 || bytes[0] === 0xff);
  if (!bytes.length || (spare && bytes[0] >> 7 === bytes[1] >> 7)) {
    throw new FormatError("not DER: an integer is not in its shortest form");
  }
  let number = bytes[0] >> 7 ? -1n : 0n;
  for (const byte of bytes) number = (number << 8n) | BigInt(byte);
  return number;
}

const ASCII = new TextDecoder("latin1");
const GENERAL = new RegExp(`^([0-9]{4})${"([0-9]{2})".repeat(5)}(?:\\.([0-9]{0,8}[1-9]))?Z$`);
const UTC = /^[0-9]{12}Z$/;

// A time, in microseconds since 1970 (a BigInt); what is finer is cut off.
export function instantOf(value) {
  let text = ASCII.decode(value.content);
  if (value.tag === UTC_TIME && UTC.test(text)) text = `${text[0] >= "5" ? 19 : 20}${text}`;
  else if (value.tag !== GENERAL_TIME) text = "";
  const match = GENERAL.exec(text);
  if (!match) throw new FormatError("not DER: a time is not in its one form");
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(Number);
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  date.setUTCHours(hour, minute, second);
  const parts = [date.getUTCFullYear(), date.getUTCMonth() + 1, date.getUTCDate()];
  parts.push(date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds());
  const given = [year, month, day, hour, minute, second];
  if (year < 1 || parts.some((part, at) => part !== given[at])) {
    throw new FormatError(`there is no such time: ${match.slice(1, 7).join("")}`);
  }
  const micros = (match[7] ?? "").slice(0, 6).padEnd(6, "0");
  return BigInt(date.getTime()) * 1000n + BigInt(micros);
}
