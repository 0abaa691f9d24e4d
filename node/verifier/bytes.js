// Bytes as text and back: hexadecimal, base64, UTF-8; and the two orders that the protocol sorts
// by.

import { FormatError } from "./errors.js";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const DIGITS = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

export const EMPTY = new Uint8Array(0);

export function utf8(text) {
  return encoder.encode(text);
}

// The text of bytes; `FormatError` if they are not UTF-8.
export function textOf(bytes, what = "the text") {
  try {
    return decoder.decode(bytes);
  } catch {
    throw new FormatError(`${what} is not UTF-8`);
  }
}

export function hexOf(bytes) {
  let text = "";
  for (const byte of bytes) text += DIGITS[byte];
  return text;
}

export function bytesOfHex(text) {
  return Uint8Array.from({ length: text.length / 2 }, (_, at) =>
    Number.parseInt(text.slice(2 * at, 2 * at + 2), 16),
  );
}

export function base64Of(bytes) {
  let binary = "";
  for (let at = 0; at < bytes.length; at += 0x8000) {
    binary += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  }
  return btoa(binary);
}

// The bytes of base64 in its one form; `FormatError` for anything else.
export function bytesOfBase64(text) {
  let binary;
  try {
    binary = atob(text);
  } catch {
    throw new FormatError("a value is not base64");
  }
  if (btoa(binary) !== text) throw new FormatError("a value is not canonical base64");
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

export function joined(...parts) {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export function sameBytes(a, b) {
  if (a.length !== b.length) return false;
  for (let at = 0; at < a.length; at += 1) if (a[at] !== b[at]) return false;
  return true;
}

export function startsWith(bytes, text, from = 0) {
  const begin = utf8(text);
  return sameBytes(bytes.subarray(from, from + begin.length), begin);
}

// Below, equal or above 0, as byte strings are ordered.
export function compareBytes(a, b) {
  const shorter = Math.min(a.length, b.length);
  for (let at = 0; at < shorter; at += 1) if (a[at] !== b[at]) return a[at] - b[at];
  return a.length - b.length;
}

// Below, equal or above 0, by code points: JavaScript's own order is by UTF-16 units, which puts
// what is beyond U+FFFF before U+E000.
export function compareText(a, b) {
  if (a === b) return 0;
  const shorter = Math.min(a.length, b.length);
  for (let at = 0; at < shorter; at += 1) {
    const left = a.charCodeAt(at);
    const right = b.charCodeAt(at);
    if (left === right) continue;
    const leftHigh = left >= 0xd800 && left < 0xe000;
    const rightHigh = right >= 0xd800 && right < 0xe000;
    if (leftHigh !== rightHigh) return leftHigh ? 1 : -1;
    return left - right;
  }
  return a.length - b.length;
}

// How many characters (code points) a text has.
export function characters(text) {
  let count = text.length;
  for (let at = 0; at < text.length; at += 1)
    if ((text.charCodeAt(at) & 0xfc00) === 0xdc00) count -= 1;
  return count;
}

// A big-endian unsigned integer.
export function bigOf(bytes) {
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  return value;
}
