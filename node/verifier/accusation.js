// Who is accused, in which log, and by which keys: what evidence and a refutation have in common.
// Heads stand in both files as the signed notes that they are, with whatever lines they carry.

import {
  base64Of,
  bytesOfBase64,
  bytesOfHex,
  compareBytes,
  hexOf,
  startsWith,
  textOf,
  utf8,
} from "./bytes.js";
import { FormatError, ProofError } from "./errors.js";
import { parseHead } from "./heads.js";
import { Keyring } from "./keyring.js";
import { parseNote, verifyNoteCosignature, verifyNoteSignature } from "./notes.js";
import { decodeRecord, other } from "./records.js";
import { origin } from "./signatures.js";
import { between, roleOf, termsOf } from "./terms.js";

export const FILE_BYTES_MAX = 1 << 20;

// The pieces of which the files' patterns are made.
export const HASH = "[A-Za-z0-9+/]{43}=";
export const HASHES = `(?:${HASH}\\n)*`;
export const BASE64 = "[A-Za-z0-9+/]+={0,2}";
export const NOTE = "[^\\n]+\\n[0-9]+\\n[^\\n]+\\n\\n(?:— [^\\n]+\\n)+";
export const ACCUSED =
  "channel (?<channel>[0-9a-f]{64})\\n" +
  "accused (?<party>[^ \\n]{1,253}) as (?<part>author|co-signer)\\n" +
  `terms (?<terms>${BASE64})\\n` +
  `(?<rotations>(?:rotation ${BASE64}\\n)*)`;

// A head as it stands in a file: its note's bytes, and both as parsed. No signature is checked.
export function notedHead(bytes) {
  const note = parseNote(bytes);
  return { bytes, note, head: parseHead(note.text) };
}

export function headShown({ head }) {
  return `${head.size} records, root ${hexOf(head.root).slice(0, 16)}`;
}

// The hashes of rows of base64.
export function hashesOf(rows) {
  return rows.split("\n").filter(Boolean).map(bytesOfBase64);
}

export function hashRows(hashes) {
  return hashes.map((hash) => `${base64Of(hash)}\n`).join("");
}

export function rotationsOf(rows) {
  return rows
    .split("\n")
    .filter(Boolean)
    .map((row) => bytesOfBase64(row.slice("rotation ".length)));
}

export function rotationRows(rotations) {
  return rotations.map((bytes) => `rotation ${base64Of(bytes)}\n`).join("");
}

// What a match of `ACCUSED` says.
export function accusedOf(groups) {
  return {
    channelId: bytesOfHex(groups.channel),
    party: groups.party,
    part: groups.part,
    terms: bytesOfBase64(groups.terms),
    rotations: rotationsOf(groups.rotations),
  };
}

// The lines that begin both files.
export function accusedText(accused) {
  return (
    `channel ${hexOf(accused.channelId)}\n` +
    `accused ${accused.party} as ${accused.part}\n` +
    `terms ${base64Of(accused.terms)}\n` +
    rotationRows(accused.rotations)
  );
}

// The text of a file with this title; `FormatError` if it is another or no text.
export function fileText(bytes, title) {
  if (bytes.length > FILE_BYTES_MAX)
    throw new FormatError(`a file of more than ${FILE_BYTES_MAX} bytes`);
  if (!startsWith(bytes, `${title}\n`)) throw new FormatError(`it does not begin with ${title}`);
  return textOf(bytes, "the file");
}

// The keys of the terms and those that followed, each signed for by the one before it.
export async function ringOf(terms, rotations) {
  let ring = new Keyring(terms);
  for (const [place, bytes] of rotations.entries()) {
    const record = decodeRecord(bytes);
    if (record.kind !== "rotation" || record.job === "transport") {
      throw new ProofError("a rotation is a record of another kind, or of a transport key");
    }
    ring = await ring.after(BigInt(place), record);
  }
  return ring;
}

// The terms make sense, their SHA-256 is the channel, and the accused is a party of it.
export function checkAccusedTerms(known) {
  const { accused } = known;
  const terms = termsOf(accused.terms, accused.channelId);
  const parties = [terms.provider.name, terms.consumer.name];
  if (!parties.includes(accused.party)) {
    throw new ProofError(
      `${accused.party} is not a party of this channel, ${parties.join(" and ")}`,
    );
  }
  known.terms = terms;
  known.role = roleOf(terms, accused.party);
  known.author = accused.part === "author" ? known.role : other(known.role);
  return `channel ${hexOf(accused.channelId)} ${between(terms)}`;
}

// Each rotation is signed by the key before it, so all keys follow from the terms.
export async function checkAccusedKeys(known) {
  known.ring = await ringOf(known.terms, known.accused.rotations);
  return keysShown(known.accused.rotations.length);
}

export function keysShown(count) {
  return count ? `those of the terms and ${count} that followed` : "those of the terms";
}

// `ProofError` unless the head is of the log that the accusation is about.
export function checkLog(known, head) {
  const expected = origin(known.terms[known.author].name, known.accused.channelId);
  if (head.origin !== expected)
    throw new ProofError(`a head is of ${head.origin}, not of ${expected}`);
}

// What a verifying function says with the first of these keys with which it holds: the older ones,
// and then the newest, whose error counts if none does.
export async function withAnyOf([newest, ...older], verify) {
  for (const vkey of older) {
    try {
      return await verify(vkey);
    } catch (error) {
      if (!(error instanceof ProofError)) throw error;
    }
  }
  return verify(newest);
}

// Return if a log key of the party signed the note; else `ProofError`.
export function verifyAuthorLine(note, ring, role) {
  return withAnyOf(ring.logVkeys(role), (vkey) => verifyNoteSignature(note, vkey));
}

// When a cosigner key of the party co-signed the note (POSIX seconds); else `ProofError`.
export function verifyCosignerLine(note, ring, role) {
  return withAnyOf(ring.cosignerVkeys(role), (vkey) => verifyNoteCosignature(note, vkey));
}

// The head is of the log in question and the accused signed or co-signed it.
export async function checkAccusedLine(known, noted) {
  checkLog(known, noted.head);
  const { party, part } = known.accused;
  if (part === "author") {
    await verifyAuthorLine(noted.note, known.ring, known.role);
    return `${headShown(noted)}, signed by ${party}`;
  }
  await verifyCosignerLine(noted.note, known.ring, known.role);
  return `${headShown(noted)}, co-signed by ${party}`;
}

// Whether heads are by size, those of one size by root: the one order in which files have them.
export function inOrder(heads) {
  return heads.every((b, at) => {
    if (!at) return true;
    const a = heads[at - 1];
    if (a.head.size !== b.head.size) return a.head.size < b.head.size;
    return (compareBytes(a.head.root, b.head.root) || compareBytes(a.bytes, b.bytes)) <= 0;
  });
}

// The note of a match, as the head that it is.
export function headOfText(text) {
  return notedHead(utf8(text));
}
