// Which matters (what parties say about usage that is recorded) may come next in a log: a function
// of the terms and of the log before.

import { bigOf, compareText, hexOf } from "./bytes.js";
import { checkReveal } from "./declarations.js";
import { FormatError, InvalidRecord, PeriodError, ProofError, quoted } from "./errors.js";
import { verifyHeadCosignature } from "./heads.js";
import { Calendar } from "./periods.js";
import { parseTotal } from "./quantities.js";
import { checkReason, checkText, other } from "./records.js";
import { sha256 } from "./sha256.js";
import { origin } from "./signatures.js";
import { lineScales } from "./terms.js";

const NOT_MATTERS = new Set(["terms", "delta", "correction", "epoch", "rotation"]);

// The closes and matters of a log, so far.
export class Matters {
  constructor() {
    this.said = []; // each as {index, record}
    this.at = new Map(); // what a later record may name, by index
    this.named = new Map(); // the first declaration or dispute of a digest
    this.ended = new Set(); // indexes of what was opened, or lapsed
  }

  // Take a valid record, of any kind, if it is a close or a matter.
  note(index, record) {
    const { kind } = record;
    if (NOT_MATTERS.has(kind)) return;
    this.said.push({ index, record });
    if (kind === "close" || kind === "answer") this.at.set(index, record);
    if (kind === "declaration" || kind === "dispute") {
      this.at.set(index, record);
      const digest = hexOf(sha256(record.bytes));
      if (!this.named.has(digest)) this.named.set(digest, index);
    }
    if (kind === "reveal") this.ended.add(this.indexOf(record.declaration));
    if (kind === "lapse") this.ended.add(Number(record.index));
  }

  matter(index) {
    return this.at.get(index);
  }

  indexOf(digest) {
    return this.named.get(hexOf(digest));
  }

  // Where the dispute with this digest is in the log itself; undefined if it is not there.
  disputeNamed(digest) {
    const at = this.indexOf(digest);
    return at !== undefined && this.matter(at).kind === "dispute" ? at : undefined;
  }
}

// How long the peer has to contradict a record; undefined if none of that kind waits for it.
function waitingSeconds(terms, record) {
  if (record?.kind === "close" || record?.kind === "answer") return terms.dispute_seconds;
  return record?.kind === "dispute" ? terms.answer_seconds : undefined;
}

// When the peer co-signed a head, by the co-signature (POSIX seconds).
export function attestedAt(attested) {
  return bigOf(attested.cosignature.subarray(0, 8));
}

export class MatterRules {
  constructor(terms, role) {
    this.terms = terms;
    this.role = role;
    this.calendar = new Calendar(terms.calendar, terms.time_zone);
    this.scales = lineScales(terms);
  }

  // Refuse (`InvalidRecord`) a matter that may not stand at an index of the log. `ring` has the
  // keys that the log knows by now; `lostSize` is the largest head of it that an epoch says was
  // lost.
  async check(index, record, past, ring, lostSize) {
    switch (record.kind) {
      case "declaration":
      case "disclosure":
        this.checkPeriod(record.period);
        break;
      case "reveal":
        this.checkReveal(record, past);
        break;
      case "dispute":
        this.checkDispute(index, record);
        break;
      case "answer":
        checkReason(record.reason);
        this.checkNamed(index, record.records);
        if (record.conceded && past.disputeNamed(record.dispute) !== undefined) {
          refuse("it concedes a part of a dispute to its own party");
        }
        break;
      case "resolution":
        checkReason(record.reason);
        break;
      case "withdrawal":
        checkReason(record.reason);
        if (past.disputeNamed(record.dispute) === undefined) {
          refuse("it withdraws a dispute that is not in this log");
        }
        break;
      case "reminder":
        this.waiting(index, record.index, past);
        break;
      default:
        await this.checkLapse(index, record, past, ring, lostSize);
    }
  }

  checkPeriod(label) {
    try {
      this.calendar.parse(label);
    } catch (error) {
      if (!(error instanceof PeriodError)) throw error;
      throw new InvalidRecord(error.message, error.advice);
    }
  }

  checkReveal(record, past) {
    const { totals } = record;
    if (totals.some((one, at) => at && compareText(totals[at - 1].meter, one.meter) >= 0)) {
      refuse("the declared meters are not sorted, or one is there twice");
    }
    for (const one of totals) {
      if (!this.scales.has(one.meter)) {
        refuse(`it declares a total of ${quoted(one.meter)}, which the terms do not have`);
      }
      parseTotal(one.total, this.scales.get(one.meter));
    }
    const at = past.indexOf(record.declaration);
    const declaration = at === undefined ? undefined : past.matter(at);
    if (declaration?.kind !== "declaration")
      refuse("it opens a declaration that is not in this log");
    if (past.ended.has(at)) refuse(`the declaration at ${at} is open already`);
    checkReveal(this.terms, this.role, declaration, record);
  }

  checkDispute(index, record) {
    this.checkPeriod(record.period);
    checkText(record.subject, "subject");
    checkReason(record.reason);
    if (!this.scales.has(record.meter)) {
      refuse(`it disputes the meter ${quoted(record.meter)}, which the terms do not have`);
    }
    if (!record.amount) refuse("it disputes an amount of nothing");
    this.checkNamed(index, record.records);
  }

  checkNamed(index, records) {
    for (const named of records) {
      if (named.role === this.role && named.index >= BigInt(index)) {
        refuse(`it names record ${named.index} of this log, which is not before it`);
      }
    }
  }

  // The clock of the record at an index of the log that waits for the peer, in seconds.
  waiting(index, at, past) {
    const record = at < BigInt(index) ? past.matter(Number(at)) : undefined;
    const seconds = waitingSeconds(this.terms, record);
    if (seconds === undefined) refuse(`record ${at} of this log is none that waits for the peer`);
    if (record.kind === "answer" && past.disputeNamed(record.dispute) !== undefined) {
      refuse(`record ${at} insists on this party's own dispute, and waits for nothing`);
    }
    return seconds;
  }

  async checkLapse(index, record, past, ring, lostSize) {
    const { start, end } = record;
    const seconds = this.waiting(index, record.index, past);
    if (past.ended.has(Number(record.index))) refuse(`record ${record.index} lapsed before`);
    if (!(record.index < start.size && start.size <= end.size && end.size <= BigInt(index))) {
      refuse(`its heads are not between record ${record.index} and itself, in order`);
    }
    // What was lost may have had other records there, co-signed before these were written.
    if (start.size <= lostSize) {
      refuse(`it relies on a head of a size up to ${lostSize}, which was lost once`);
    }
    const given = attestedAt(end) - attestedAt(start);
    if (given < seconds) {
      refuse(`the peer co-signed its heads ${given} seconds apart; ${seconds} are to pass`);
    }
    for (const attested of [start, end]) await this.checkAttested(attested, ring.at(attested.size));
  }

  // Refuse a head of this log that the peer did not co-sign by its key in force there.
  async checkAttested(attested, ring) {
    const peer = other(this.role);
    const cosigners = ring.keys[peer].cosigner;
    const head = {
      origin: origin(this.terms[this.role].name, ring.channelId),
      size: attested.size,
      root: attested.root,
    };
    try {
      const { key } = cosigners[cosigners.length - 1];
      await verifyHeadCosignature(head, this.terms[peer].name, key, attested.cosignature);
    } catch (error) {
      if (!(error instanceof FormatError || error instanceof ProofError)) throw error;
      throw new InvalidRecord(`its head ${attested.size}: ${error.message}`);
    }
  }
}

function refuse(message) {
  throw new InvalidRecord(message);
}
