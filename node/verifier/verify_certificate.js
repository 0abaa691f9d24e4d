// Verify a certificate: ten numbered checks. What it says in words at the end is exactly what the
// keys in its own terms signed for, and what is only its author's word.

import {
  headShown,
  keysShown,
  ringOf,
  verifyAuthorLine,
  verifyCosignerLine,
  withAnyOf,
} from "./accusation.js";
import { bigOf, hexOf, sameBytes } from "./bytes.js";
import { TITLE, parseCertificate } from "./certificate.js";
import { verifyCheckpoint } from "./checkpoint.js";
import { runChecks } from "./checks.js";
import { ProofError } from "./errors.js";
import { verifyHeadCosignature } from "./heads.js";
import { isoTime } from "./keyring.js";
import { HASH_SIZE, leafHash, verifyConsistency, verifyInclusion } from "./merkle.js";
import { formatQuantity } from "./quantities.js";
import { decodeRecord, other } from "./records.js";
import { sha256 } from "./sha256.js";
import { origin } from "./signatures.js";
import { between, lineScale, roleOf, termsOf } from "./terms.js";

// Run the ten checks on a file's bytes; it holds when all of them do.
export function verifyCertificate(bytes, known = {}) {
  return runChecks(Object.assign(known, { bytes, times: [] }), CHECKS);
}

// 1. The file is in its one form.
function checkForm(known) {
  known.certificate = parseCertificate(known.bytes);
  return `${TITLE}, ${hexOf(sha256(known.bytes))}`;
}

// 2. The terms make sense, their SHA-256 is the channel, and the log is one of its parties'.
function checkCertificateTerms(known) {
  const { channelId, party } = known.certificate;
  const terms = termsOf(known.certificate.terms, channelId);
  if (![terms.provider.name, terms.consumer.name].includes(party)) {
    throw new ProofError(`${party} is not a party of this channel`);
  }
  known.terms = terms;
  known.role = roleOf(terms, party);
  known.peer = terms[other(known.role)].name;
  return `channel ${hexOf(channelId)} ${between(terms)}`;
}

// 3. Each rotation is signed by the key before it, so all keys follow from the terms.
async function checkKeys(known) {
  known.ring = await ringOf(known.terms, known.certificate.rotations);
  return keysShown(known.certificate.rotations.length);
}

function originOf(known) {
  return origin(known.certificate.party, known.certificate.channelId);
}

// 4. The head is of this log, signed by its author and co-signed by the peer.
async function checkHead(known) {
  const noted = known.certificate.head;
  if (noted.head.origin !== originOf(known)) {
    throw new ProofError(`the head is of ${noted.head.origin}, not of ${originOf(known)}`);
  }
  await verifyAuthorLine(noted.note, known.ring, known.role);
  const seconds = await verifyCosignerLine(noted.note, known.ring, other(known.role));
  const { party } = known.certificate;
  const at = timeShown(seconds);
  return `${headShown(noted)}, signed by ${party}, co-signed by ${known.peer} ${at}`;
}

// 5. The record that waited is in the log up to that head.
async function checkRecord(known) {
  const { record, party } = known.certificate;
  const found = included(known, record);
  if (!["close", "dispute", "answer"].includes(found.kind)) {
    throw new ProofError("the record that waited is neither a close, a dispute nor an answer");
  }
  known.record = found;
  checkAnswered(known);
  return `record ${record.index} of ${party}: ${await whatWaited(known)}`;
}

function included(known, placed) {
  const { size, root } = known.certificate.head.head;
  verifyInclusion(leafHash(placed.leaf), placed.index, size, placed.path, root);
  return decodeRecord(placed.leaf.subarray(HASH_SIZE));
}

// An answer comes with the dispute that it is to, and nothing else does.
function checkAnswered(known) {
  const { dispute } = known.certificate;
  const isAnswer = known.record.kind === "answer";
  if (isAnswer !== dispute.length > 0) {
    throw new ProofError("an answer comes with the dispute that it answers, and only an answer");
  }
  if (isAnswer && !sameBytes(sha256(dispute), known.record.dispute)) {
    throw new ProofError("the dispute is not the one that the answer names");
  }
}

// The dispute that it is about.
function disputeOf(known) {
  const found =
    known.record.kind === "dispute" ? known.record : decodeRecord(known.certificate.dispute);
  if (found.kind !== "dispute") throw new ProofError("what was answered is no dispute");
  return found;
}

// The record that waited, in words.
async function whatWaited(known) {
  const { record } = known;
  if (record.kind === "close") {
    const checkpoint = await verifyCheckpoint(record.checkpoint, known.ring);
    return `the checkpoint of ${checkpoint.period}, ${hexOf(checkpoint.digest)}`;
  }
  const dispute = disputeOf(known);
  const line = `${dispute.period}/${dispute.meter}/${dispute.subject}`;
  const amount = amountShown(known, dispute, dispute.amount);
  if (record.kind === "dispute")
    return `a dispute of ${amount} of ${line} (${dispute.code}: ${dispute.reason})`;
  return (
    `an answer that concedes ${amountShown(known, dispute, record.conceded)} of ${amount}, to` +
    ` ${known.peer}'s dispute of ${line} (${record.reason})`
  );
}

function amountShown(known, dispute, amount) {
  const meter = known.terms.meters.find((one) => one.name === dispute.meter);
  if (!meter)
    throw new ProofError(`the dispute is of ${dispute.meter}, which the terms do not have`);
  return formatQuantity(amount, lineScale(meter));
}

// 6. The lapse is in the log up to that head, and it is of that record.
function checkLapse(known) {
  const { certificate } = known;
  const lapse = included(known, certificate.lapse);
  if (lapse.kind !== "lapse")
    throw new ProofError("what should be a lapse is a record of another kind");
  if (lapse.index !== certificate.record.index || certificate.lapse.index <= lapse.index) {
    throw new ProofError(`the lapse is of record ${lapse.index}, or not behind it`);
  }
  if (lapse.start.size !== certificate.sizes[0] || lapse.end.size !== certificate.sizes[1]) {
    throw new ProofError("the sizes of its heads are not those that the lapse names");
  }
  known.lapse = lapse;
  return `record ${certificate.lapse.index} says that the time for it is over`;
}

// 7. The peer co-signed a head with the record, which is a prefix of the one above.
function checkStart(known) {
  const { start, end, index } = known.lapse;
  if (start.size <= index) throw new ProofError("the first head does not hold the record");
  verifyConsistency(start.size, start.root, end.size, end.root, known.certificate.paths[0]);
  return attest(known, start, "had it at");
}

// 8. The peer co-signed a later head, which is a prefix of the one above.
function checkEnd(known) {
  const { end } = known.lapse;
  const { head } = known.certificate.head;
  verifyConsistency(end.size, end.root, head.size, head.root, known.certificate.paths[1]);
  return attest(known, end, "was there at");
}

// Note the time of a co-signature of the peer's; `ProofError` if no key of its made it.
async function attest(known, attested, what) {
  const head = { origin: originOf(known), size: attested.size, root: attested.root };
  await withAnyOf(known.ring.cosignerVkeys(other(known.role)), (vkey) =>
    verifyHeadCosignature(head, known.peer, vkey.key, attested.cosignature),
  );
  const seconds = bigOf(attested.cosignature.subarray(0, 8));
  known.times.push(seconds);
  return `${known.peer} ${what} ${timeShown(seconds)}, by its own clock (${attested.size} records)`;
}

const YEAR_10000 = 253_402_300_800n;

function timeShown(seconds) {
  return seconds < YEAR_10000 ? isoTime(seconds) : `second ${seconds}`;
}

// 9. Between both lies the time that the terms give, or more.
function checkClock(known) {
  const [start, end] = known.times;
  const { terms } = known;
  const needed = known.record.kind === "dispute" ? terms.answer_seconds : terms.dispute_seconds;
  const said = `${end - start} seconds lie between them; the terms give ${needed}`;
  if (end - start < needed) throw new ProofError(said);
  return said;
}

// 10. What follows, deemed accepted, upheld or lapsed; and what does not.
function checkMeaning(known) {
  const { peer, record } = known;
  const count = known.lapse.peer_size;
  if (record.kind === "close") {
    return (
      `${peer} is deemed to have accepted it, but for disputes among its first ${count} records.` +
      " Not shown here: whether there are any; a full bundle shows it"
    );
  }
  let said = "the dispute is upheld for want of an answer";
  let missing = "no answer to it";
  if (record.kind === "answer") {
    const conceded = amountShown(known, disputeOf(known), record.conceded);
    const kept = `; upheld is the ${conceded} that was conceded`;
    said = `${peer}'s dispute lapsed${kept}`;
    missing = "nothing that insists on it";
  }
  return (
    `${said}. Not shown here: that ${missing} was among ${peer}'s first ${count} records is` +
    ` ${known.certificate.party}'s word; ${peer} refutes it with the proof of such a record of` +
    " its log, and a full bundle proves it"
  );
}

const CHECKS = [
  ["form", [], checkForm],
  ["terms", [1], checkCertificateTerms],
  ["keys", [2], checkKeys],
  ["head", [3], checkHead],
  ["record", [4], checkRecord],
  ["lapse", [5], checkLapse],
  ["start", [6], checkStart],
  ["end", [7], checkEnd],
  ["clock", [8], checkClock],
  ["meaning", [9], checkMeaning],
];
