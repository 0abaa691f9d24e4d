// A bundle: what travels with an invoice and convinces a stranger, in one reproducible file. It
// owns which members a bundle has and what is in them; what a reader should believe is `verify`'s.

import { utf8 } from "./bytes.js";
import { readArchive } from "./archive.js";
import { endOfValue, endings } from "./encoding.js";
import { FormatError } from "./errors.js";
import { BATCH_HEADER_SIZE, RECORD_BYTES_MAX, batchCount } from "./records.js";

export const README = "README.txt";
export const CHECKPOINT = "checkpoint.txt";
export const TERMS = "terms.msgpack";
export const TERMS_TEXT = "terms.txt";
export const PROVIDER_HEAD = "heads/provider.txt";
export const CONSUMER_HEAD = "heads/consumer.txt";
export const STATEMENT_JSON = "statement.json";
export const STATEMENT_CSV = "statement.csv";
export const VERDICT = "verdict.json"; // only if the checkpoint has one
export const KEYS = "keys.msgpack"; // only if a key was changed
export const TIMESTAMP = "timestamps/checkpoint.tsr"; // only if there is one
const PROVIDER_RECORDS = "records/provider.msgpack";
const CONSUMER_RECORDS = "records/consumer.msgpack";

const COMPACT = [
  README,
  CHECKPOINT,
  TERMS,
  TERMS_TEXT,
  PROVIDER_HEAD,
  CONSUMER_HEAD,
  STATEMENT_JSON,
  STATEMENT_CSV,
];
const FULL = [PROVIDER_RECORDS, CONSUMER_RECORDS];

const MEMBER_BYTES_MAX = 64 << 20; // of every member but the records
const CHUNK_BYTES = 1 << 20;
const BATCH_RECORDS = 4096; // in each batch but a log's last
const BATCH_BYTES_MAX = BATCH_HEADER_SIZE + BATCH_RECORDS * RECORD_BYTES_MAX;

const README_TEXT = `\
This is a Tallystick bundle: the closing of one billing period, signed by both parties.

checkpoint.txt            what both parties signed: period, heads, totals (a C2SP signed note)
terms.msgpack             the terms that both agreed on; its SHA-256 is the channel's id
terms.txt                 the same terms in words
heads/provider.txt        how far the provider's log counts, signed by it, co-signed by the consumer
heads/consumer.txt        how far the consumer's log counts, signed by it, co-signed by the provider
statement.json            every balance line of the period
statement.csv             the same lines as a table
records/provider.msgpack  every record of the provider's log up to its head (full bundles only)
records/consumer.msgpack  every record of the consumer's log up to its head (full bundles only)

To check all of it, without a network, an account or trust in whoever handed you the file:

    tally verify FILE

It needs to be told nothing, but compare the channel's id with the one that you know: a bundle
proves what the two keys in its terms signed, not whose keys they are.

To check by hand: the SHA-256 of terms.msgpack is the channel in checkpoint.txt; the keys in the
terms verify both signatures below checkpoint.txt and those below the heads; the sizes and roots in
the heads are those in checkpoint.txt; the RFC 6962 tree over the lines of the statement, each as
MessagePack, has the root that checkpoint.txt says; each meter's payable quantities add up to its
total. In a full bundle the records, each hashed together with the hash of the one before it, give
the roots of the heads, and adding them up by the terms gives the lines.
`;
const VERDICT_TEXT = `\
verdict.json              what both declared to have counted, and what the terms say about it
`;
const KEYS_TEXT = `\
keys.msgpack              how keys were changed since, each change signed by the log key before it
`;
const TIMESTAMP_TEXT = `\
timestamps/checkpoint.tsr that checkpoint.txt existed, says an authority outside (RFC 3161)
`;
const TIMESTAMP_BY_HAND = `
The timestamp, by hand: openssl ts -verify -data checkpoint.txt -in timestamps/checkpoint.tsr
-CAfile FILE, where FILE has the certificates of an authority that you trust.
`;

// What a bundle with these members says of itself: more if some are there that need not be.
export function readmeText(members) {
  const texts = [
    [VERDICT, VERDICT_TEXT],
    [KEYS, KEYS_TEXT],
    [TIMESTAMP, TIMESTAMP_TEXT],
  ];
  const extra = texts.map(([name, text]) => (members.has(name) ? text : "")).join("");
  const byHand = members.has(TIMESTAMP) ? TIMESTAMP_BY_HAND : "";
  return utf8(README_TEXT.replace(PROVIDER_RECORDS, extra + PROVIDER_RECORDS) + byHand);
}

// The bundle in a file: its small members' bytes by name, and both logs if it is full.
// `FormatError` unless its container and its batches are in their one form. Records are not kept:
// they are read again, a batch at a time, when they are asked for.
export async function openBundle(file, pace) {
  const small = (name) => ({ name, large: false });
  const groups = [
    ...[VERDICT, KEYS, TIMESTAMP].map((name) => [small(name)]),
    FULL.map((name) => ({ name, large: true })),
  ];
  const found = await readArchive(file, COMPACT.map(small), groups, MEMBER_BYTES_MAX, pace);
  const members = new Map();
  for (const member of found) {
    if (!member.large) members.set(member.name, await file.read(member.dataOffset, member.size));
  }
  const large = found.filter((member) => member.large);
  if (!large.length) return { members, logs: null };
  const logs = [];
  for (const member of large) logs.push(await openLog(file, member, pace));
  return { members, logs };
}

// One log's records in a bundle: how many, and how to read them from the first one on.
async function openLog(file, member, pace) {
  const places = await findBatches(file, member, pace);
  const count = places.reduce((sum, place) => sum + place.count, 0);
  async function* batches() {
    for (const { offset, size } of places) yield file.read(offset, size);
  }
  return { count, batches };
}

// Where the batches of a records member are. Each but the last must have `BATCH_RECORDS` records.
async function findBatches(file, member, pace) {
  const { name } = member;
  const end = member.dataOffset + member.size;
  const places = [];
  let offset = member.dataOffset;
  let size = CHUNK_BYTES;
  let ended = false; // a batch that is not full was the last
  while (offset < end) {
    const bytes = await file.read(offset, Math.min(size, end - offset));
    const whole = bytes.length === end - offset;
    let at = 0;
    while (at < bytes.length) {
      const after = endOfValue(bytes, at);
      if (after === endings.NO_VALUE)
        throw new FormatError(`${name} holds what is not MessagePack`);
      if (after === endings.CUT_OFF) break;
      const batch = bytes.subarray(at, after);
      const count = batch[0] === 0xdd ? batchCount(batch) : 0;
      if (ended || count < 1 || count > BATCH_RECORDS) {
        throw new FormatError(`${name} is not in batches of ${BATCH_RECORDS} records`);
      }
      ended = count < BATCH_RECORDS;
      places.push({ offset: offset + at, size: after - at, count });
      at = after;
      await pace.step(`counting ${name}`, (offset + at - member.dataOffset) / member.size);
    }
    if (!at) {
      if (whole || size > BATCH_BYTES_MAX) {
        throw new FormatError(`${name} is cut off or holds a batch too large`);
      }
      size *= 2; // the batch is larger than what was read
    }
    offset += at;
  }
  return places;
}
