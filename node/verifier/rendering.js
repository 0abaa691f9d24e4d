// A statement and its verdict as files that people and programs open, each with one exact form. A
// verifier reads the JSON, writes every file again and compares bytes.

import { hexOf, textOf, utf8 } from "./bytes.js";
import { FormatError } from "./errors.js";
import { Pairs, parseJson, writeJson } from "./json.js";
import { INT64_MAX } from "./records.js";
import { COLUMNS, OPTIONAL } from "./statement.js";
import { METER_COLUMNS, RESULTS } from "./verdict.js";

// The lines of a statement's JSON; `FormatError` if it does not have that shape.
export function parseStatementJson(bytes) {
  return reading("a statement's JSON", bytes, (document) => {
    checkNames(document, ["channel", "period", "time_zone", "checkpoint", "root", "lines"]);
    for (const name of ["channel", "period", "time_zone", "checkpoint", "root"])
      text(document.get(name));
    return rows(document.get("lines"), COLUMNS, (name, value) => {
      if (name !== "deltas") return OPTIONAL.has(name) && value === null ? null : text(value);
      if (typeof value !== "bigint" || value < 0n || value > INT64_MAX) {
        throw new FormatError("deltas is not a whole number of 64 bits");
      }
      return value;
    });
  });
}

// The verdict of its JSON; `FormatError` if it does not have that shape.
export function parseVerdictJson(bytes) {
  return reading("a verdict's JSON", bytes, (document) => {
    checkNames(document, ["period", "meters"]);
    const meters = rows(document.get("meters"), METER_COLUMNS, (name, value) => {
      if (name === "result" && !RESULTS.includes(value))
        throw new FormatError("there is no such result");
      const optional = name === "provider" || name === "consumer";
      return optional && value === null ? null : text(value);
    });
    return { period: text(document.get("period")), meters };
  });
}

function reading(what, bytes, read) {
  try {
    return read(parseJson(textOf(bytes)));
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
  if (/\p{Surrogate}/u.test(value)) throw new FormatError("a text holds half a character");
  return value;
}

function rows(list, names, read) {
  if (!Array.isArray(list)) throw new FormatError("a list is missing");
  return list.map((row) => {
    checkNames(row, names);
    return Object.fromEntries(names.map((name) => [name, read(name, row.get(name))]));
  });
}

function objects(list, names) {
  return list.map((row) => new Pairs(names.map((name) => [name, row[name]])));
}

export function statementJson(checkpoint, lines) {
  const document = new Pairs([
    ["channel", hexOf(checkpoint.channel_id)],
    ["period", checkpoint.period],
    ["time_zone", checkpoint.time_zone],
    ["checkpoint", hexOf(checkpoint.digest)],
    ["root", hexOf(checkpoint.statement_root)],
    ["lines", objects(lines, COLUMNS)],
  ]);
  return utf8(`${writeJson(document)}\n`);
}

export function verdictJson(verdict) {
  const document = new Pairs([
    ["period", verdict.period],
    ["meters", objects(verdict.meters, METER_COLUMNS)],
  ]);
  return utf8(`${writeJson(document)}\n`);
}

// The lines as CSV (RFC 4180); what is absent is empty.
export function statementCsv(lines) {
  const table = [COLUMNS, ...lines.map((line) => COLUMNS.map((name) => line[name]))];
  return utf8(table.map((row) => `${row.map(csvField).join(",")}\r\n`).join(""));
}

function csvField(value) {
  const shown = value === null ? "" : String(value);
  return /[",\r\n]/.test(shown) ? `"${shown.replaceAll('"', '""')}"` : shown;
}
