// Derive: from the records of both logs to balance lines, in integers only. A `Book` holds one
// log's running aggregates, a tally for each line (charge period, meter, subject). When a period is
// closed, what its lines held then is *billed* and never changes; what arrives later for it shows
// up as total less billed, in the first open period, as a line marked late.

import { Calendar } from "./periods.js";
import { formatQuantity } from "./quantities.js";
import { compareLines } from "./statement.js";
import { lineScale, unitOf } from "./terms.js";

// The lines that were met: one object for each, so that they can be keys of maps.
export class LineKeys {
  constructor() {
    this.known = new Map();
  }

  of(period, meter, subject) {
    const name = `${period.label}\0${meter}\0${subject}`;
    let key = this.known.get(name);
    if (!key) {
      key = { start_us: period.start_us, meter, subject };
      this.known.set(name, key);
    }
    return key;
  }
}

// The terms laid out to put deltas into lines.
export class Folder {
  constructor(terms) {
    this.terms = terms;
    this.calendar = new Calendar(terms.calendar, terms.time_zone);
    this.meters = new Map(terms.meters.map((meter) => [meter.name, meter]));
    this.keys = new LineKeys();
  }

  keyOf(delta) {
    return this.keys.of(this.calendar.periodOf(delta.occurred_at), delta.meter, delta.subject);
  }

  aggregate(meter) {
    return this.meters.get(meter).aggregate;
  }
}

// One log's tallies, by line.
export class Book {
  constructor(folder) {
    this.folder = folder;
    this.tallies = new Map();
  }

  tally(key) {
    let found = this.tallies.get(key);
    if (!found) {
      found = { total: 0n, deltas: 0n, billed: 0n, billedDeltas: 0n };
      this.tallies.set(key, found);
    }
    return found;
  }

  add(key, delta) {
    const tally = this.tally(key);
    switch (this.folder.aggregate(key.meter)) {
      case "sum":
        tally.total += delta.quantity;
        break;
      case "count":
        tally.total += 1n;
        break;
      default:
        if (!tally.deltas || delta.quantity > tally.total) tally.total = delta.quantity;
    }
    tally.deltas += 1n;
  }

  // Replace a delta's quantity, or void it (null). `highest` finds a `max` line's highest quantity
  // and count anew, correction included.
  correct(key, before, after, highest) {
    const tally = this.tally(key);
    const voided = after === null ? 1n : 0n;
    switch (this.folder.aggregate(key.meter)) {
      case "sum":
        tally.total += (after ?? 0n) - before;
        tally.deltas -= voided;
        break;
      case "count":
        tally.total -= voided;
        tally.deltas -= voided;
        break;
      default:
        [tally.total, tally.deltas] = highest(key);
    }
  }

  // Note as billed what the lines of charge periods that begin before `endUs` hold now.
  settle(endUs) {
    for (const [key, tally] of this.tallies) {
      if (key.start_us < endUs) {
        tally.billed = tally.total;
        tally.billedDeltas = tally.deltas;
      }
    }
  }
}

const least = (a, b) => (a < b ? a : b);
const most = (a, b) => (a > b ? a : b);

// What is payable and what is disputed of what was counted. Nothing is taken off but what was
// counted: what is upheld first, then what is withheld.
export function applyDisputes(counted, by) {
  const payable = counted - least(by.upheld, most(counted, 0n));
  const withheld = least(by.withheld, most(payable, 0n));
  return [payable - withheld, withheld + by.claimed];
}

const NOTHING = { total: 0n, deltas: 0n };
const now = (tally) => (tally ? { total: tally.total, deltas: tally.deltas } : NOTHING);
const billed = (tally) => (tally ? { total: tally.billed, deltas: tally.billedDeltas } : NOTHING);
const less = (a, b) => ({ total: a.total - b.total, deltas: a.deltas - b.deltas });
const isNothing = (side) => !side.total && !side.deltas;

// All lines of open periods, sorted; what closed periods got since is marked late. `sides` are the
// provider's log's tallies by line, and the consumer's; `closedUntilUs` is the end of the newest
// closed period, null before the first. `disputed` is what disputes do to lines now, `disputedThen`
// what they did at the newest checkpoint's heads.
export async function deriveLines(folder, sides, closedUntilUs, disputed, disputedThen, pace) {
  const lines = [];
  const maps = [...sides, disputed, disputedThen];
  const keys = new Set(maps.flatMap((one) => [...one.keys()]));
  let done = 0;
  for (const key of keys) {
    done += 1;
    if (done % 128 === 0) await pace.step("deriving the lines", done / keys.size);
    const late = closedUntilUs !== null && key.start_us < closedUntilUs;
    const present = sides.map((side) => now(side.get(key)));
    const before = sides.map((side) => (late ? billed(side.get(key)) : NOTHING));
    const [payable, open] = payableOf(folder, key, present, disputed);
    if (late) {
      const [then] = payableOf(folder, key, before, disputedThen);
      payable.total -= then.total;
      payable.deltas -= then.deltas;
    }
    const shown = present.map((side, at) => less(side, before[at]));
    if (!shown.every(isNothing) || payable.total || open) {
      lines.push(lineOf(folder, key, late ? closedUntilUs : null, shown, payable, open));
    }
  }
  return lines.sort(compareLines);
}

// What is payable of both sides' totals, after disputes; and what is disputed of it.
function payableOf(folder, key, [provider, consumer], disputed) {
  const { payable } = folder.meters.get(key.meter);
  let counted = payable === "consumer" ? consumer : provider;
  if (payable === "minimum" && consumer.total < provider.total) counted = consumer;
  const by = disputed.get(key);
  if (!by) return [{ ...counted }, 0n];
  const [total, open] = applyDisputes(counted.total, by);
  return [{ total, deltas: counted.deltas }, open];
}

function lineOf(folder, key, lateAfterUs, [provider, consumer], payable, disputed) {
  const meter = folder.meters.get(key.meter);
  const scale = lineScale(meter);
  const charge = folder.calendar.periodOf(key.start_us).label;
  const late = lateAfterUs !== null;
  const difference = provider.total - consumer.total;
  const pending = meter.source !== "both" ? 0n : most(difference, -difference);
  return {
    period: late ? folder.calendar.periodOf(lateAfterUs).label : charge,
    late_for: late ? charge : null,
    meter: meter.name,
    subject: key.subject,
    unit: unitOf(meter),
    provider: meter.source === "consumer" ? null : formatQuantity(provider.total, scale),
    consumer: meter.source === "provider" ? null : formatQuantity(consumer.total, scale),
    payable: formatQuantity(payable.total, scale),
    disputed: formatQuantity(disputed, scale),
    pending: formatQuantity(pending, scale),
    deltas: most(payable.deltas, 0n),
  };
}
