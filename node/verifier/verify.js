// Verify a bundle: numbered checks, from bytes that anyone may have made to what they prove.
// What is proved is what the two keys in the bundle's own terms signed: whether those are the right
// keys is for whoever knows the channel's id.

import { hexOf, sameBytes, utf8 } from "./bytes.js";
import {
  CHECKPOINT,
  CONSUMER_HEAD,
  KEYS,
  PROVIDER_HEAD,
  README,
  STATEMENT_CSV,
  STATEMENT_JSON,
  TERMS,
  TERMS_TEXT,
  TIMESTAMP,
  VERDICT,
  openBundle,
  readmeText,
} from "./bundle.js";
import { meterTotals, verifyClosing } from "./checkpoint.js";
import { runChecks } from "./checks.js";
import { commitmentsIn, declared } from "./declarations.js";
import { InvalidRecord, ProofError, quoted } from "./errors.js";
import { checkTime, checkWitnesses, hasLines } from "./extras.js";
import { parseHeadNote } from "./heads.js";
import { Keyring, sameAnnounced } from "./keyring.js";
import { parseNote } from "./notes.js";
import { Calendar } from "./periods.js";
import { ROLES, decodeKeys, decodeRecord, other } from "./records.js";
import {
  parseStatementJson,
  parseVerdictJson,
  statementCsv,
  statementJson,
  verdictJson,
} from "./rendering.js";
import { mergeCloses, replay, surveyLog } from "./replay.js";
import { compareLines, firstDifference, statementRoot } from "./statement.js";
import { between, channelId, checkTerms, termsText } from "./terms.js";
import { declaredOf, firstDiffering, makeVerdict, sameVerdict, verdictDigest } from "./verdict.js";

const LAST_OF_COMPACT = 7; // checks after it need the records

// Run every check on a file, each as soon as it is done. A compact bundle has seven checks, a full
// one twelve; one with extras has up to two more. `known` is filled on the way.
export async function* verifyBundle(file, pace, known = {}) {
  Object.assign(known, { file, pace, compact: false });
  const failed = new Map();
  let last = CHECKS.length;
  for await (const check of runChecks(known, CHECKS, failed)) {
    yield check;
    if (known.compact && check.number === LAST_OF_COMPACT) {
      last = check.number;
      break;
    }
  }
  yield* runChecks(known, extrasOf(known), failed, last + 1);
}

// The checks of what a bundle may have besides, if it has it.
function extrasOf({ members = new Map() }) {
  const steps = [];
  if (HEADS.some((name) => members.has(name) && hasLines(members.get(name)))) {
    steps.push(["witnesses", [4], checkBundleWitnesses]);
  }
  if (members.has(TIMESTAMP)) steps.push(["time", [3], checkBundleTime]);
  return steps;
}

// 1. The file is a bundle's container in its one form, and every member's CRC fits.
async function checkArchive(known) {
  const { members, logs } = await openBundle(known.file, known.pace);
  Object.assign(known, { members, logs, compact: !logs });
  return logs ? `${members.size + 2} members, full` : `${members.size} members, compact`;
}

// 2. The terms are one canonical record and make sense; their SHA-256 is the channel's id.
function checkBundleTerms(known) {
  const record = decodeRecord(known.members.get(TERMS));
  if (record.kind !== "terms") throw new ProofError(`${TERMS} holds a record of another kind`);
  checkTerms(record);
  known.terms = record;
  known.channelId = channelId(record);
  return `channel ${hexOf(known.channelId)} ${between(record)}`;
}

// 3. Both parties' log keys signed the checkpoint, for this channel and a period of it.
async function checkCheckpoint(known) {
  known.rings = await ringsOf(known);
  const { terms } = known;
  const checkpoint = await verifyClosing(known.members.get(CHECKPOINT), known.rings[0]);
  if (!sameBytes(checkpoint.terms_digest, known.channelId)) {
    throw new ProofError("the checkpoint was signed under other terms");
  }
  const period = new Calendar(terms.calendar, terms.time_zone).parse(checkpoint.period);
  if (
    checkpoint.time_zone !== terms.time_zone ||
    checkpoint.start_us !== period.start_us ||
    checkpoint.end_us !== period.end_us
  ) {
    throw new ProofError(
      `${checkpoint.period} does not begin and end in ${terms.time_zone} as the checkpoint says`,
      "If it does elsewhere, this browser has other data of that time zone than both parties had",
    );
  }
  known.checkpoint = checkpoint;
  const changed = known.rings[0].announced.length;
  const after = changed ? `; changes of keys before it: ${changed}` : "";
  return `${checkpoint.period}, ${hexOf(checkpoint.digest)}, signed by both${after}`;
}

// The terms' keys and those that followed them, as each log says up to its head.
async function ringsOf(known) {
  const bytes = known.members.get(KEYS);
  const sides = bytes?.length ? decodeKeys(bytes, KEYS) : [[], []];
  const rings = [];
  for (const [side, rotations] of sides.entries()) {
    let ring = new Keyring(known.terms);
    for (const { index, record } of rotations) {
      const rotation = decodeRecord(record);
      if (rotation.kind !== "rotation")
        throw new ProofError(`${KEYS} holds a record of another kind`);
      try {
        ring = await ring.after(index, rotation);
      } catch (error) {
        if (!(error instanceof InvalidRecord)) throw error;
        throw new ProofError(`${KEYS}, record ${index} of the ${ROLES[side]}: ${error.message}`);
      }
    }
    rings.push(ring);
  }
  return rings;
}

// 4. Each head has its author's signature and its peer's co-signature, and is the checkpoint's.
async function checkHeads(known) {
  for (const [side, name] of HEADS.entries()) {
    const head = await headOf(known.members.get(name), known.rings[side], ROLES[side]);
    const expected = known.checkpoint.heads[side];
    if (head.size !== expected.size || !sameBytes(head.root, expected.root)) {
      throw new ProofError(
        `${name} is signed for ${head.size} records, root ${hexOf(head.root)};` +
          ` the checkpoint says ${expected.size}, root ${hexOf(expected.root)}`,
      );
    }
  }
  const [provider, consumer] = known.checkpoint.heads;
  return `${provider.size} and ${consumer.size} records, each signed and co-signed`;
}

// The head of a note by keys of the ring: those that its signature lines name.
async function headOf(bytes, ring, role) {
  const ids = parseNote(bytes).signatures.map((signature) => signature.keyId);
  const named = (vkeys) =>
    vkeys.find((vkey) => ids.some((id) => sameBytes(id, vkey.id))) ?? vkeys[0];
  const { head } = await parseHeadNote(
    bytes,
    named(ring.logVkeys(role)),
    named(ring.cosignerVkeys(other(role))),
  );
  return head;
}

// 5. The statement's lines have the signed root, and every rendering shows the same.
async function checkStatement(known) {
  const { members, checkpoint, pace } = known;
  const lines = await parseStatementJson(members.get(STATEMENT_JSON), pace);
  if (
    BigInt(lines.length) !== checkpoint.lines ||
    !sameBytes(await statementRoot(lines, pace), checkpoint.statement_root)
  ) {
    throw new ProofError(
      `the ${lines.length} lines of ${STATEMENT_JSON} do not have the statement's root` +
        ` that both signed over ${checkpoint.lines} lines`,
    );
  }
  if (lines.some((line, at) => at && compareLines(lines[at - 1], line) > 0)) {
    throw new ProofError("the statement's lines are not in order");
  }
  if (lines.some((line) => line.period !== checkpoint.period)) {
    throw new ProofError(
      `a line of the statement counts in another period, not in ${checkpoint.period}`,
    );
  }
  const written = [
    [STATEMENT_JSON, await statementJson(checkpoint, lines, pace)],
    [STATEMENT_CSV, await statementCsv(lines, pace)],
    [TERMS_TEXT, utf8(termsText(known.terms))],
    [README, readmeText(members)],
  ];
  for (const [name, bytes] of written) {
    if (!sameBytes(members.get(name), bytes))
      throw new ProofError(where(name, members.get(name), bytes));
  }
  known.lines = lines;
  return `${lines.length} lines, root ${hexOf(checkpoint.statement_root)}`;
}

// Where a member begins to differ from what the signed content gives.
function where(name, found, expected) {
  const shorter = Math.min(found.length, expected.length);
  let at = 0;
  while (at < shorter && found[at] === expected[at]) at += 1;
  let row = 1;
  for (let place = 0; place < at; place += 1) if (expected[place] === 0x0a) row += 1;
  return `${name} is not what the signed content gives, from line ${row} (byte ${at}) on`;
}

// 6. Each meter's payable quantities add up to the total that both signed.
function checkTotals(known) {
  const meters = new Set(known.terms.meters.map((meter) => meter.name));
  const strange = known.lines.find((line) => !meters.has(line.meter));
  if (strange) {
    throw new ProofError(
      `a line of the statement is of ${strange.meter}, which the terms do not have`,
    );
  }
  const totals = meterTotals(known.terms, known.lines);
  const signed = known.checkpoint.totals;
  totals.forEach((computed, at) => {
    if (at < signed.length && computed !== signed[at]) {
      throw new ProofError(
        `the lines add up to ${quoted(computed)}; both signed ${quoted(signed[at])}`,
      );
    }
  });
  if (signed.length !== totals.length) {
    throw new ProofError(`${signed.length} totals for ${totals.length} meters`);
  }
  return totals.join("; ");
}

// 7. The verdict is the one that both signed, and what the terms say of its declared totals and the
// statement's lines; a checkpoint from before there were verdicts has none.
async function checkVerdict(known) {
  const bytes = known.members.get(VERDICT);
  const signed = known.checkpoint.verdict;
  known.verdict = null;
  if (!bytes && !signed.length) return "none: the checkpoint is from before there were verdicts";
  if (!bytes || !signed.length) {
    throw new ProofError(`${VERDICT} and the checkpoint's line of it are not both there`);
  }
  const verdict = await parseVerdictJson(bytes, known.pace);
  const written = verdictJson(verdict);
  if (!sameBytes(written, bytes)) throw new ProofError(where(VERDICT, bytes, written));
  if (!sameBytes(verdictDigest(verdict), signed)) {
    throw new ProofError(`${VERDICT} is not the verdict whose digest both signed`);
  }
  const totals = declaredOf(known.terms, verdict);
  compareVerdicts(
    makeVerdict(known.terms, known.checkpoint.period, known.lines, ...totals),
    verdict,
  );
  known.verdict = verdict;
  return verdict.meters.map((row) => `${row.meter} ${row.result}`).join("; ");
}

function compareVerdicts(made, stated) {
  if (sameVerdict(made, stated)) return;
  if (made.period !== stated.period) throw new ProofError(`${VERDICT} is of ${stated.period}`);
  const [left, right] = firstDiffering(made, stated);
  throw new ProofError(
    `for ${left.meter}, the checks give ${verdictRow(left)}; ${VERDICT} says ${verdictRow(right)}`,
  );
}

function verdictRow(row) {
  return (
    `${row.result} (declared ${row.provider || "nothing"} and ${row.consumer || "nothing"},` +
    ` payable ${row.payable}, disputed ${row.disputed})`
  );
}

// 8. The records are canonical, and their chain and tree have the heads' sizes and roots.
async function checkRecords(known) {
  known.summaries = [];
  for (const [side, log] of known.logs.entries()) {
    const role = ROLES[side];
    const head = known.checkpoint.heads[side];
    if (BigInt(log.count) !== head.size) {
      throw new ProofError(`${log.count} records of the ${role}; its head counts ${head.size}`);
    }
    const summary = await surveyLog(known.terms, role, known.channelId, log, known.pace);
    if (!sameBytes(summary.root, head.root)) {
      throw new ProofError(
        `the ${role}'s records have the root ${hexOf(summary.root)};` +
          ` its head says ${hexOf(head.root)}`,
      );
    }
    known.summaries.push(summary);
  }
  return `${known.logs[0].count} and ${known.logs[1].count} records give both heads' roots`;
}

// 9. Each record is valid under the terms and what is before it; ids are unique.
function checkValidity(known) {
  known.summaries.forEach(({ fault }, side) => {
    if (fault) throw new ProofError(`in the ${ROLES[side]}'s log, ${fault.message}`, fault.advice);
  });
  known.summaries.forEach(({ facts }, side) => {
    if (!sameAnnounced(facts.keys, known.rings[side].announced)) {
      throw new ProofError(`${KEYS} does not hold the changes of keys in the ${ROLES[side]}'s log`);
    }
  });
  known.closes = mergeCloses(
    known.summaries,
    known.logs.map((log) => log.count),
  );
  const corrected = known.summaries.reduce((sum, summary) => sum + summary.corrected.size, 0);
  return `every record is valid; ${corrected} deltas are corrected`;
}

// 10. Deriving from the records gives exactly the statement's lines, and leaves none before.
async function checkDerivation(known) {
  const { terms, checkpoint } = known;
  const lines = await replay(terms, known.logs, known.closes, known.summaries, known.pace);
  const derived = lines.filter((line) => line.period === checkpoint.period);
  const [left, right] = firstDifference(derived, known.lines);
  if (left || right) throw new ProofError(differenceText(left, right));
  const calendar = new Calendar(terms.calendar, terms.time_zone);
  const passed = new Map(); // whether a period ended before this one, by its label
  for (const { meter, period } of lines) {
    if (!passed.has(period)) {
      passed.set(period, calendar.parse(period).end_us <= checkpoint.start_us);
    }
    if (passed.get(period)) {
      throw new ProofError(
        `the records give a line of ${meter} in ${period}, which was never closed`,
      );
    }
  }
  return `the records give the same ${derived.length} lines`;
}

function differenceText(derived, stated) {
  const [records, statement] = [derived, stated].map((line) =>
    line
      ? `provider ${line.provider ?? "None"}, consumer ${line.consumer ?? "None"},` +
        ` payable ${line.payable}, deltas ${line.deltas}`
      : "no such line",
  );
  const line = derived ?? stated;
  return (
    `${line.meter} of ${line.subject} in ${line.late_for ?? line.period}:` +
    ` the records give ${records}; the statement says ${statement}`
  );
}

// 11. The checkpoint follows the newest one that the logs know, or is the first.
function checkPrevious(known) {
  const newest = known.closes[known.closes.length - 1];
  const { checkpoint } = known;
  const stated = hexOf(checkpoint.previous) || "none";
  const expected = newest ? hexOf(newest.digest) : "none";
  if (stated !== expected) {
    throw new ProofError(
      `the checkpoint says that it follows ${stated}; the newest in the logs is ${expected}`,
    );
  }
  if (!newest) return "the channel's first";
  if (checkpoint.start_us < newest.end_us) {
    throw new ProofError(`${checkpoint.period} was closed before, with ${newest.period}`);
  }
  return `it follows ${newest.period}, ${expected}`;
}

// 12. What the verdict says was declared is what counts of the logs' declarations.
function checkDeclarations(known) {
  if (!known.verdict) return "no verdict";
  const { terms, checkpoint } = known;
  const sides = known.summaries.map(({ matters }, side) =>
    commitmentsIn(terms, ROLES[side], checkpoint.period, matters),
  );
  const totals = declared(...sides);
  compareVerdicts(makeVerdict(terms, checkpoint.period, known.lines, ...totals), known.verdict);
  const said = checkpoint.heads.map(
    (head, side) => `${head.party} declared ${totals[side] ? "totals" : "nothing"}`,
  );
  return `the records give the same verdict; ${said.join(", ")}`;
}

// Which witnesses co-signed the heads, as far as this page can tell.
function checkBundleWitnesses({ members }) {
  return checkWitnesses(
    HEADS.map((name, side) => [`the ${ROLES[side]}'s head`, members.get(name)]),
  );
}

// An authority's timestamp is over the checkpoint's note.
function checkBundleTime({ members }) {
  return checkTime(members.get(TIMESTAMP), members.get(CHECKPOINT));
}

const HEADS = [PROVIDER_HEAD, CONSUMER_HEAD];
const CHECKS = [
  ["archive", [], checkArchive],
  ["terms", [1], checkBundleTerms],
  ["checkpoint", [1, 2], checkCheckpoint],
  ["heads", [3], checkHeads],
  ["statement", [3], checkStatement],
  ["totals", [5], checkTotals],
  ["verdict", [6], checkVerdict],
  ["records", [3], checkRecords],
  ["validity", [8], checkValidity],
  ["derivation", [5, 9], checkDerivation],
  ["previous", [9], checkPrevious],
  ["declarations", [7, 9], checkDeclarations],
];
