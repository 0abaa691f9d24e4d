// JSON (RFC 8259), read so that no number loses a digit: whole numbers become BigInt. The browser's
// own parser would round what is above 2^53, and take the last of two keys of one name.

import { FormatError } from "./errors.js";

const DEPTH_MAX = 16; // what is read here has three levels
const SPACE = [" ", "\n", "\t", "\r"];
const INTEGER = /-?(?:0|[1-9][0-9]*)(?![0-9.eE])/y;
const WORDS = [
  ["true", true],
  ["false", false],
  ["null", null],
];

// A JSON text and how far it is read. What it holds comes as Map, Array, text, BigInt, true, false
// or null.
class Cursor {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  refuse(what) {
    throw new FormatError(`${what} at character ${this.at}`);
  }

  // The character that comes next, but for space.
  next() {
    while (SPACE.includes(this.text[this.at])) this.at += 1;
    return this.text[this.at];
  }

  expect(character) {
    if (!this.follows(character)) this.refuse(`expected ${character}`);
  }

  // Whether this character follows; it is taken if so.
  follows(character) {
    if (this.next() !== character) return false;
    this.at += 1;
    return true;
  }

  string() {
    if (this.next() !== '"') this.refuse("expected text in quotes");
    const { text } = this;
    const begin = this.at;
    let escaped = false;
    for (this.at += 1; text[this.at] !== '"'; this.at += 1) {
      if (!(text.charCodeAt(this.at) >= 0x20)) this.refuse("a text is not ended");
      if (text[this.at] !== "\\") continue;
      escaped = true;
      this.at += 1;
    }
    this.at += 1;
    if (!escaped) return text.slice(begin + 1, this.at - 1);
    try {
      return JSON.parse(text.slice(begin, this.at));
    } catch {
      return this.refuse("a text has a wrong escape");
    }
  }

  value(depth) {
    if (depth > DEPTH_MAX) this.refuse("nested too deep");
    const first = this.next();
    if (first === '"') return this.string();
    if (first === "{") return this.object(depth);
    if (first === "[") return this.array(depth);
    for (const [word, meaning] of WORDS) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return meaning;
      }
    }
    INTEGER.lastIndex = this.at;
    const number = INTEGER.exec(this.text);
    if (!number) this.refuse("expected a value");
    this.at = INTEGER.lastIndex;
    return BigInt(number[0]);
  }

  // The name of an object's next value, which is none that it has.
  name(found) {
    const name = this.string();
    if (found.has(name)) this.refuse(`a second ${name}`);
    this.expect(":");
    return name;
  }

  object(depth) {
    const found = new Map();
    this.expect("{");
    if (this.follows("}")) return found;
    do found.set(this.name(found), this.value(depth + 1));
    while (this.follows(","));
    this.expect("}");
    return found;
  }

  array(depth) {
    const found = [];
    this.expect("[");
    if (this.follows("]")) return found;
    do found.push(this.value(depth + 1));
    while (this.follows(","));
    this.expect("]");
    return found;
  }
}

// The object of a JSON text, as a Map. Arrays in it may be long: they are read in steps.
export async function parseDocument(text, pace) {
  const cursor = new Cursor(text);
  const found = new Map();
  cursor.expect("{");
  do {
    const name = cursor.name(found);
    found.set(name, cursor.next() === "[" ? await longArray(cursor, pace) : cursor.value(1));
  } while (cursor.follows(","));
  cursor.expect("}");
  if (cursor.next() !== undefined) cursor.refuse("something follows");
  return found;
}

async function longArray(cursor, pace) {
  const found = [];
  cursor.expect("[");
  if (cursor.follows("]")) return found;
  do {
    found.push(cursor.value(2));
    await pace.step("reading the lines", cursor.at / cursor.text.length);
  } while (cursor.follows(","));
  cursor.expect("]");
  return found;
}

// Indented by two spaces, as the files in a bundle are; objects are arrays of [name, value] pairs.
export class Pairs {
  constructor(pairs) {
    this.pairs = pairs;
  }
}

export function writeJson(value, indent = "") {
  if (value instanceof Pairs || Array.isArray(value)) {
    const [open, close] = value instanceof Pairs ? "{}" : "[]";
    const items =
      value instanceof Pairs
        ? value.pairs.map(
            ([name, one]) => `${JSON.stringify(name)}: ${writeJson(one, `${indent}  `)}`,
          )
        : value.map((one) => writeJson(one, `${indent}  `));
    if (!items.length) return open + close;
    return `${open}\n${indent}  ${items.join(`,\n${indent}  `)}\n${indent}${close}`;
  }
  return typeof value === "bigint" ? String(value) : JSON.stringify(value);
}
