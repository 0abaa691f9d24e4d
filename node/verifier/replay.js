// Replay: from the records of both logs to balance lines, with nothing kept from before. Each log
// is read twice as a stream of batches: once to examine it (validity, new ids, chain and tree),
// once to derive from it.

import { hexOf, sameBytes } from "./bytes.js";
import { parseCheckpoint } from "./checkpoint.js";
import { Book, Folder, deriveLines } from "./derive.js";
import { adjustmentsAt, disputedLines } from "./disputes.js";
import { FormatError, InvalidRecord, ProofError } from "./errors.js";
import { NO_FACTS, Rules, deltaKey } from "./log.js";
import { Matters } from "./matters.js";
import { Frontier, leafHash } from "./merkle.js";
import { findMoves, movesUntil, unbilled } from "./moves.js";
import { parseNote } from "./notes.js";
import { ROLES, decodeBatch } from "./records.js";

const PART = 512; // records that are hashed before the page may breathe

// The batches of a log, each as {first, records, parts}: the index of its first record, the records
// and their bytes.
async function* segments(log) {
  let first = 0;
  for await (const batch of log.batches()) {
    let decoded;
    try {
      decoded = decodeBatch(batch);
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      throw new FormatError(`batch from record ${first} on: ${error.message}`);
    }
    yield { first, ...decoded };
    first += decoded.records.length;
  }
}

// What the log corrects. Found beforehand, so that only those deltas need to be kept.
async function correctedKeys(log, pace) {
  const keys = new Set();
  for await (const batch of log.batches()) {
    await pace.step("looking for corrections", 0);
    if (!mayCorrect(batch)) continue;
    let decoded;
    try {
      decoded = decodeBatch(batch);
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      break; // the pass that follows says where
    }
    for (const record of decoded.records) {
      if (record.kind === "correction") keys.add(deltaKey(record.meter, record.id));
    }
  }
  return keys;
}

// Whether a batch holds the bytes that every correction begins with: array of 6, kind 3.
function mayCorrect(batch) {
  for (let at = batch.indexOf(0x96); at >= 0; at = batch.indexOf(0x96, at + 1)) {
    if (batch[at + 1] === 0x03) return true;
  }
  return false;
}

// The matters of a log, and its deltas that are corrected at some time, with their quantities so
// far.
class Past extends Matters {
  constructor(keys) {
    super();
    this.keys = keys;
    this.current = new Map(); // {delta, quantity}, by `deltaKey`
  }

  effective(meter, id) {
    return this.current.get(deltaKey(meter, id));
  }

  take(index, record) {
    if (record.kind === "delta") this.put(record);
    else if (record.kind === "correction") this.replace(record);
    else this.note(index, record);
  }

  // Note a new delta, if it is corrected at some time.
  put(delta) {
    if (!this.keys.size) return;
    const key = deltaKey(delta.meter, delta.id);
    if (this.keys.has(key)) this.current.set(key, { delta, quantity: delta.quantity });
  }

  // Note what a valid correction says; return its delta and the quantity until now.
  replace(correction) {
    const key = deltaKey(correction.meter, correction.id);
    const { delta, quantity } = this.current.get(key);
    this.current.set(key, { delta, quantity: correction.quantity });
    return { delta, before: quantity };
  }
}

// Whether all (meter, id) are new. Only a number of 53 bits is kept for each; where two are alike,
// the ids themselves are looked at, in another pass.
class Ids {
  constructor(count) {
    this.hashes = new Float64Array(count);
    this.size = 0;
  }

  note(record) {
    this.hashes[this.size] = shortHash(deltaKey(record.meter, record.id));
    this.size += 1;
  }

  async fault(log, pace) {
    const hashes = this.hashes.subarray(0, this.size).sort();
    const suspects = new Set();
    for (let at = 1; at < hashes.length; at += 1) {
      if (hashes[at] === hashes[at - 1]) suspects.add(hashes[at]);
    }
    if (!suspects.size) return null;
    const seen = new Map();
    for await (const { first, records } of segments(log)) {
      await pace.step("looking for ids that come twice", 0);
      for (const [place, record] of records.entries()) {
        if (record.kind !== "delta") continue;
        const key = deltaKey(record.meter, record.id);
        if (!suspects.has(shortHash(key))) continue;
        const index = first + place;
        if (seen.has(key)) {
          return new InvalidRecord(
            `record ${index}: ${record.meter}/${record.id} was recorded before,` +
              ` as record ${seen.get(key)}`,
          );
        }
        seen.set(key, index);
      }
    }
    return null;
  }
}

// A number of 53 bits that equal texts share, and others hardly ever: two multiplications a letter.
function shortHash(text) {
  let a = 0xdeadbeef;
  let b = 0x41c6ce57;
  for (let at = 0; at < text.length; at += 1) {
    const unit = text.charCodeAt(at);
    a = Math.imul(a ^ unit, 2654435761);
    b = Math.imul(b ^ unit, 1597334677);
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909);
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909);
  return 4294967296 * (b & 0x1fffff) + (a >>> 0);
}

// What one pass over a log finds: its root, its facts, what it corrects, its closes and matters,
// and the first thing that makes it invalid, if any; then hashing goes on all the same.
export async function surveyLog(terms, role, channelId, log, pace) {
  const rules = new Rules(terms, role);
  const corrected = await correctedKeys(log, pace);
  const past = new Past(corrected);
  const ids = new Ids(log.count);
  const frontier = new Frontier();
  let leaf = channelId;
  let facts = NO_FACTS;
  let fault = null;
  for await (const { first, records, parts } of segments(log)) {
    if (!fault) {
      try {
        facts = await rules.checkBatch(first, facts, records, past);
        for (const record of records) if (record.kind === "delta") ids.note(record);
      } catch (error) {
        if (!(error instanceof InvalidRecord)) throw error;
        fault = error;
      }
    }
    for (let place = 0; place < parts.length; place += 1) {
      leaf = leafHash(leaf, parts[place]);
      frontier.append(leaf);
      if (place % PART === 0)
        await pace.step(`reading the ${role}'s records`, (first + place) / log.count);
    }
  }
  fault ??= await ids.fault(log, pace);
  const matters = past.said;
  const closes = matters
    .filter(({ record }) => record.kind === "close")
    .map(({ record }) => parseCheckpoint(parseNote(record.checkpoint).text));
  return { root: frontier.root(), facts, corrected, closes, matters, fault };
}

// All balance lines of open periods at both logs' ends, late ones included, sorted. The logs must
// have been examined, and `found` be what was found in each; `closes` are the checkpoints signed
// before, in order.
export async function replay(terms, logs, closes, found, pace) {
  const folder = new Folder(terms);
  const disputed = new Set(found.flatMap((one) => disputedLines(folder, one.matters)));
  const sides = [];
  const left = []; // of each log, what was not billed at each stop
  for (const [side, log] of logs.entries()) {
    const stops = closes.map((close) => ({
      size: Number(close.heads[side].size),
      endUs: close.end_us,
    }));
    left.push([]);
    const note = (tallies) => left[side].push(unbilled(disputed, tallies));
    sides.push(await replayLog(folder, log, stops, found[side].corrected, note, ROLES[side], pace));
    note(sides[side]);
  }
  const moves = findMoves(...left);
  const matters = found.map((one) => one.matters);
  const sizes = logs.map((log) => log.count);
  const now = adjustmentsAt(folder, matters, sizes, moves);
  if (!closes.length) return deriveLines(folder, sides, null, now, new Map(), pace);
  const newest = closes[closes.length - 1];
  const before = movesUntil(moves, closes.length - 1);
  const then = adjustmentsAt(
    folder,
    matters,
    newest.heads.map((head) => head.size),
    before,
  );
  return deriveLines(folder, sides, newest.end_us, now, then, pace);
}

// One log's tallies at its end; at each stop {size, endUs} the lines before its end settle.
// `atStop` sees the tallies just before that.
async function replayLog(folder, log, stops, corrected, atStop, role, pace) {
  const book = new Book(folder);
  const past = new Past(corrected);
  const peaks = new Peaks(folder, corrected);
  const pending = [...stops];
  const settle = (size) => {
    while (pending.length && pending[0].size === size) {
      const { endUs } = pending.shift();
      atStop(book.tallies);
      book.settle(endUs);
    }
  };
  settle(0);
  for await (const { first, records } of segments(log)) {
    for (let place = 0; place < records.length; place += 1) {
      const record = records[place];
      if (record.kind === "delta") {
        book.add(folder.keyOf(record), record);
        if (corrected.size) {
          past.put(record);
          peaks.note(record);
        }
      } else if (record.kind === "correction") {
        const { delta, before } = past.replace(record);
        const key = folder.keyOf(delta);
        peaks.replace(key, record);
        book.correct(key, before, record.quantity, (of) => peaks.highest(of));
      }
      settle(first + place + 1);
      if (place % PART === 0) {
        await pace.step(`adding up the ${role}'s records`, (first + place) / log.count);
      }
    }
  }
  return book.tallies;
}

// Each quantity of `max` meters that have corrections: their highest may be voided.
class Peaks {
  constructor(folder, corrected) {
    this.folder = folder;
    const meters = [...corrected].map((key) => key.slice(0, key.indexOf("\0")));
    this.meters = new Set(meters.filter((meter) => folder.aggregate(meter) === "max"));
    this.lines = new Map(); // quantities by id, by line
  }

  note(delta) {
    if (!this.meters.has(delta.meter)) return;
    const key = this.folder.keyOf(delta);
    if (!this.lines.has(key)) this.lines.set(key, new Map());
    this.lines.get(key).set(delta.id, delta.quantity);
  }

  replace(key, correction) {
    const line = this.lines.get(key);
    if (!line) return;
    if (correction.quantity === null) line.delete(correction.id);
    else line.set(correction.id, correction.quantity);
  }

  // The highest quantity of a line, and how many there are.
  highest(key) {
    const line = this.lines.get(key);
    let highest = null;
    for (const quantity of line.values())
      if (highest === null || quantity > highest) highest = quantity;
    return [highest ?? 0n, BigInt(line.size)];
  }
}

// The checkpoints that either log says were signed, in order, each once. Within a log each follows
// the one before, so one log's list must begin with the other's; `ProofError` if it does not, if
// one closes what was closed before, or if it counts records that the logs do not have.
export function mergeCloses(found, sizes) {
  const [shorter, longer] = found.map((one) => one.closes).sort((a, b) => a.length - b.length);
  shorter.forEach((left, at) => {
    const right = longer[at];
    if (!sameBytes(left.digest, right.digest)) {
      throw new ProofError(
        `the logs hold two checkpoints that follow the same one: ${left.period},` +
          ` ${hexOf(left.digest).slice(0, 16)}, and ${right.period},` +
          ` ${hexOf(right.digest).slice(0, 16)}`,
      );
    }
  });
  let before = [0n, 0n];
  let closedUntilUs = 0n;
  for (const close of longer) {
    const counted = close.heads.map((head) => head.size);
    if (counted[0] < before[0] || counted[1] < before[1] || close.end_us <= closedUntilUs) {
      throw new ProofError(`the checkpoint of ${close.period} goes back behind the one before it`);
    }
    before = counted;
    closedUntilUs = close.end_us;
  }
  if (before[0] > sizes[0] || before[1] > sizes[1]) {
    throw new ProofError(
      `the checkpoint of ${longer[longer.length - 1].period} counts ${before[0]} and ${before[1]}` +
        ` records, but the logs have ${sizes[0]} and ${sizes[1]}`,
    );
  }
  return longer;
}
