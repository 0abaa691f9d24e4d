// JSON (RFC 8259), read so that no number loses a digit: whole numbers become BigInt. The browser's
// own parser would round what is above 2^53, and take the last of two keys of one name.

import { FormatError } from "./errors.js";

const DEPTH_MAX = 16; // what is read here has three levels
const SPACE = /[ \t\n\r]*/y;
const STRING = /"((?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*)"/y;
const INTEGER = /-?(?:0|[1-9][0-9]*)(?![0-9.eE])/y;
const WORDS = { true: true, false: false, null: null };

// The value of a JSON text: Map, Array, text, BigInt, true, false or null.
export function parseJson(text) {
  let at = 0;

  function match(pattern) {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found) at = pattern.lastIndex;
    return found;
  }

  function refuse(what) {
    throw new FormatError(`${what} at character ${at}`);
  }

  function expect(character) {
    match(SPACE);
    if (text[at] !== character) refuse(`expected ${character}`);
    at += 1;
  }

  // Whether this character follows; it is taken if so.
  function follows(character) {
    match(SPACE);
    if (text[at] !== character) return false;
    at += 1;
    return true;
  }

  function string() {
    match(SPACE);
    const found = match(STRING);
    if (!found) refuse("expected text in quotes");
    return found[1].includes("\\") ? JSON.parse(found[0]) : found[1];
  }

  function value(depth) {
    if (depth > DEPTH_MAX) refuse("nested too deep");
    match(SPACE);
    if (text[at] === "{") return object(depth);
    if (text[at] === "[") return array(depth);
    if (text[at] === '"') return string();
    for (const [word, meaning] of Object.entries(WORDS)) {
      if (text.startsWith(word, at)) {
        at += word.length;
        return meaning;
      }
    }
    const number = match(INTEGER);
    if (!number) refuse("expected a value");
    return BigInt(number[0]);
  }

  function object(depth) {
    const found = new Map();
    expect("{");
    if (follows("}")) return found;
    do {
      const name = string();
      if (found.has(name)) refuse(`a second ${name}`);
      expect(":");
      found.set(name, value(depth + 1));
    } while (follows(","));
    expect("}");
    return found;
  }

  function array(depth) {
    const found = [];
    expect("[");
    if (follows("]")) return found;
    do found.push(value(depth + 1));
    while (follows(","));
    expect("]");
    return found;
  }

  const whole = value(0);
  match(SPACE);
  if (at !== text.length) refuse("something follows");
  return whole;
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
