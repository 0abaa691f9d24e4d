// A passthrough's proof and the seal on one: lines of closed periods that a reseller sold, and
// those that it bought them as, each with its place in a signed statement.

import {
  base64Of,
  bytesOfBase64,
  bytesOfHex,
  compareBytes,
  hexOf,
  sameBytes,
  textOf,
  utf8,
} from "./bytes.js";
import { parseCheckpoint } from "./checkpoint.js";
import { FormatError, quoted } from "./errors.js";
import { parseNote } from "./notes.js";

export const TITLE = "tallystick passthrough v1";
export const SEAL_TITLE = "tallystick passthrough-seal v1";
export const FILE_BYTES_MAX = 16 * 1024 * 1024;
const PATH_MAX = 64;
const HEAD = new RegExp(
  `^(?<title>${TITLE}|${SEAL_TITLE})\\n` +
    "period (?<period>[0-9TW:+-]{4,32})\\n" +
    "(?:proof (?<proof>[0-9a-f]{64})\\n)?",
);
const HASH = /^[A-Za-z0-9+/]{43}=$/;
const INDEX = /^index (0|[1-9][0-9]{0,18})$/;
const LINE = /^line ([A-Za-z0-9+/]+={0,2})$/;
const MISSHAPEN = "not a passthrough: ";

// The file as {period, proof, sections}; `proof` is null, or what a seal names. A section is
// {direction, lines: [{bytes, index, path}], bytes, note, checkpoint}. Nothing is verified here.
export function parsePassthrough(bytes) {
  if (bytes.length > FILE_BYTES_MAX) {
    throw new FormatError(
      `the file has ${bytes.length} bytes or more; ${FILE_BYTES_MAX} are allowed`,
    );
  }
  const text = textOf(bytes, "the file");
  const match = HEAD.exec(text);
  const digest = match?.groups.proof;
  if (!match || (match.groups.title === SEAL_TITLE) !== (digest !== undefined)) {
    throw new FormatError(`${MISSHAPEN}it does not begin as ${TITLE} does`);
  }
  const rows = text.slice(match[0].length).split("\n");
  if (rows[0] || rows.at(-1) || rows.length < 3) {
    throw new FormatError(`${MISSHAPEN}no empty line follows its beginning`);
  }
  const sections = sectionsOf(rows.slice(1, -1));
  if (sections.some((section, at) => at && order(sections[at - 1], section) >= 0)) {
    throw new FormatError(`${MISSHAPEN}its periods are not in order, or one is there twice`);
  }
  const has = (direction) => sections.some((section) => section.direction === direction);
  if (!has("sold") || has("bought") === (digest !== undefined)) {
    throw new FormatError(`${MISSHAPEN}it has both what was sold and what was bought`);
  }
  const proof = digest === undefined ? null : bytesOfHex(digest);
  const file = { period: match.groups.period, proof, sections };
  if (!sameBytes(utf8(encoded(file)), bytes)) {
    throw new FormatError(`${MISSHAPEN}it is not in canonical form`);
  }
  return file;
}

// The sections of one direction.
export function ofDirection({ sections }, direction) {
  return sections.filter((section) => section.direction === direction);
}

// Where sections stand in a file: what was sold first, then by channel and period.
function order(a, b) {
  if (a.direction !== b.direction) return a.direction === "sold" ? -1 : 1;
  const [one, two] = [a.checkpoint, b.checkpoint];
  const byChannel = compareBytes(one.channel_id, two.channel_id);
  if (byChannel) return byChannel;
  if (one.start_us === two.start_us) return 0;
  return one.start_us < two.start_us ? -1 : 1;
}

// The text of a file.
function encoded({ period, proof, sections }) {
  const rows = [proof ? SEAL_TITLE : TITLE, `period ${period}`];
  if (proof) rows.push(`proof ${hexOf(proof)}`);
  const parts = [`${rows.join("\n")}\n\n`];
  for (const { direction, lines, bytes } of sections) {
    parts.push(`${direction}\n`);
    for (const line of lines) {
      parts.push(`line ${base64Of(line.bytes)}\nindex ${line.index}\n`);
      parts.push(...line.path.map((hash) => `${base64Of(hash)}\n`));
    }
    parts.push("\n", textOf(bytes));
  }
  return parts.join("");
}

function sectionsOf(rows) {
  const sections = [];
  let at = 0;
  while (at < rows.length) {
    const direction = rows[at];
    if (direction !== "sold" && direction !== "bought") {
      const said = quoted(Array.from(direction).slice(0, 40).join(""));
      throw new FormatError(`${MISSHAPEN}${said} is neither sold nor bought`);
    }
    const [lines, begin] = linesOf(rows, at + 1);
    let end = behindGap(rows, begin);
    while (end < rows.length && rows[end].startsWith("— ")) end += 1;
    const bytes = utf8(`${rows.slice(begin, end).join("\n")}\n`);
    const note = parseNote(bytes);
    sections.push({ direction, lines, bytes, note, checkpoint: parseCheckpoint(note.text) });
    at = end;
  }
  return sections;
}

// The place behind the next empty row.
function behindGap(rows, at) {
  const found = rows.indexOf("", at);
  if (found < 0) throw new FormatError(`${MISSHAPEN}a checkpoint's note has no end`);
  return found + 1;
}

// The lines that stand before the next empty row, and the place behind that.
function linesOf(rows, start) {
  const end = behindGap(rows, start);
  const lines = [];
  let at = start;
  while (at < end - 1) {
    const line = LINE.exec(rows[at]);
    const index = line && INDEX.exec(rows[at + 1]);
    if (!index) throw new FormatError(`${MISSHAPEN}a line, its index or a hash is misspelt`);
    at += 2;
    const path = [];
    for (; at < end - 1 && HASH.test(rows[at]); at += 1) path.push(bytesOfBase64(rows[at]));
    if (path.length > PATH_MAX) {
      throw new FormatError(`a path of ${path.length} hashes; ${PATH_MAX} are allowed`);
    }
    lines.push({ bytes: bytesOfBase64(line[1]), index: BigInt(index[1]), path });
  }
  if (!lines.length || lines.some((line, n) => n && lines[n - 1].index >= line.index)) {
    throw new FormatError(`${MISSHAPEN}its lines are not in order, or one is there twice`);
  }
  return [lines, end];
}
