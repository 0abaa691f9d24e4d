// Heads: a log's size and root as a C2SP tlog-checkpoint, signed by the log's author and co-signed
// by its peer.

import { base64Of, bytesOfBase64 } from "./bytes.js";
import { FormatError, ProofError } from "./errors.js";
import {
  SPACE,
  parseNote,
  verifyCosignatureBlob,
  verifyNoteCosignature,
  verifyNoteSignature,
} from "./notes.js";
import { COSIGNER_KEY, Vkey } from "./signatures.js";

const TEXT = new RegExp(`^([^+${SPACE}]+)\\n(0|[1-9][0-9]{0,18})\\n([A-Za-z0-9+/]{43}=)\\n$`, "u");

export function headText(head) {
  return `${head.origin}\n${head.size}\n${base64Of(head.root)}\n`;
}

// The head of a text as {origin, size, root}.
export function parseHead(text) {
  const match = TEXT.exec(text);
  if (!match) {
    throw new FormatError("not a head: it has three lines, an origin, a size and a root in base64");
  }
  try {
    return { origin: match[1], size: BigInt(match[2]), root: bytesOfBase64(match[3]) };
  } catch {
    throw new FormatError("not a head: the root is not in canonical base64");
  }
}

// The time at which the peer co-signed; `ProofError` if the co-signature does not hold.
export function verifyHeadCosignature(head, name, cosignerKey, blob) {
  return verifyCosignatureBlob(headText(head), new Vkey(name, COSIGNER_KEY, cosignerKey), blob);
}

// The head of a note whose first two lines are these keys', both of which hold, and when the peer
// co-signed it. Lines after them, of witnesses, are not judged here.
export async function parseHeadNote(bytes, log, cosigner) {
  const note = parseNote(bytes);
  const head = parseHead(note.text);
  if (head.origin !== log.name)
    throw new ProofError(`the head is of ${head.origin}, not of ${log.name}`);
  const names = note.signatures.map((signature) => signature.name);
  if (names[0] !== log.name || names[1] !== cosigner.name) {
    throw new ProofError("a head carries two signatures, its author's and then its peer's");
  }
  await verifyNoteSignature(note, log);
  return { head, cosignedAt: await verifyNoteCosignature(note, cosigner) };
}
