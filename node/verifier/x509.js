// The certificate of a timestamp authority: the few parts of X.509 that its tokens need. Who
// vouches for a certificate is not judged here.

import { hexOf, joined, sameBytes } from "./bytes.js";
import {
  BIT_STRING,
  BOOLEAN,
  GENERAL_TIME,
  IA5,
  INTEGER,
  OCTET_STRING,
  OID,
  PRINTABLE,
  Reader,
  SEQUENCE,
  SET,
  UTC_TIME,
  UTF8,
  expect,
  instantOf,
  oidOf,
  readValue,
  readValues,
} from "./der.js";
import { FormatError, ProofError } from "./errors.js";
import { sha256 } from "./sha256.js";

const CERTIFICATE = "a certificate";
const RSA_BITS_MIN = 2048;
export const TRUE = Uint8Array.of(1, 1, 0xff);

const VERSION = 0xa0;
const ISSUER_ID = 0x81;
const SUBJECT_ID = 0x82;
const EXTENSIONS = 0xa3;
const COMMON_NAME = "2.5.4.3";
const KEY_PURPOSES = "2.5.29.37";
const TIME_STAMPING = "1.3.6.1.5.5.7.3.8";
const RSA = "1.2.840.113549.1.1.1";
const EC = "1.2.840.10045.2.1";

// The hashes that may be named, as the browser calls them.
export const HASHES = new Map([
  ["2.16.840.1.101.3.4.2.1", "SHA-256"],
  ["2.16.840.1.101.3.4.2.2", "SHA-384"],
  ["2.16.840.1.101.3.4.2.3", "SHA-512"],
]);
// How a signature is named: by the kind of its key, and most say the hash once more.
const SIGNATURES = new Map([
  [RSA, [RSA, ""]],
  ["1.2.840.113549.1.1.11", [RSA, "SHA-256"]],
  ["1.2.840.113549.1.1.12", [RSA, "SHA-384"]],
  ["1.2.840.113549.1.1.13", [RSA, "SHA-512"]],
  ["1.2.840.10045.4.3.2", [EC, "SHA-256"]],
  ["1.2.840.10045.4.3.3", [EC, "SHA-384"]],
  ["1.2.840.10045.4.3.4", [EC, "SHA-512"]],
]);
// Curves, as the browser calls them, and how long their numbers are.
const CURVES = new Map([
  ["1.2.840.10045.3.1.7", ["P-256", 32]],
  ["1.3.132.0.34", ["P-384", 48]],
  ["1.3.132.0.35", ["P-521", 66]],
]);

// The certificate of these bytes; nothing is verified. `name` is its subject's common name where
// that is plain text, `stamps` says that it is for timestamps alone, and that this matters.
export function parseCertificate(raw) {
  const whole = new Reader(expect(readValue(raw), SEQUENCE, CERTIFICATE), CERTIFICATE);
  const body = new Reader(whole.take(SEQUENCE), CERTIFICATE);
  whole.take(SEQUENCE);
  whole.take(BIT_STRING);
  whole.end();
  body.maybe(VERSION);
  const serial = body.take(INTEGER);
  body.take(SEQUENCE);
  const issuer = body.take(SEQUENCE);
  const validity = new Reader(body.take(SEQUENCE), "a certificate's validity");
  const begins = validity.take(UTC_TIME, GENERAL_TIME);
  const ends = validity.take(UTC_TIME, GENERAL_TIME);
  validity.end();
  const subject = body.take(SEQUENCE);
  const publicKey = body.take(SEQUENCE);
  body.maybe(ISSUER_ID);
  body.maybe(SUBJECT_ID);
  const extensions = body.maybe(EXTENSIONS);
  body.end();
  return {
    raw,
    issuer: issuer.raw,
    serial: serial.raw,
    name: nameOf(subject),
    begins_us: instantOf(begins),
    ends_us: instantOf(ends),
    publicKey: publicKey.raw,
    stamps: extensions !== null && stampsAlone(extensions),
    digest: hexOf(sha256(raw)),
  };
}

function nameOf(subject) {
  for (const part of readValues(subject.content)) {
    if (part.tag !== SET) continue;
    for (const pair of readValues(part.content)) {
      const reader = new Reader(pair, "a name");
      const kind = oidOf(reader.take(OID));
      const value = reader.rest();
      const texts = [UTF8, PRINTABLE, IA5];
      if (kind !== COMMON_NAME || value.length !== 1 || !texts.includes(value[0].tag)) continue;
      const { content } = value[0];
      if (content.length && content.every((byte) => byte >= 0x20 && byte < 0x7f)) {
        return String.fromCharCode(...content);
      }
    }
  }
  return "an authority without a plain name";
}

// Whether the one purpose of a certificate's key is to make timestamps, critically.
function stampsAlone(extensions) {
  const reader = new Reader(extensions, "a certificate's extensions");
  for (const extension of readValues(reader.take(SEQUENCE).content)) {
    const parts = new Reader(extension, "an extension");
    const kind = oidOf(parts.take(OID));
    const critical = parts.maybe(BOOLEAN);
    const value = parts.take(OCTET_STRING);
    if (kind !== KEY_PURPOSES) continue;
    const purposes = readValues(readValue(value.content).content).map(oidOf);
    const said = critical !== null && sameBytes(critical.raw, TRUE);
    return said && purposes.length === 1 && purposes[0] === TIME_STAMPING;
  }
  return false;
}

// Return if a signature over a message is the certificate's key's. `algorithm` and `digest` are
// object identifiers, as a token names them.
export async function verifyBy(certificate, algorithm, digest, message, signature) {
  const [kind, named] = SIGNATURES.get(algorithm) ?? ["", ""];
  const hash = HASHES.get(digest);
  if (!kind || !hash) {
    throw new ProofError(`it is signed by an algorithm that is not known here: ${algorithm}`);
  }
  if (named && named !== hash) throw new ProofError("it is signed by another hash than it says");
  const [own, curve] = kindOf(certificate.publicKey);
  if (own !== kind) {
    throw new ProofError("it is signed by another kind of key than its certificate has");
  }
  const scheme =
    kind === RSA
      ? { name: "RSASSA-PKCS1-v1_5", hash }
      : { name: "ECDSA", hash, namedCurve: curve[0] };
  let key;
  try {
    const bytes = Uint8Array.from(certificate.publicKey);
    key = await crypto.subtle.importKey("spki", bytes, scheme, false, ["verify"]);
  } catch {
    throw new ProofError("the key in the authority's certificate is none");
  }
  if (kind === RSA && key.algorithm.modulusLength < RSA_BITS_MIN) {
    throw new ProofError(
      `its key has ${key.algorithm.modulusLength} bits; ${RSA_BITS_MIN} are the least`,
    );
  }
  const sent = kind === RSA ? Uint8Array.from(signature) : rawSignature(signature, curve[1]);
  const bytes = Uint8Array.from(message);
  if (!sent || !(await crypto.subtle.verify(scheme, key, sent, bytes))) {
    throw new ProofError("the authority's signature does not hold");
  }
}

// The kind of a key, and its curve; an empty kind if it is none of those that sign here.
function kindOf(publicKey) {
  const algorithm = new Reader(new Reader(readValue(publicKey), "a key").take(SEQUENCE), "a key");
  const kind = oidOf(algorithm.take(OID));
  const rest = algorithm.rest();
  if (kind === RSA) return [kind, null];
  const curve = kind === EC && rest.length === 1 ? CURVES.get(oidOf(rest[0])) : undefined;
  return curve ? [kind, curve] : ["", null];
}

// An ECDSA signature as the browser wants it: both numbers, each as long as the curve's are. None
// if it is not the sequence of two numbers that certificates' signatures are.
function rawSignature(signature, size) {
  let numbers;
  try {
    numbers = readValues(expect(readValue(signature), SEQUENCE, "a signature").content);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return null;
  }
  if (numbers.length !== 2) return null;
  const parts = [];
  for (const { tag, content } of numbers) {
    if (tag !== INTEGER || !content.length || content[0] >> 7) return null;
    if (content.length > 1 && !content[0] && !(content[1] >> 7)) return null;
    const number = content[0] ? content : content.subarray(1);
    if (number.length > size) return null;
    parts.push(new Uint8Array(size - number.length), number);
  }
  return joined(...parts);
}
