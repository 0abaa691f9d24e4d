// A statement and its verdict as files that people and programs open, each with one exact form. A
// verifier reads the JSON, writes every file again and compares bytes.

import { hexOf, textOf, utf8 } from "./bytes.js";
import { FormatError } from "./errors.js";
import { Pairs, parseDocument, writeJson } from "./json.js";
import { INT64_MAX } from "./records.js";
import { COLUMNS, OPTIONAL } from "./statement.js";
import { METER_COLUMNS, RESULTS } from "./verdict.js";

const HEADERS = ["channel", "period", "time_zone", "checkpoint", "root"];

// The lines of a statement's JSON; `FormatError` if it does not have that shape.
export function parseStatementJson(bytes, pace) {
  return reading("a statement's JSON", bytes, pace, (document) => {
    checkNames(document, [...HEADERS, "lines"]);
    for (const name of HEADERS) text(document.get(name));
    return rows(document.get("lines"), "reading the lines", pace, COLUMNS, (name, value) => {
      if (name !== "deltas") return OPTIONAL.has(name) && value === null ? null : text(value);
      if (typeof value !== "bigint" || value < 0n || value > INT64_MAX) {
        throw new FormatError("deltas is not a whole number of 63 bits");
      }
      return value;
    });
  });
}

// The verdict of its JSON; `FormatError` if it does not have that shape.
export function parseVerdictJson(bytes, pace) {
  return reading("a verdict's JSON", bytes, pace, async (document) => {
    checkNames(document, ["period", "meters"]);
    const what = "reading the verdict";
    const meters = await rows(document.get("meters"), what, pace, METER_COLUMNS, (name, value) => {
      if (name === "result" && !RESULTS.includes(value)) {
        throw new FormatError("there is no such result");
      }
      const optional = name === "provider" || name === "consumer";
      return optional && value === null ? null : text(value);
    });
    return { period: text(document.get("period")), meters };
  });
}

async function reading(what, bytes, pace, read) {
  try {
    return await read(await parseDocument(textOf(bytes), pace));
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new FormatError(`not ${what}: ${error.message}`);
  }
}

function checkNames(map, names) {
  if (!(map instanceof Map)) throw new FormatError("an object is missing");
  if (map.size !== names.length || names.some((name) => !map.has(name))) {
    throw new FormatError(`an object has other keys than ${names.join(", ")}`);
  }
}

function text(value) {
  if (typeof value !== "string") throw new FormatError("a text is missing");
  if (!value.isWellFormed()) throw new FormatError("a text holds half a character");
  return value;
}

function rows(list, what, pace, names, read) {
  if (!Array.isArray(list)) throw new FormatError("a list is missing");
  return pace.map(list, what, (row) => {
    checkNames(row, names);
    const found = {};
    for (const name of names) found[name] = read(name, row.get(name));
    return found;
  });
}

function pairs(row, names) {
  return new Pairs(names.map((name) => [name, row[name]]));
}

export async function statementJson(checkpoint, lines, pace) {
  const values = [
    hexOf(checkpoint.channel_id),
    checkpoint.period,
    checkpoint.time_zone,
    hexOf(checkpoint.digest),
    hexOf(checkpoint.statement_root),
  ];
  const head = HEADERS.map((name, at) => `  "${name}": ${writeJson(values[at])},\n`).join("");
  const written = await pace.map(
    lines,
    "writing the lines again",
    (line) => `    ${writeJson(pairs(line, COLUMNS), "    ")}`,
  );
  const list = written.length ? `[\n${written.join(",\n")}\n  ]` : "[]";
  return utf8(`{\n${head}  "lines": ${list}\n}\n`);
}

export function verdictJson(verdict) {
  const document = new Pairs([
    ["period", verdict.period],
    ["meters", verdict.meters.map((row) => pairs(row, METER_COLUMNS))],
  ]);
  return utf8(`${writeJson(document)}\n`);
}

// The lines as CSV (RFC 4180); what is absent is empty.
export async function statementCsv(lines, pace) {
  const row = (values) => `${values.map(csvField).join(",")}\r\n`;
  const what = "writing the table again";
  const written = await pace.map(lines, what, (line) => row(COLUMNS.map((name) => line[name])));
  return utf8(row(COLUMNS) + written.join(""));
}

function csvField(value) {
  const shown = value === null ? "" : String(value);
  return /[",\r\n]/.test(shown) ? `"${shown.replaceAll('"', '""')}"` : shown;
}
