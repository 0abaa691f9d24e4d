// Verify a passthrough's proof, or a seal and the proof behind it. Neither names keys: they prove
// something to whoever already knows the parties' verifier keys.

import { hexOf, sameBytes, textOf } from "./bytes.js";
import { checkSigners } from "./checkpoint.js";
import { runChecks } from "./checks.js";
import { FormatError, PeriodError, ProofError, quoted } from "./errors.js";
import { isoTime } from "./keyring.js";
import { leafHash, verifyInclusion } from "./merkle.js";
import { verifyNoteSignature } from "./notes.js";
import { SEAL_TITLE, TITLE, ofDirection, parsePassthrough } from "./passthrough.js";
import { Calendar } from "./periods.js";
import { formatQuantity, parseTotal } from "./quantities.js";
import { sha256 } from "./sha256.js";
import { NOTE_KEY, origin } from "./signatures.js";
import { decodeLine } from "./statement.js";

const DIRECTIONS = ["sold", "bought"];
const PLACES_MAX = 18; // of a quantity: no meter has more
const US = 1_000_000n;

// Run the eight checks on a proof.
export function verifyPassthrough(bytes, expected, known = {}) {
  return runChecks(Object.assign(known, { bytes, expected }), PROOF);
}

// Run the eight checks on a seal and the proof behind it (null: it is not there).
export function verifySeal(bytes, behind, expected, known = {}) {
  return runChecks(Object.assign(known, { bytes, behind, expected }), SEAL);
}

// 1. The file is in its one form.
function form(known) {
  known.file = parsePassthrough(known.bytes);
  const counts = DIRECTIONS.map((direction) => [
    direction,
    ofDirection(known.file, direction).reduce((sum, { lines }) => sum + lines.length, 0),
  ]).filter(([, count]) => count);
  const title = known.file.proof ? SEAL_TITLE : TITLE;
  const said = counts.map(([direction, count]) => `${count} ${direction}`);
  return `${title}, ${known.file.period}: lines ${said.join(", ")}`;
}

// 2. Each line is canonical, and counts in its checkpoint's period.
function checkLines(known) {
  const found = { sold: [], bought: [] };
  for (const { direction, lines, checkpoint } of known.file.sections) {
    for (const { bytes } of lines) {
      const line = decodeLine(bytes);
      if (line.period !== checkpoint.period) {
        throw new ProofError(
          `a line ${direction} counts in ${line.period}, not in ${checkpoint.period},` +
            " which is closed",
        );
      }
      found[direction].push(line);
    }
  }
  known.resold = found;
  return DIRECTIONS.filter((direction) => found[direction].length)
    .map((direction) => shown(direction, found[direction]))
    .join("; ");
}

// The lines of one direction in a few words.
function shown(direction, lines) {
  const subjects = [...new Set(lines.map((line) => line.subject))];
  const more = subjects.length > 3 ? ` and ${subjects.length - 3} more` : "";
  const named = subjects.slice(0, 3).join(", ");
  return `${direction} ${total(lines)} ${lines[0].unit} of ${named}${more}`;
}

// 3. Each line is in the statement that its checkpoint closes.
function inclusion({ file }) {
  let count = 0;
  for (const { lines, checkpoint } of file.sections) {
    for (const { bytes, index, path } of lines) {
      const root = checkpoint.statement_root;
      verifyInclusion(leafHash(bytes), index, checkpoint.lines, path, root);
      count += 1;
    }
  }
  return `lines that lead to the root of their statement: ${count}, all`;
}

// 4. Every line counts in the period that the file names, on its parties' clocks.
function periods({ file }) {
  const zone = file.sections.at(-1).checkpoint.time_zone; // of what was bought, if that is shown
  const whole = periodNamed(file.period, zone);
  const bounds = `from ${isoTime(whole.start_us / US)} until ${isoTime(whole.end_us / US)}`;
  for (const { direction, checkpoint } of file.sections) {
    if (checkpoint.start_us < whole.start_us || checkpoint.end_us > whole.end_us) {
      throw new ProofError(
        `${checkpoint.period}, ${direction}, is not in ${file.period}, which is ${bounds}`,
      );
    }
  }
  return `${file.period} in ${zone}, ${bounds}`;
}

// The period of a label, of whatever calendar, on the clock of a zone.
function periodNamed(label, zone) {
  for (const kind of ["hour", "day", "week", "month"]) {
    const calendar = new Calendar(kind, zone);
    try {
      return calendar.parse(label);
    } catch (error) {
      if (!(error instanceof PeriodError)) throw error;
    }
  }
  throw new PeriodError(`${quoted(label)} is no period in ${zone}`);
}

// 5. What was bought was bought in one channel by the party that sold; one meter a side.
function parties({ file, resold }) {
  const bought = ofDirection(file, "bought").map((section) => section.checkpoint);
  const sold = ofDirection(file, "sold").map((section) => section.checkpoint);
  const channels = new Set(bought.map((checkpoint) => hexOf(checkpoint.channel_id)));
  if (channels.size !== 1) {
    throw new ProofError(`it is bought in ${channels.size} channels; one is allowed`);
  }
  const { provider: seller, consumer: reseller } = bought[0];
  for (const { provider } of sold) {
    if (provider !== reseller) {
      throw new ProofError(`${reseller} bought it; ${provider} sold what is shown`);
    }
  }
  for (const direction of DIRECTIONS) {
    const [first, ...rest] = resold[direction];
    if (rest.some((line) => line.meter !== first.meter || line.unit !== first.unit)) {
      throw new ProofError(`the lines ${direction} are of several meters`);
    }
  }
  const units = DIRECTIONS.map((direction) => resold[direction][0].unit);
  if (units[0] !== units[1]) {
    throw new ProofError(`${units[0]} was sold, and ${units[1]} was bought`);
  }
  const customers = [...new Set(sold.map((checkpoint) => checkpoint.consumer))];
  return `${reseller} bought from ${seller} and sold to ${customers.join(", ")}`;
}

// 6. What was bought is what was sold.
function sums({ resold }) {
  const [sold, bought] = DIRECTIONS.map((direction) => total(resold[direction]));
  if (sold !== bought) {
    throw new ProofError(`the lines sold add up to ${sold}, those bought to ${bought}`);
  }
  return `${sold} ${resold.sold[0].unit} on both sides`;
}

// What is payable of lines, whatever their scales, without zeros at the end.
function total(lines) {
  let sum = 0n;
  for (const { payable } of lines) {
    const point = payable.indexOf(".");
    const places = point < 0 ? 0 : payable.length - point - 1;
    if (places > PLACES_MAX) {
      throw new FormatError(`${quoted(payable.slice(0, 60))} has ${places} decimal places`);
    }
    sum += parseTotal(payable, places) * 10n ** BigInt(PLACES_MAX - places);
  }
  return formatQuantity(sum, PLACES_MAX).replace(/0+$/, "").replace(/\.$/, "");
}

// The keys that were expected are of the logs whose parties signed the checkpoints.
function keys(known) {
  const found = [];
  const missing = new Set();
  for (const { note, checkpoint } of known.file.sections) {
    const names = [checkpoint.provider, checkpoint.consumer].map((party) =>
      origin(party, checkpoint.channel_id),
    );
    checkSigners(note, names);
    names.forEach((name, place) => {
      const ofName = known.expected.filter((key) => key.name === name && key.kind === NOTE_KEY);
      const { keyId } = note.signatures[place];
      const key = ofName.find((one) => sameBytes(one.id, keyId)) ?? ofName[0];
      if (key) found.push({ note, key });
      else missing.add(name);
    });
  }
  if (missing.size) {
    throw new ProofError(
      `no expected key is of ${[...missing].join(" or ")}`,
      "Give the verifier keys that you know to be the parties' (tally vkey shows them)",
    );
  }
  known.signed = found;
  const distinct = new Map(found.map(({ key }) => [String(key), key]));
  known.keys = [...distinct.values()];
  return [...distinct.keys()].join("; ");
}

// Both parties signed each checkpoint, by these keys.
async function signatures({ signed, file }) {
  for (const { note, key } of signed) await verifyNoteSignature(note, key);
  return `checkpoints that both parties of their channel signed: ${file.sections.length}, all`;
}

// 7, of a seal. The proof that was handed over is the one that was sealed, with these lines.
function sealed({ file, behind }) {
  const digest = hexOf(file.proof);
  if (!behind) {
    throw new ProofError(
      `what it was bought as is in another file, of the SHA-256 ${digest}`,
      "Whoever may see that checks both: drop them together",
    );
  }
  const other = hexOf(sha256(behind));
  if (other !== digest) {
    throw new ProofError(`the seal is on a file of the SHA-256 ${digest}; ${other} was given`);
  }
  const sold = ofDirection(parsePassthrough(behind), "sold");
  const inside = new Map(sold.map((section) => [textOf(section.bytes), section]));
  if (!file.sections.every((own) => sameSection(inside.get(textOf(own.bytes)), own))) {
    throw new ProofError("the proof behind the seal sells other lines");
  }
  return `the proof behind it is the one of ${digest}, and sells the same lines`;
}

function sameSection(a, b) {
  const sameLine = (one, other) =>
    one.index === other.index &&
    sameBytes(one.bytes, other.bytes) &&
    one.path.length === other.path.length &&
    one.path.every((hash, at) => sameBytes(hash, other.path[at]));
  return (
    a !== undefined &&
    sameBytes(a.bytes, b.bytes) &&
    a.lines.length === b.lines.length &&
    a.lines.every((line, at) => sameLine(line, b.lines[at]))
  );
}

// 8, of a seal. Every check of the proof behind it holds.
async function behindIt(known) {
  const checks = [];
  const inner = {};
  const { behind, expected } = known;
  for await (const check of verifyPassthrough(behind, expected, inner)) checks.push(check);
  const fault = checks.find((check) => !check.ok);
  if (fault) {
    throw new ProofError(`check ${fault.number} of it, ${fault.name}: ${fault.detail}`);
  }
  known.keys = inner.keys; // which are the seal's and those of the purchase
  return `its ${checks.length} checks hold; ${checks[4].detail}; ${checks[5].detail}`;
}

const COMMON = [
  ["form", [], form],
  ["lines", [1], checkLines],
  ["inclusion", [2], inclusion],
  ["periods", [1], periods],
];
const PROOF = [
  ...COMMON,
  ["parties", [2], parties],
  ["sums", [5], sums],
  ["keys", [1], keys],
  ["signatures", [7], signatures],
];
const SEAL = [
  ...COMMON,
  ["keys", [1], keys],
  ["signatures", [5], signatures],
  ["sealed", [1], sealed],
  ["behind", [7], behindIt],
];
