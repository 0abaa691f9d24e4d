// A balance line, a statement (all lines of a period) and the tree over them.

import { compareText } from "./bytes.js";
import { Reader, pack } from "./encoding.js";
import { FormatError } from "./errors.js";
import { leafHash, rootOf } from "./merkle.js";
import { INT64_MAX } from "./records.js";

export const COLUMNS = [
  "period",
  "late_for",
  "meter",
  "subject",
  "unit",
  "provider",
  "consumer",
  "payable",
  "disputed",
  "pending",
  "deltas",
];
export const OPTIONAL = new Set(["late_for", "provider", "consumer"]); // may be nil

// The line's canonical bytes, the leaf data of the statement's tree.
export function encodeLine(line) {
  return pack(COLUMNS.map((name) => line[name]));
}

// The line of these bytes; `FormatError` if they are not its canonical encoding.
export function decodeLine(bytes) {
  try {
    const reader = new Reader(bytes);
    if (reader.array() !== COLUMNS.length)
      throw new FormatError(`it has not ${COLUMNS.length} fields`);
    const line = {};
    for (const name of COLUMNS) {
      if (name === "deltas") line.deltas = reader.integer();
      else line[name] = OPTIONAL.has(name) && reader.nil() ? null : reader.text();
    }
    if (line.deltas < 0n || line.deltas > INT64_MAX) {
      throw new FormatError("deltas is not a number of 63 bits");
    }
    if (!reader.ended) throw new FormatError("bytes follow it");
    return line;
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new FormatError(`not a balance line: ${error.message}`);
  }
}

// How lines of a statement are ordered: by these, by code points.
export function compareLines(a, b) {
  return (
    compareText(a.period, b.period) ||
    compareText(a.late_for ?? "", b.late_for ?? "") ||
    compareText(a.meter, b.meter) ||
    compareText(a.subject, b.subject)
  );
}

export function sameLine(a, b) {
  return COLUMNS.every((name) => a[name] === b[name]);
}

// The root of the statement's tree; the digest of any list of lines.
export async function statementRoot(lines, pace) {
  const hash = (line) => leafHash(encodeLine(line));
  return rootOf(await pace.map(lines, "hashing the lines", hash));
}

// The first line in which two statements differ, as each has it (null: not there).
export function firstDifference(a, b) {
  const shorter = Math.min(a.length, b.length);
  for (let at = 0; at < shorter; at += 1) {
    if (sameLine(a[at], b[at])) continue;
    const order = compareLines(a[at], b[at]);
    if (order < 0) return [a[at], null];
    if (order > 0) return [null, b[at]];
    return [a[at], b[at]];
  }
  return [a[shorter] ?? null, b[shorter] ?? null];
}
