// Which records may come next in one party's log: a function of the terms and of the log before,
// so two honest readers never disagree on it. Whether an id is new is looked up by `replay`.

import { EMPTY, sameBytes } from "./bytes.js";
import { checkClose } from "./checkpoint.js";
import { FormatError, InvalidRecord, quoted } from "./errors.js";
import { Keyring } from "./keyring.js";
import { MatterRules } from "./matters.js";
import { checkReason, checkText, isPlain } from "./records.js";

// What the records of a log say that later ones depend on.
export const NO_FACTS = { recorded_at: 0n, checkpoint: EMPTY, epoch: 0n, keys: [], lost_size: 0n };

// A delta by its meter and id, as a key of maps.
export function deltaKey(meter, id) {
  return `${meter}\0${id}`;
}

export class Rules {
  constructor(terms, role) {
    this.terms = terms;
    this.role = role;
    this.limits = new Map(
      terms.meters
        .filter((meter) => meter.source === role || meter.source === "both")
        .map((meter) => [meter.name, meter]),
    );
    this.ring = new Keyring(terms);
    this.matters = new MatterRules(terms, role);
  }

  // Refuse a meter that this party does not record, or a quantity out of its range.
  checkDelta(meter, quantity) {
    const limits = this.limits.get(meter);
    if (!limits) {
      throw new InvalidRecord(
        `the ${this.role} does not record the meter ${quoted(meter)} under these terms`,
        `Meters that it records: ${[...this.limits.keys()].join(", ") || "none"}`,
      );
    }
    if (quantity < limits.minimum || quantity > limits.maximum) {
      throw new InvalidRecord(
        `${quantity} is outside the range of ${meter}, ${limits.minimum} to ${limits.maximum}` +
          " (in the meter's smallest unit)",
      );
    }
  }

  // Check the records from index `first` on, which follow a log of these facts, and tell the past
  // of each; return the facts after them. `InvalidRecord` names the first that does not fit.
  async checkBatch(first, facts, records, past) {
    let now = facts;
    let last = facts.recorded_at;
    let index = first;
    try {
      for (const record of records) {
        if (record.kind === "terms") {
          if (index || !sameBytes(record.bytes, this.terms.bytes)) {
            refuse("terms stand only at the beginning of a log");
          }
        } else {
          if (record.kind === "delta") {
            this.checkDelta(record.meter, record.quantity);
            if (!isPlain(record.id)) checkText(record.id, "id or subject");
            if (!isPlain(record.subject)) checkText(record.subject, "id or subject");
          } else if (record.kind === "correction") {
            this.checkCorrection(record, past);
          } else {
            now = await this.checkRare(now, index, record, past);
          }
          if (!index) refuse("a log begins with its channel's terms");
          if (record.recorded_at < last) refuse("recorded_at goes back");
          last = record.recorded_at;
        }
        past.take(index, record);
        index += 1;
      }
    } catch (error) {
      if (!(error instanceof InvalidRecord || error instanceof FormatError)) throw error;
      throw new InvalidRecord(`record ${index}: ${error.message}`, error.advice);
    }
    return { ...now, recorded_at: last };
  }

  async checkRare(facts, index, record, past) {
    if (this.ring.announced !== facts.keys) this.ring = new Keyring(this.terms, facts.keys);
    const { ring } = this;
    switch (record.kind) {
      case "close":
        return {
          ...facts,
          checkpoint: await checkClose(this.role, ring, record, facts.checkpoint),
        };
      case "epoch": {
        this.checkEpoch(facts, index, record);
        const lost = record.lost_size > facts.lost_size ? record.lost_size : facts.lost_size;
        return { ...facts, epoch: record.number, lost_size: lost };
      }
      case "rotation":
        return { ...facts, keys: (await ring.after(BigInt(index), record)).announced };
      default:
        await this.matters.check(index, record, past, ring, facts.lost_size);
        return facts;
    }
  }

  checkEpoch(facts, index, record) {
    checkReason(record.reason);
    if (record.number !== facts.epoch + 1n) {
      refuse(`epoch ${record.number} does not follow epoch ${facts.epoch}`);
    }
    if (record.lost_root.length !== (record.lost_size ? 32 : 0)) {
      refuse("an epoch names a lost head whole or not at all");
    }
    if (record.lost_size && record.lost_size <= BigInt(index)) {
      refuse(`it says that size ${record.lost_size} was lost, but that is not after it`);
    }
  }

  checkCorrection(record, past) {
    checkText(record.id, "id");
    checkReason(record.reason);
    const known = past.effective(record.meter, record.id);
    const name = `${record.meter}/${record.id}`;
    if (!known) throw new InvalidRecord(`it corrects ${name}, which is not recorded`);
    if (known.quantity === null) throw new InvalidRecord(`it corrects ${name}, which is voided`);
    if (record.quantity !== null) this.checkDelta(record.meter, record.quantity);
  }
}

function refuse(message) {
  throw new InvalidRecord(message);
}
