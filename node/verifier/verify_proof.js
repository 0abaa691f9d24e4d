// Verify what names no keys of its own: proofs of deltas and of balance lines, checkpoints' notes.
// Such a file proves something to whoever already knows the parties' verifier keys.

import { hexOf, sameBytes } from "./bytes.js";
import { TITLE as CHECKPOINT_TITLE, checkSigners, parseCheckpoint } from "./checkpoint.js";
import { runChecks } from "./checks.js";
import { FormatError, ProofError } from "./errors.js";
import { checkWitnesses, hasLines } from "./extras.js";
import { parseHead } from "./heads.js";
import { isoTime } from "./keyring.js";
import { HASH_SIZE, leafHash, verifyInclusion } from "./merkle.js";
import { parseNote, verifyNoteCosignature, verifyNoteSignature } from "./notes.js";
import { DELTA_TITLE, LINE_TITLE, parsePath } from "./proof.js";
import { RECORD_BYTES_MAX, decodeRecord } from "./records.js";
import { COSIGNER_KEY, NOTE_KEY, origin } from "./signatures.js";
import { decodeLine } from "./statement.js";

export const BESIDE_BYTES_MAX = HASH_SIZE + RECORD_BYTES_MAX; // of a leaf or a line

// Run the five checks on a tlog-proof and the leaf data beside it (null: it is not there), and a
// sixth if its head has lines of witnesses.
export async function* verifyDeltaProof(bytes, leaf, expected, known = {}) {
  Object.assign(known, { bytes, beside: leaf, expected });
  const failed = new Map();
  yield* runChecks(known, DELTA, failed);
  if (known.proof && hasLines(known.proof.note)) {
    yield* runChecks(known, WITNESSES, failed, DELTA.length + 1);
  }
}

// Run the five checks on a balance line's proof and the line beside it.
export function verifyLine(bytes, line, expected, known = {}) {
  return runChecks(Object.assign(known, { bytes, beside: line, expected }), LINE);
}

// Run the three checks on a checkpoint's note alone.
export function verifyNote(bytes, expected, known = {}) {
  return runChecks(Object.assign(known, { bytes, expected }), NOTE);
}

// 1. The proof is in its one form, and what it leads to is a head.
function deltaForm(known) {
  const proof = parsePath(DELTA_TITLE, known.bytes);
  const note = parseNote(proof.note);
  const head = parseHead(note.text);
  Object.assign(known, { proof, note, head });
  return `${DELTA_TITLE}, record ${proof.index} of ${head.size} of ${head.origin}`;
}

// 2. The leaf data is the hash before it and one canonical record.
function checkLeaf(known) {
  if (!known.beside) {
    throw new ProofError(
      "the leaf data is not there",
      "It is the .leaf file that belongs to the proof",
    );
  }
  if (known.beside.length <= HASH_SIZE) {
    throw new FormatError(`leaf data of ${known.beside.length} bytes holds no record`);
  }
  known.record = decodeRecord(known.beside.subarray(HASH_SIZE));
  return described(known.record);
}

// A record in a few words.
function described(record) {
  if (record.kind !== "delta") return `a record of the kind ${record.kind}`;
  return (
    `a delta: ${record.meter}/${record.id}, quantity ${record.quantity} in the meter's` +
    ` smallest unit, of ${record.subject}, occurred at ${isoTime(record.occurred_at / 1_000_000n)}`
  );
}

// 3. The leaf is in the tree of the head.
function deltaInclusion({ proof, head, beside }) {
  verifyInclusion(leafHash(beside), proof.index, head.size, proof.path, head.root);
  return `${proof.path.length} hashes lead to the root ${hexOf(head.root)}`;
}

// 4. The keys that were expected are of the names that signed the head.
function deltaKeys(known) {
  const names = known.note.signatures.map((signature) => signature.name);
  if (names.length < 2 || names[0] !== known.head.origin) {
    throw new ProofError("a head carries two signatures, its author's and then its peer's");
  }
  return takeKeys(known, [
    [names[0], NOTE_KEY],
    [names[1], COSIGNER_KEY],
  ]);
}

// The expected keys of these names and kinds that the note's lines name.
function takeKeys(known, wanted) {
  known.keys = wanted.map(([name, kind], place) => {
    const ofName = known.expected.filter((key) => key.name === name && key.kind === kind);
    if (!ofName.length) {
      throw new ProofError(
        `no expected key is of ${name}`,
        "Give the verifier keys that you know to be the parties' (tally vkey shows them)",
      );
    }
    const { keyId } = known.note.signatures[place];
    return ofName.find((key) => sameBytes(key.id, keyId)) ?? ofName[0];
  });
  return known.keys.join("; ");
}

// 5. The author signed the head and the peer co-signed it, by these keys.
async function deltaSignatures({ note, keys: [log, cosigner] }) {
  await verifyNoteSignature(note, log);
  const seconds = await verifyNoteCosignature(note, cosigner);
  return `signed by ${log.name}, co-signed by ${cosigner.name} at second ${seconds}`;
}

// 1. The proof is in its one form, and what it leads to is a checkpoint.
function lineForm(known) {
  known.proof = parsePath(LINE_TITLE, known.bytes);
  const { lines, period } = readCheckpoint(known, known.proof.note);
  return `${LINE_TITLE}, line ${known.proof.index} of ${lines} of ${period}`;
}

function readCheckpoint(known, bytes) {
  known.note = parseNote(bytes);
  known.checkpoint = parseCheckpoint(known.note.text);
  return known.checkpoint;
}

// 2. The line is canonical, and counts in the checkpoint's period.
function checkLine(known) {
  if (!known.beside) {
    throw new ProofError("the line is not there", "It is the .line file that belongs to the proof");
  }
  const line = decodeLine(known.beside);
  if (line.period !== known.checkpoint.period) {
    throw new ProofError(
      `the line counts in ${line.period}, not in ${known.checkpoint.period}, which is closed`,
    );
  }
  known.line = line;
  const late = line.late_for === null ? "" : `, late for ${line.late_for}`;
  return (
    `${line.meter} of ${line.subject} in ${line.period}${late}: payable ${line.payable}` +
    ` ${line.unit}, disputed ${line.disputed}, pending ${line.pending}`
  );
}

// 3. The line is in the statement's tree.
function lineInclusion({ proof, checkpoint, beside }) {
  const root = checkpoint.statement_root;
  verifyInclusion(leafHash(beside), proof.index, checkpoint.lines, proof.path, root);
  return `${proof.path.length} hashes lead to the statement's root ${hexOf(root)}`;
}

// The keys that were expected are those of both parties' logs, which signed the checkpoint.
function closingKeys(known) {
  const { provider, consumer, channel_id: channelId } = known.checkpoint;
  const names = [provider, consumer].map((party) => origin(party, channelId));
  checkSigners(known.note, names);
  return takeKeys(
    known,
    names.map((name) => [name, NOTE_KEY]),
  );
}

// Both signed the checkpoint, by these keys.
async function closingSignatures({ note, keys, checkpoint }) {
  for (const key of keys) await verifyNoteSignature(note, key);
  return `${hexOf(checkpoint.digest)}, signed by ${checkpoint.provider} and ${checkpoint.consumer}`;
}

// 1. The note is a checkpoint's, in its one form.
function noteForm(known) {
  const found = readCheckpoint(known, known.bytes);
  const parties = `${found.provider} (provider) and ${found.consumer} (consumer)`;
  return (
    `${CHECKPOINT_TITLE}, ${found.period} between ${parties}, channel ${hexOf(found.channel_id)};` +
    ` ${found.totals.join("; ")}`
  );
}

const DELTA = [
  ["form", [], deltaForm],
  ["leaf", [1], checkLeaf],
  ["inclusion", [2], deltaInclusion],
  ["keys", [1], deltaKeys],
  ["signatures", [4], deltaSignatures],
];
const WITNESSES = [
  ["witnesses", [5], ({ proof }) => checkWitnesses([["the head", proof.note]])],
];
const LINE = [
  ["form", [], lineForm],
  ["line", [1], checkLine],
  ["inclusion", [2], lineInclusion],
  ["keys", [1], closingKeys],
  ["signatures", [4], closingSignatures],
];
const NOTE = [
  ["form", [], noteForm],
  ["keys", [1], closingKeys],
  ["signatures", [2], closingSignatures],
];
