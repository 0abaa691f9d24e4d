// Where disputes stand, and what they do to the balance: a function of both logs and nothing else.
// A dispute is in one log, what the other party says of it in the other, and each names the other's
// record by its digest. Time counts only as it is recorded.

import { hexOf } from "./bytes.js";
import { parseCheckpoint } from "./checkpoint.js";
import { attestedAt } from "./matters.js";
import { lastMoved } from "./moves.js";
import { parseNote } from "./notes.js";
import { sha256 } from "./sha256.js";

// What one log says, by what it is about.
function halfOf(matters) {
  const half = {
    disputes: new Map(), // by digest, the first of each
    first: new Map(), // answers by the dispute's digest
    newest: new Map(),
    resolutions: new Map(),
    withdrawn: new Set(),
    lapses: new Map(), // by the index of what lapsed, the first of each
    closes: [], // their indexes
    closedUs: [], // until when each of them and those before closed
  };
  const keep = (map, key, value) => {
    if (!map.has(key)) map.set(key, value);
  };
  for (const said of matters) {
    const { index, record } = said;
    switch (record.kind) {
      case "dispute":
        keep(half.disputes, hexOf(sha256(record.bytes)), said);
        break;
      case "answer":
        keep(half.first, hexOf(record.dispute), said);
        half.newest.set(hexOf(record.dispute), said);
        break;
      case "resolution":
        keep(half.resolutions, hexOf(record.dispute), []);
        half.resolutions.get(hexOf(record.dispute)).push(record);
        break;
      case "withdrawal":
        half.withdrawn.add(hexOf(record.dispute));
        break;
      case "lapse":
        keep(half.lapses, Number(record.index), record);
        break;
      case "close": {
        const { end_us } = parseCheckpoint(parseNote(record.checkpoint).text);
        const before = half.closedUs[half.closedUs.length - 1];
        half.closes.push(index);
        half.closedUs.push(before !== undefined && before > end_us ? before : end_us);
        break;
      }
      default:
    }
  }
  return half;
}

// The lapse of the checkpoint that bars disputes of a line, if there is one: that which closed its
// period, which ends then, or a newer one at which it last moved.
function acceptance(half, endUs, moved) {
  if (moved === null) return undefined;
  const closed = half.closedUs.findIndex((us) => us >= endUs);
  const place = Math.max(closed < 0 ? half.closedUs.length : closed, moved);
  return half.lapses.get(half.closes[place]);
}

// Every dispute of both logs, as {line, upheld, pending}: by how much less its line is payable, and
// how much of the amount is not decided.
function standings(folder, provider, consumer, moves) {
  const halves = { provider: halfOf(provider), consumer: halfOf(consumer) };
  const closings = Math.max(halves.provider.closes.length, halves.consumer.closes.length);
  const found = [];
  for (const [role, peer] of [
    ["provider", "consumer"],
    ["consumer", "provider"],
  ]) {
    for (const [digest, { index, record }] of halves[role].disputes) {
      const period = folder.calendar.parse(record.period);
      const line = folder.keys.of(period, record.meter, record.subject);
      const moved = lastMoved(moves.get(line) ?? [], closings);
      const accepted = acceptance(halves[peer], period.end_us, moved);
      const dispute = { index, record, digest };
      const upheld = upheldOf(folder.terms, dispute, accepted, halves[role], halves[peer], halves);
      found.push({ line, ...upheld });
    }
  }
  return found;
}

// How much of a dispute is upheld, and how much is pending, by the first state that it is in.
function upheldOf(terms, dispute, accepted, own, other, halves) {
  const { index, record, digest } = dispute;
  const { amount } = record;
  const answer = other.newest.get(digest);
  const conceded = partOf(answer ? answer.record.conceded : 0n, amount);
  const unanswered = own.lapses.get(index);
  const dropped = answer && other.lapses.get(answer.index);
  const agreed = agreedOf(
    halves.provider.resolutions.get(digest) ?? [],
    halves.consumer.resolutions.get(digest) ?? [],
  );
  const decided = (upheld) => ({ upheld, pending: 0n });
  if (agreed !== null) return decided(agreed); // resolved
  if (own.withdrawn.has(digest)) return decided(0n);
  if (conceded === amount) return decided(conceded);
  if (accepted && !inTime({ index, record }, accepted, terms.dispute_seconds)) {
    return decided(0n); // barred
  }
  if (unanswered && !inTime(other.first.get(digest), unanswered, terms.answer_seconds)) {
    return decided(amount); // upheld for want of an answer
  }
  if (dropped && !inTime(own.first.get(digest), dropped, terms.dispute_seconds)) {
    return decided(conceded); // lapsed
  }
  return { upheld: conceded, pending: amount - conceded }; // open, answered or contested
}

// The first amount that both name, in the order of when they say that they did; null if none.
function agreedOf(provider, consumer) {
  const said = [
    ...provider.map((record) => ({ record, side: 0 })),
    ...consumer.map((record) => ({ record, side: 1 })),
  ];
  const by = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  said.sort((a, b) => by(a.record.recorded_at, b.record.recorded_at) || a.side - b.side);
  const named = [new Set(), new Set()];
  for (const { record, side } of said) {
    if (named[1 - side].has(record.upheld)) return record.upheld;
    named[side].add(record.upheld);
  }
  return null;
}

// Whether a record of one log is there in time, against a lapse in the other: if the lapse's author
// had it already, or if it was recorded before the time was over.
function inTime(found, lapse, seconds) {
  if (!found) return false;
  const overUs = (attestedAt(lapse.start) + seconds) * 1_000_000n;
  return BigInt(found.index) < lapse.peer_size || found.record.recorded_at <= overUs;
}

// As much of an amount as a value is: of its sign, and no more than it.
function partOf(value, amount) {
  const low = amount > 0n ? 0n : amount;
  const high = amount > 0n ? amount : 0n;
  return value < low ? low : value > high ? high : value;
}

// The lines that a log's disputes are about, wherever they stand.
export function disputedLines(folder, matters) {
  return matters
    .filter(({ record }) => record.kind === "dispute")
    .map(({ record }) =>
      folder.keys.of(folder.calendar.parse(record.period), record.meter, record.subject),
    );
}

// What the disputes in both logs' matters do to lines at these sizes, by line: `upheld` is off its
// payable for good, `withheld` as long as it is disputed, `claimed` is what a party says is payable
// beyond what was counted.
export function adjustmentsAt(folder, matters, sizes, moves) {
  const found = new Map();
  const cut = matters.map((half, side) => half.filter(({ index }) => index < sizes[side]));
  if (!cut.flat().some(({ record }) => record.kind === "dispute")) return found;
  for (const { line, upheld, pending } of standings(folder, cut[0], cut[1], moves)) {
    if (!upheld && !pending) continue;
    const before = found.get(line) ?? { upheld: 0n, withheld: 0n, claimed: 0n };
    found.set(line, {
      upheld: before.upheld + upheld,
      withheld: before.withheld + (pending > 0n ? pending : 0n),
      claimed: before.claimed + (pending < 0n ? -pending : 0n),
    });
  }
  return found;
}
