// The records of a log: what each kind carries, field for field, and its one encoding. A record
// here is an object of its fields by their names, with `kind`. What other records know by its
// digest has its own `bytes`, too.

import { utf8 } from "./bytes.js";
import { Reader } from "./encoding.js";
import { FormatError, quoted } from "./errors.js";

export const ROLES = ["provider", "consumer"];
export const BATCH_HEADER_SIZE = 5;
export const RECORD_BYTES_MAX = 64 * 1024;
export const INT64_MIN = -(2n ** 63n);
export const INT64_MAX = 2n ** 63n - 1n;
export const TIME_MAX_US = 253_370_764_799_999_999n; // the year 9998's last microsecond

const TEXT_BYTES_MAX = 128;
const NAMED_MAX = 1000;
const METER_NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;
const CONTROL = /[\x00-\x1f\x7f-\x9f]/;

export function other(role) {
  return role === "provider" ? "consumer" : "provider";
}

// Each of these makes a function that takes a value off a reader, or throws a `FormatError`.
const integer = (low, high) => (reader) => {
  const value = reader.integer();
  if (value < low || value > high) throw new FormatError(`${value} is not from ${low} to ${high}`);
  return value;
};
const text = (least, most) => (reader) => reader.text(least, most);
const binary = (least, most) => (reader) => reader.binary(least, most);
const orNil = (read) => (reader) => (reader.nil() ? null : read(reader));
const choice =
  (...values) =>
  (reader) => {
    const value = reader.text();
    if (!values.includes(value))
      throw new FormatError(`${quoted(value)} is not one of ${values.join(", ")}`);
    return value;
  };
const list = (read, least, most) => (reader) => {
  const count = reader.array();
  if (count < least || count > most) {
    throw new FormatError(`an array of ${count}; ${least} to ${most} are allowed`);
  }
  return Array.from({ length: count }, () => read(reader));
};
const struct = (fields) => {
  const entries = Object.entries(fields);
  return (reader) => {
    const count = reader.array();
    if (count !== entries.length)
      throw new FormatError(`an array of ${count}, not of ${entries.length}`);
    const found = {};
    for (const [name, read] of entries) found[name] = read(reader);
    return found;
  };
};

const quantity = integer(INT64_MIN, INT64_MAX);
const amount = integer(0n, INT64_MAX);
const positive = integer(1n, INT64_MAX);
const time = integer(0n, TIME_MAX_US);
const short = text(1, TEXT_BYTES_MAX);
const reason = text(1, 500);
const label = text(4, 32);
const digest = binary(32);
const role = choice("provider", "consumer");

const party = struct({ name: text(1, 253), log_key: digest, cosigner_key: digest });
const tolerance = struct({
  relative_ppm: integer(0n, 1_000_000n),
  absolute: amount,
  base: role,
  least: amount,
});
const meterName = (reader) => {
  const name = reader.text();
  if (!METER_NAME.test(name)) throw new FormatError(`${quoted(name)} is not a meter's name`);
  return name;
};
const meter = struct({
  name: meterName,
  unit: text(1, 32),
  scale: (reader) => Number(integer(0n, 18n)(reader)),
  minimum: quantity,
  maximum: quantity,
  aggregate: choice("sum", "max", "count"),
  source: choice("provider", "consumer", "both"),
  payable: choice("provider", "consumer", "minimum"),
  match_window_us: amount,
  tolerance: orNil(tolerance),
});
const declaredTotal = struct({ meter: short, total: text(1, 40) });
const named = struct({ role, index: amount });
const attested = struct({ size: positive, root: digest, cosignature: binary(72) });

const SCHEMAS = {
  1: [
    "terms",
    {
      version: integer(1n, 1n),
      provider: party,
      consumer: party,
      calendar: choice("hour", "day", "week", "month"),
      time_zone: text(1, 64),
      grace_seconds: amount,
      dispute_seconds: amount,
      answer_seconds: amount,
      meters: list(meter, 1, 1000),
      nonce: binary(16),
    },
  ],
  2: [
    "delta",
    {
      id: short,
      meter: short,
      subject: short,
      quantity,
      occurred_at: time,
      recorded_at: time,
      attributes: orNil(digest),
    },
  ],
  3: [
    "correction",
    { id: short, meter: short, quantity: orNil(quantity), reason, recorded_at: time },
  ],
  4: ["close", { checkpoint: binary(1, RECORD_BYTES_MAX / 2), recorded_at: time }],
  5: [
    "epoch",
    {
      number: positive,
      peer_size: amount,
      peer_root: digest,
      lost_size: amount,
      lost_root: binary(0, 32),
      reason,
      recorded_at: time,
    },
  ],
  6: [
    "rotation",
    {
      party: role,
      job: choice("log", "cosigner", "transport"),
      number: positive,
      key: digest,
      old_until: time,
      signature: binary(64),
      proof: binary(0, 2048),
      recorded_at: time,
    },
  ],
  7: ["declaration", { period: label, commitment: digest, recorded_at: time }],
  8: [
    "reveal",
    {
      declaration: digest,
      peer_declaration: digest,
      salt: digest,
      totals: list(declaredTotal, 1, 1000),
      recorded_at: time,
    },
  ],
  9: [
    "dispute",
    {
      period: label,
      meter: short,
      subject: short,
      amount: quantity,
      code: choice("quantity", "reference", "other"),
      reason,
      records: list(named, 0, NAMED_MAX),
      recorded_at: time,
    },
  ],
  10: [
    "answer",
    {
      dispute: digest,
      conceded: quantity,
      reason,
      records: list(named, 0, NAMED_MAX),
      recorded_at: time,
    },
  ],
  11: ["resolution", { dispute: digest, upheld: quantity, reason, recorded_at: time }],
  12: ["withdrawal", { dispute: digest, reason, recorded_at: time }],
  13: ["reminder", { index: amount, recorded_at: time }],
  14: [
    "lapse",
    { index: amount, start: attested, end: attested, peer_size: amount, recorded_at: time },
  ],
  15: [
    "disclosure",
    {
      session: digest,
      period: label,
      opened: amount,
      received: amount,
      digest,
      recorded_at: time,
    },
  ],
};

const KINDS = Array.from({ length: 16 }, (_, tag) =>
  tag in SCHEMAS ? { kind: SCHEMAS[tag][0], fields: Object.entries(SCHEMAS[tag][1]) } : null,
);

function readRecord(reader) {
  const begin = reader.at;
  const count = reader.array();
  const tag = count ? reader.integer() : -1n;
  const schema = tag >= 0n && tag < 16n ? KINDS[Number(tag)] : null;
  if (!schema) throw new FormatError(count ? `there is no kind ${tag}` : "an empty array");
  if (count !== schema.fields.length + 1) {
    throw new FormatError(
      `a ${schema.kind} of ${count} fields; it has ${schema.fields.length + 1}`,
    );
  }
  const record = { kind: schema.kind };
  for (const [name, read] of schema.fields) record[name] = read(reader);
  if (tag !== 2n) record.bytes = reader.bytes.subarray(begin, reader.at);
  return record;
}

function naming(what, read) {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new FormatError(`${what}: ${error.message}`, error.advice);
  }
}

// The record of these bytes; `FormatError` if they are not its one encoding.
export function decodeRecord(bytes) {
  return naming("not a record", () => {
    const reader = new Reader(bytes);
    const record = readRecord(reader);
    if (!reader.ended) throw new FormatError("bytes follow it");
    return record;
  });
}

// The records of a batch and the bytes of each.
export function decodeBatch(bytes) {
  return naming("not a batch of records", () => {
    const reader = new Reader(bytes);
    const count = reader.array32();
    const records = [];
    const parts = [];
    for (let place = 0; place < count; place += 1) {
      const begin = reader.at;
      records.push(readRecord(reader));
      parts.push(bytes.subarray(begin, reader.at));
    }
    if (!reader.ended) throw new FormatError("bytes follow it");
    return { records, parts };
  });
}

// How many records a batch holds, from its header alone.
export function batchCount(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(1);
}

// Refuse a text that is empty, over 128 bytes of UTF-8, or holds a control character.
export function checkText(value, what = "text") {
  const size = utf8(value).length;
  if (size < 1 || size > TEXT_BYTES_MAX) {
    throw new FormatError(`${what} of ${size} bytes; 1 to ${TEXT_BYTES_MAX} are allowed`);
  }
  if (CONTROL.test(value))
    throw new FormatError(`${what} ${quoted(value)} holds a control character`);
}

// Refuse a reason that holds a control character; it may be longer than other texts.
export function checkReason(value) {
  if (CONTROL.test(value))
    throw new FormatError(`reason ${quoted(value)} holds a control character`);
}

// Whether a text is ASCII without controls: then it needs no `checkText`.
export function isPlain(value) {
  for (let at = 0; at < value.length; at += 1) {
    const code = value.charCodeAt(at);
    if (code < 0x20 || code > 0x7e) return false;
  }
  return true;
}

// The rotation records of a bundle, the provider's log's and the consumer's, each with its index.
export function decodeKeys(bytes, name) {
  return naming(`${name} cannot be read`, () => {
    const reader = new Reader(bytes);
    const placed = (from) => {
      if (from.array() !== 2) throw new FormatError("expected an index and a record");
      return { index: from.integer(), record: from.binary(0, Infinity) };
    };
    if (reader.array() !== 2) throw new FormatError("expected two arrays");
    const sides = ROLES.map(() => list(placed, 0, Infinity)(reader));
    if (!reader.ended || !sides.some((side) => side.length)) {
      throw new FormatError("it is not in canonical form");
    }
    return sides;
  });
}
