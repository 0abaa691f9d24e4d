// The checkpoint: what both parties sign about a closed period, as a C2SP signed note.

import { base64Of, bytesOfBase64, bytesOfHex, hexOf, sameBytes, utf8, EMPTY } from "./bytes.js";
import { FormatError, InvalidRecord, ProofError } from "./errors.js";
import { SPACE, parseNote, verifyNoteSignature } from "./notes.js";
import { secondsOfDay } from "./periods.js";
import { formatQuantity, parseTotal } from "./quantities.js";
import { ROLES, TIME_MAX_US } from "./records.js";
import { sha256 } from "./sha256.js";
import { origin } from "./signatures.js";
import { lineScale, unitOf } from "./terms.js";

export const TITLE = "tallystick checkpoint v1";
const END_MAX_US = TIME_MAX_US + 32n * 86_400_000_000n; // no period of a record's time ends later
const US = 1_000_000n;

const WORD = `[^${SPACE}]+`;
const TEXT = new RegExp(
  `^${TITLE}\\n` +
    "channel (?<channel>[0-9a-f]{64})\\n" +
    `provider (?<provider>${WORD})\\n` +
    `consumer (?<consumer>${WORD})\\n` +
    `period (?<period>${WORD}) (?<zone>${WORD})\\n` +
    `from (?<start>${WORD})\\n` +
    `until (?<end>${WORD})\\n` +
    "previous (?<previous>none|[0-9a-f]{64})\\n" +
    "terms (?<terms>[0-9a-f]{64})\\n" +
    `head (?<partyA>${WORD}) (?<sizeA>[0-9]{1,20}) (?<rootA>${WORD})\\n` +
    `head (?<partyB>${WORD}) (?<sizeB>[0-9]{1,20}) (?<rootB>${WORD})\\n` +
    `statement (?<lines>[0-9]{1,20}) (?<root>${WORD})\\n` +
    `(?:verdict (?<verdict>${WORD})\\n)?` +
    "(?<totals>(?:total [^\\n]+\\n)+)$",
  "u",
);

// The note's text of a checkpoint.
function textOf(checkpoint) {
  const rows = [
    TITLE,
    `channel ${hexOf(checkpoint.channel_id)}`,
    `provider ${checkpoint.provider}`,
    `consumer ${checkpoint.consumer}`,
    `period ${checkpoint.period} ${checkpoint.time_zone}`,
    `from ${instantText(checkpoint.start_us)}`,
    `until ${instantText(checkpoint.end_us)}`,
    `previous ${hexOf(checkpoint.previous) || "none"}`,
    `terms ${hexOf(checkpoint.terms_digest)}`,
    ...checkpoint.heads.map((head) => `head ${head.party} ${head.size} ${base64Of(head.root)}`),
    `statement ${checkpoint.lines} ${base64Of(checkpoint.statement_root)}`,
    ...(checkpoint.verdict.length ? [`verdict ${base64Of(checkpoint.verdict)}`] : []),
    ...checkpoint.totals.map((total) => `total ${total}`),
  ];
  return `${rows.join("\n")}\n`;
}

const INSTANT = /^([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z$/;

function instantText(us) {
  const date = new Date(Number(us / 1000n));
  return `${date.toISOString().slice(0, 19)}Z`;
}

function parseInstant(text) {
  const match = INSTANT.exec(text);
  if (!match) throw new FormatError(`not a checkpoint: ${text} is not a time`);
  const [year, month, day, hour, minute, second] = match.slice(1).map(Number);
  const midnight = secondsOfDay(year, month, day);
  if (Number.isNaN(midnight) || hour > 23 || minute > 59 || second > 59) {
    throw new FormatError(`not a checkpoint: ${text} is not a time`);
  }
  return BigInt(midnight + hour * 3600 + minute * 60 + second) * US;
}

function parseHash(text) {
  let bytes;
  try {
    bytes = bytesOfBase64(text);
  } catch {
    throw new FormatError("not a checkpoint: a value is not in canonical form");
  }
  if (bytes.length !== 32)
    throw new FormatError(`not a checkpoint: a root or digest of ${bytes.length} bytes`);
  return bytes;
}

// The checkpoint of this text, with its `text` and `digest`; `FormatError` unless the text is the
// one that is written for it.
export function parseCheckpoint(text) {
  const match = TEXT.exec(text);
  if (!match) throw new FormatError("not a checkpoint: a line is missing, doubled or misspelt");
  const f = match.groups;
  const checkpoint = {
    channel_id: bytesOfHex(f.channel),
    provider: f.provider,
    consumer: f.consumer,
    period: f.period,
    time_zone: f.zone,
    start_us: parseInstant(f.start),
    end_us: parseInstant(f.end),
    previous: f.previous === "none" ? EMPTY : bytesOfHex(f.previous),
    terms_digest: bytesOfHex(f.terms),
    heads: [
      { party: f.partyA, size: BigInt(f.sizeA), root: parseHash(f.rootA) },
      { party: f.partyB, size: BigInt(f.sizeB), root: parseHash(f.rootB) },
    ],
    lines: BigInt(f.lines),
    statement_root: parseHash(f.root),
    totals: f.totals
      .slice(0, -1)
      .split("\n")
      .map((row) => row.slice("total ".length)),
    verdict: f.verdict === undefined ? EMPTY : parseHash(f.verdict),
    text,
    digest: sha256(utf8(text)),
  };
  if (textOf(checkpoint) !== text)
    throw new FormatError("not a checkpoint: a value is not in canonical form");
  if (!(checkpoint.start_us < checkpoint.end_us && checkpoint.end_us <= END_MAX_US)) {
    throw new FormatError("not a checkpoint: its period's bounds are not in order or in range");
  }
  return checkpoint;
}

// Each meter's payable total over a statement's lines, as a checkpoint says it.
export function meterTotals(terms, lines) {
  const meters = new Map(terms.meters.map((meter) => [meter.name, { meter, amount: 0n }]));
  for (const line of lines) {
    const total = meters.get(line.meter);
    if (total) total.amount += parseTotal(line.payable, lineScale(total.meter));
  }
  return [...meters].map(([name, { meter, amount }]) => {
    return `${name} ${formatQuantity(amount, lineScale(meter))} ${unitOf(meter)}`;
  });
}

// The checkpoint of a note that exactly both parties signed, by any key that they ever had in the
// ring; `ProofError` if they did not.
export async function verifyCheckpoint(bytes, ring) {
  const note = parseNote(bytes);
  const checkpoint = parseCheckpoint(note.text);
  const { terms, channelId } = ring;
  if (!sameBytes(checkpoint.channel_id, channelId))
    throw new ProofError("the checkpoint is of another channel");
  const parties = [terms.provider.name, terms.consumer.name];
  const said = [
    checkpoint.provider,
    checkpoint.consumer,
    ...checkpoint.heads.map((head) => head.party),
  ];
  if (said.some((name, at) => name !== parties[at % 2])) {
    throw new ProofError("the checkpoint names other parties than the terms");
  }
  checkSigners(
    note,
    parties.map((party) => origin(party, channelId)),
  );
  for (const role of ROLES) await verifyNoteSignature(note, vkeyNamed(note, ring, role));
  return checkpoint;
}

// Refuse a note that does not carry exactly two signature lines with these names, in order.
export function checkSigners(note, names) {
  const { signatures } = note;
  if (signatures.length !== 2 || signatures.some((one, at) => one.name !== names[at])) {
    throw new ProofError("a checkpoint carries exactly two signatures, the provider's first");
  }
}

// The same, but both must have signed by their newest log keys in the ring.
export async function verifyClosing(bytes, ring) {
  const checkpoint = await verifyCheckpoint(bytes, ring);
  const { signatures } = parseNote(bytes);
  ROLES.forEach((role, at) => {
    if (!sameBytes(signatures[at].keyId, ring.logVkeys(role)[0].id)) {
      throw new ProofError(
        "the checkpoint is signed by other keys than those in force at its heads",
      );
    }
  });
  return checkpoint;
}

// The key of a party's that the note's signature line names; the newest if it names none.
function vkeyNamed(note, ring, role) {
  const vkeys = ring.logVkeys(role);
  const ids = note.signatures.filter((one) => one.name === vkeys[0].name).map((one) => one.keyId);
  return vkeys.find((vkey) => ids.some((id) => sameBytes(id, vkey.id))) ?? vkeys[0];
}

// The digest of a valid close's checkpoint; `InvalidRecord` if the log, which is of `role` and has
// the keys of `ring` by now, may not hold it.
export async function checkClose(role, ring, record, previous) {
  let checkpoint;
  try {
    const head = parseCheckpoint(parseNote(record.checkpoint).text).heads[ROLES.indexOf(role)];
    checkpoint = await verifyClosing(record.checkpoint, ring.at(head.size));
  } catch (error) {
    if (!(error instanceof FormatError || error instanceof ProofError)) throw error;
    throw new InvalidRecord(`its checkpoint does not hold: ${error.message}`);
  }
  if (!sameBytes(checkpoint.previous, previous)) {
    throw new InvalidRecord("its checkpoint does not follow the one before it in this log");
  }
  return checkpoint.digest;
}
