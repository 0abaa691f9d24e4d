// Signed notes (c2sp.org/signed-note) and cosignatures (c2sp.org/tlog-cosignature): a text of
// lines, an empty line, and signature lines. Lines of unknown keys are taken and ignored.

import { base64Of, bigOf, bytesOfBase64, joined, sameBytes, textOf, utf8 } from "./bytes.js";
import { FormatError, ProofError, quoted } from "./errors.js";
import { verifySignature } from "./signatures.js";

const NOTE_BYTES_MAX = 1024 * 1024;
const SIGNATURES_MAX = 100;
const COSIGNATURE_SIZE = 72;
const TIMESTAMP_MAX = 2n ** 63n - 1n;

// What Python's \s takes; JavaScript's own is another set.
export const SPACE =
  "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const LINE = new RegExp(`^— ([^+${SPACE}]+) ([A-Za-z0-9+/]+={0,2})$`, "u");
const CONTROL = /[\x00-\x09\x0b-\x1f]/;

// The note of these bytes as {text, signatures: [{name, keyId, blob}]}; nothing is verified here.
export function parseNote(bytes) {
  if (bytes.length > NOTE_BYTES_MAX) {
    throw new FormatError(`a note of ${bytes.length} bytes; ${NOTE_BYTES_MAX} are allowed`);
  }
  const whole = textOf(bytes, "the note");
  const control = CONTROL.exec(whole);
  if (control) {
    const row = whole.slice(0, control.index).split("\n").length;
    throw new FormatError(
      `line ${row} of the note holds a control character, ${quoted(control[0])}`,
    );
  }
  if (!whole.endsWith("\n")) throw new FormatError("the note does not end with a newline");
  const gap = whole.lastIndexOf("\n\n");
  if (gap < 0)
    throw new FormatError("the note has no empty line between its text and its signatures");
  const lines = whole.slice(gap + 2);
  if (!lines) throw new FormatError("the note has no signature after its last empty line");
  const rows = lines.slice(0, -1).split("\n");
  if (rows.length > SIGNATURES_MAX) {
    throw new FormatError(`the note has ${rows.length} signatures; ${SIGNATURES_MAX} are allowed`);
  }
  const text = whole.slice(0, gap + 1);
  const first = text.split("\n").length + 1;
  return { text, signatures: rows.map((row, place) => parseLine(row, first + place)) };
}

function parseLine(row, number) {
  const match = LINE.exec(row);
  if (!match) {
    const shown = quoted(Array.from(row).slice(0, 80).join(""));
    throw new FormatError(`line ${number} of the note is not a signature line: ${shown}`);
  }
  let material;
  try {
    material = bytesOfBase64(match[2]);
  } catch {
    throw new FormatError(`line ${number}: the signature of ${match[1]} is not base64`);
  }
  if (material.length < 5)
    throw new FormatError(`line ${number}: the signature of ${match[1]} is too short`);
  return { name: match[1], keyId: material.subarray(0, 4), blob: material.subarray(4) };
}

export function signatureLine(signature) {
  return `— ${signature.name} ${base64Of(joined(signature.keyId, signature.blob))}\n`;
}

function signaturesOf(note, vkey) {
  const found = note.signatures.filter(
    (one) => one.name === vkey.name && sameBytes(one.keyId, vkey.id),
  );
  if (!found.length) throw new ProofError(`the note carries no signature of ${vkey.name}`);
  return found;
}

// Return if the key's signature of type 01 holds; `ProofError` if not, or if there is none.
export async function verifyNoteSignature(note, vkey) {
  for (const signature of signaturesOf(note, vkey)) {
    if (signature.blob.length !== 64)
      throw new ProofError(`the signature of ${vkey.name} has a wrong length`);
    await verifySignature(vkey.key, utf8(note.text), signature.blob, `note of ${vkey.name}`);
  }
}

// The time (POSIX seconds) of the key's cosignature; `ProofError` if it does not hold.
export async function verifyNoteCosignature(note, vkey) {
  let seconds = 0n;
  for (const signature of signaturesOf(note, vkey)) {
    seconds = await verifyCosignatureBlob(note.text, vkey, signature.blob);
  }
  return seconds;
}

// The time of a cosignature given as timestamp ‖ signature.
export async function verifyCosignatureBlob(text, vkey, blob) {
  const seconds = bigOf(blob.subarray(0, 8));
  if (blob.length !== COSIGNATURE_SIZE || seconds > TIMESTAMP_MAX) {
    throw new ProofError(`the cosignature of ${vkey.name} has a wrong length or time`);
  }
  const message = utf8(`cosignature/v1\ntime ${seconds}\n${text}`);
  await verifySignature(vkey.key, message, blob.subarray(8), `cosignature of ${vkey.name}`);
  return seconds;
}
