// Which keys count for a party in a channel: those of the terms, and those that followed them by
// rotation, each signed for by the party's log key before it.

import { base64Of, hexOf, sameBytes, utf8 } from "./bytes.js";
import { InvalidRecord, ProofError } from "./errors.js";
import { ROLES } from "./records.js";
import { COSIGNER_KEY, NOTE_KEY, Vkey, origin, verifySignature } from "./signatures.js";
import { channelId } from "./terms.js";

const NUMBER_MAX = 1000n;
const CERTIFICATE_BYTES_MAX = 2048;

export class Keyring {
  // `announced` are rotations that hold, each with the `index` of its record, in order.
  constructor(terms, announced = []) {
    this.terms = terms;
    this.channelId = channelId(terms);
    this.announced = announced;
    this.keys = { provider: {}, consumer: {} }; // by role and job, the one in force last
    for (const role of ROLES) {
      this.keys[role].log = [{ number: 0n, key: terms[role].log_key }];
      this.keys[role].cosigner = [{ number: 0n, key: terms[role].cosigner_key }];
      this.keys[role].transport = []; // pairing exchanged it; terms do not name it
    }
    for (const { party, job, number, key } of announced)
      this.keys[party][job].push({ number, key });
  }

  name(role) {
    return this.terms[role].name;
  }

  // Every verifier key that a party's log ever had, the one in force first.
  logVkeys(role) {
    const name = origin(this.name(role), this.channelId);
    return this.keys[role].log.map(({ key }) => new Vkey(name, NOTE_KEY, key)).reverse();
  }

  // Every verifier key that a party's cosigner ever had, the one in force first.
  cosignerVkeys(role) {
    return this.keys[role].cosigner
      .map(({ key }) => new Vkey(this.name(role), COSIGNER_KEY, key))
      .reverse();
  }

  // The keyring that the first `size` records of the log give.
  at(size) {
    const known = this.announced.filter((one) => one.index < size);
    return known.length === this.announced.length ? this : new Keyring(this.terms, known);
  }

  // The keyring with the rotation at an index of the log; `InvalidRecord` if the party's log key in
  // force does not stand behind it.
  async after(index, record) {
    const { party, job, number, key } = record;
    const what = `key ${number} of ${this.name(party)}'s ${job}`;
    const before = this.keys[party][job];
    const expected = (before.length ? before[before.length - 1].number : 0n) + 1n;
    if (number !== expected || number > NUMBER_MAX) {
      throw new InvalidRecord(`it announces ${what}; the next one is number ${expected}`);
    }
    const all = ROLES.flatMap((role) => Object.values(this.keys[role]).flat());
    if (all.some((known) => sameBytes(known.key, key))) {
      throw new InvalidRecord(`${what} is a key that was in use before`);
    }
    const text = utf8(rotationText(this.terms, record));
    try {
      const logKey = this.keys[party].log[this.keys[party].log.length - 1].key;
      await verifySignature(logKey, text, record.signature, `${what}, by the log key before it`);
      if (job === "transport") {
        if (record.proof.length < 1 || record.proof.length > CERTIFICATE_BYTES_MAX) {
          throw new ProofError(`${what}: it comes with no certificate`);
        }
      } else {
        await verifySignature(key, text, record.proof, `${what}, by itself`);
      }
    } catch (error) {
      if (!(error instanceof ProofError)) throw error;
      throw new InvalidRecord(error.message);
    }
    return new Keyring(this.terms, [...this.announced, announcedOf(index, record)]);
  }
}

function announcedOf(index, { party, job, number, key, old_until }) {
  return { index, party, job, number, key, old_until };
}

// Whether two lists of rotations are the same.
export function sameAnnounced(a, b) {
  const names = ["index", "party", "job", "number", "old_until"];
  return (
    a.length === b.length &&
    a.every(
      (one, at) =>
        names.every((name) => one[name] === b[at][name]) && sameBytes(one.key, b[at].key),
    )
  );
}

// A time in UTC to the second, of seconds since 1970 (a BigInt) that a calendar has.
export function isoTime(seconds) {
  return `${new Date(Number(seconds) * 1000).toISOString().slice(0, 19)}Z`;
}

// What the old log key and the new key sign.
function rotationText(terms, record) {
  const seconds = record.old_until / 1_000_000n;
  const fraction = String(record.old_until % 1_000_000n).padStart(6, "0");
  return (
    "tallystick key v1\n" +
    `channel ${hexOf(channelId(terms))}\n` +
    `party ${terms[record.party].name}\n` +
    `job ${record.job}\n` +
    `number ${record.number}\n` +
    `key ${base64Of(record.key)}\n` +
    `old until ${isoTime(seconds).slice(0, 19)}.${fraction}Z\n`
  );
}
