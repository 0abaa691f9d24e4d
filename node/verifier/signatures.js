// Ed25519 signatures, and verifier keys as C2SP shows them: name+hash+base64(type ‖ key).

import { base64Of, bytesOfBase64, bytesOfHex, compareBytes, hexOf, utf8 } from "./bytes.js";
import { FormatError, InputError, ProofError, quoted } from "./errors.js";
import { sha256 } from "./sha256.js";

export const NOTE_KEY = 0x01; // a log's key (c2sp.org/signed-note)
export const COSIGNER_KEY = 0x04; // a cosigner's key (c2sp.org/tlog-cosignature)

const PARTY_NAME =
  /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/;

export function checkPartyName(name) {
  if (name.length > 253 || !PARTY_NAME.test(name)) {
    throw new InputError(
      `the party name ${quoted(name)} is not like a domain`,
      "Use lower-case letters, digits, hyphens and dots, as in acme.example",
    );
  }
}

// The origin of a party's log in a channel, which is also its log key's name.
export function origin(party, channelId) {
  return `${party}/${hexOf(channelId)}`;
}

export class Vkey {
  constructor(name, kind, key) {
    this.name = name;
    this.kind = kind;
    this.key = key;
    this.id = sha256(utf8(name), Uint8Array.of(0x0a, kind), key).subarray(0, 4);
  }

  toString() {
    return `${this.name}+${hexOf(this.id)}+${base64Of(Uint8Array.of(this.kind, ...this.key))}`;
  }
}

// The verifier key that a text shows; `FormatError` unless it is exactly its own text.
export function parseVkey(text) {
  const refuse = (why) => new FormatError(`not a verifier key: ${quoted(text)}`, why);
  const first = text.indexOf("+");
  const second = text.indexOf("+", first + 1);
  if (first < 0 || second < 0) throw refuse("It reads name+hash+base64");
  let material;
  try {
    material = bytesOfBase64(text.slice(second + 1));
  } catch {
    throw refuse("It reads name+hash+base64");
  }
  const name = text.slice(0, first);
  if (material.length === 33 && name && !name.includes(" ")) {
    const vkey = new Vkey(name, material[0], material.subarray(1));
    if (String(vkey) === text) return vkey;
  }
  throw refuse("Its parts do not belong together");
}

// The field's prime, little-endian, and what of its numbers are the y of a point of small order.
// A key or a first half of a signature with such a y holds for messages that nobody signed; the
// node's library refuses them, while browsers differ.
const PRIME = Uint8Array.from({ length: 32 }, (_, at) =>
  at === 0 ? 0xed : at === 31 ? 0x7f : 0xff,
);
const SMALL_ORDER = [
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

function isSound(point, canonical) {
  const y = Uint8Array.from(point);
  y[31] &= 0x7f;
  if (SMALL_ORDER.includes(hexOf(y))) return false;
  return !canonical || compareBytes(y.toReversed(), PRIME.toReversed()) < 0;
}

const imported = new Map();

function importedKey(key) {
  const name = hexOf(key);
  if (!imported.has(name)) {
    if (imported.size >= 4096) imported.clear();
    imported.set(
      name,
      crypto.subtle.importKey("raw", Uint8Array.from(key), "Ed25519", false, ["verify"]),
    );
  }
  return imported.get(name);
}

// Return if the signature holds; `ProofError`, naming `what`, if it does not.
export async function verifySignature(key, message, signature, what) {
  let holds = false;
  if (signature.length === 64 && isSound(key, true) && isSound(signature.subarray(0, 32), false)) {
    try {
      const verifier = await importedKey(key);
      const sent = [Uint8Array.from(signature), Uint8Array.from(message)];
      holds = await crypto.subtle.verify("Ed25519", verifier, ...sent);
    } catch {
      holds = false; // the bytes are no key: such a key signed nothing
    }
  }
  if (!holds) throw new ProofError(`${what}: the signature does not hold`);
}

// The public key and signature of the first test of RFC 8032, over no bytes.
const KNOWN_KEY = bytesOfHex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
const KNOWN_SIGNATURE = bytesOfHex(
  "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155" +
    "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
);

// Whether this browser verifies Ed25519, tried with the answer that is known.
export async function browserVerifies() {
  const changed = Uint8Array.from(KNOWN_SIGNATURE);
  changed[32] ^= 1;
  return (await holdsForNothing(KNOWN_SIGNATURE)) && !(await holdsForNothing(changed));
}

async function holdsForNothing(signature) {
  try {
    await verifySignature(KNOWN_KEY, new Uint8Array(0), signature, "the test");
    return true;
  } catch {
    return false;
  }
}
