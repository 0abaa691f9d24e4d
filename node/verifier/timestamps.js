// Timestamps of RFC 3161: an authority outside says that a checkpoint existed at a time. What is
// stamped is the SHA-256 of the checkpoint's whole note, both signatures included.

import { joined, sameBytes } from "./bytes.js";
import {
  BOOLEAN,
  GENERAL_TIME,
  INTEGER,
  OCTET_STRING,
  OID,
  Reader,
  SEQUENCE,
  SET,
  UTF8,
  expect,
  instantOf,
  integerOf,
  oidOf,
  readValue,
  readValues,
} from "./der.js";
import { FormatError, ProofError } from "./errors.js";
import { isoTime } from "./keyring.js";
import { sha256 } from "./sha256.js";
import { HASHES, TRUE, parseCertificate, verifyBy } from "./x509.js";

const RESPONSE_BYTES_MAX = 65_536;
const CERTIFICATES_MAX = 32;
const ACCURACY_SECONDS_MAX = 1_000_000n;
const MILLION = 1_000_000n;

const SHA256 = "2.16.840.1.101.3.4.2.1";
const SIGNED_DATA = "1.2.840.113549.1.7.2";
const TOKEN_INFO = "1.2.840.113549.1.9.16.1.4";
const CONTENT_TYPE = "1.2.840.113549.1.9.3";
const MESSAGE_DIGEST = "1.2.840.113549.1.9.4";
const NAMES_BY_SHA1 = "1.2.840.113549.1.9.16.2.12";
const NAMES = "1.2.840.113549.1.9.16.2.47";
const NEEDED = [CONTENT_TYPE, MESSAGE_DIGEST, NAMES_BY_SHA1, NAMES];
const [A0, A1, P0, P1] = [0xa0, 0xa1, 0x80, 0x81]; // context tags 0 and 1

// The token in a response; nothing is verified until `checkToken` returns.
export function parseResponse(bytes) {
  if (bytes.length > RESPONSE_BYTES_MAX) {
    throw new FormatError(`a timestamp of more than ${RESPONSE_BYTES_MAX} bytes`);
  }
  const response = new Reader(expect(readValue(bytes), SEQUENCE, "a timestamp"), "a timestamp");
  checkGranted(response.take(SEQUENCE));
  const content = new Reader(response.take(SEQUENCE), "a timestamp's token");
  response.end();
  if (oidOf(content.take(OID)) !== SIGNED_DATA) {
    throw new FormatError("a timestamp's token is not signed data");
  }
  const signed = new Reader(readValue(content.take(A0).content), "a timestamp's token");
  content.end();
  signed.take(INTEGER);
  signed.take(SET);
  const info = infoIn(signed.take(SEQUENCE));
  const certificates = readValues(signed.take(A0).content);
  signed.maybe(A1);
  const signers = readValues(signed.take(SET).content);
  signed.end();
  if (signers.length !== 1) {
    throw new FormatError(`a timestamp is signed once, and this one ${signers.length} times`);
  }
  if (certificates.length > CERTIFICATES_MAX) {
    throw new FormatError(
      `a timestamp with ${certificates.length} certificates; ${CERTIFICATES_MAX} may be`,
    );
  }
  return signedToken(info, certificates, signers[0]);
}

function checkGranted(status) {
  const reader = new Reader(status, "a timestamp's status");
  const number = integerOf(reader.take(INTEGER));
  const words = reader.maybe(SEQUENCE);
  if (!number) return;
  const texts = words ? readValues(words.content).filter((one) => one.tag === UTF8) : [];
  const said = texts.map((one) => String.fromCharCode(...one.content.subarray(0, 200))).join(" ");
  const shown = said.slice(0, 200).replace(/[^\x20-\x7e]/g, "?");
  throw new ProofError(
    `the authority gave no timestamp, status ${number}${shown ? `: ${shown}` : ""}`,
  );
}

// What the authority says, as the bytes that are signed.
function infoIn(content) {
  const reader = new Reader(content, "a timestamp's content");
  if (oidOf(reader.take(OID)) !== TOKEN_INFO) {
    throw new FormatError("a timestamp's token holds something else");
  }
  const held = readValue(reader.take(A0).content);
  reader.end();
  return expect(held, OCTET_STRING, "a timestamp's content").content;
}

function signedToken(info, certificates, signer) {
  const reader = new Reader(signer, "a timestamp's signature");
  reader.take(INTEGER);
  const named = new Reader(reader.take(SEQUENCE), "a timestamp's signer");
  const issuer = named.take(SEQUENCE).raw;
  const serial = named.take(INTEGER).raw;
  named.end();
  const digest = algorithmOf(reader.take(SEQUENCE));
  const attributes = reader.take(A0);
  const algorithm = algorithmOf(reader.take(SEQUENCE));
  const signature = reader.take(OCTET_STRING).content;
  reader.maybe(A1);
  reader.end();
  const mine = certificates
    .filter((one) => one.tag === SEQUENCE)
    .map((one) => parseCertificate(one.raw))
    .filter((one) => sameBytes(one.issuer, issuer) && sameBytes(one.serial, serial));
  if (mine.length !== 1) {
    throw new FormatError("a timestamp does not hold the one certificate of who signed it");
  }
  return {
    ...parseInfo(info),
    info,
    digest,
    algorithm,
    attributes: joined(Uint8Array.of(SET), attributes.raw.subarray(1)), // so it is signed
    signature,
    certificate: mine[0],
  };
}

function algorithmOf(value) {
  return oidOf(new Reader(value, "an algorithm").take(OID));
}

// The imprint, the time, and how exact it is.
function parseInfo(info) {
  const reader = new Reader(expect(readValue(info), SEQUENCE, "a timestamp"), "a timestamp");
  if (integerOf(reader.take(INTEGER)) !== 1n) {
    throw new FormatError("a timestamp of another version than 1");
  }
  reader.take(OID);
  const parts = new Reader(reader.take(SEQUENCE), "a timestamp's imprint");
  const hashing = algorithmOf(parts.take(SEQUENCE));
  const imprint = parts.take(OCTET_STRING).content;
  parts.end();
  if (hashing !== SHA256 || imprint.length !== 32) {
    throw new FormatError("a timestamp is of a SHA-256, and this one is of another hash");
  }
  reader.take(INTEGER);
  const time_us = instantOf(reader.take(GENERAL_TIME));
  const accuracy = reader.maybe(SEQUENCE);
  reader.maybe(BOOLEAN);
  const nonce = reader.maybe(INTEGER);
  reader.maybe(A0);
  const extensions = reader.maybe(A1);
  reader.end();
  for (const extension of extensions ? readValues(extensions.content) : []) {
    if (readValues(extension.content).some((part) => sameBytes(part.raw, TRUE))) {
      throw new FormatError("a timestamp says something critical that is not known here");
    }
  }
  const accuracy_us = accuracy && accuracyOf(accuracy);
  if (nonce) integerOf(nonce);
  return { imprint, time_us, accuracy_us };
}

function accuracyOf(value) {
  const reader = new Reader(value, "a timestamp's accuracy");
  const parts = [reader.maybe(INTEGER), reader.maybe(P0), reader.maybe(P1)];
  reader.end();
  const [seconds, millis, micros] = parts.map((one) =>
    one ? integerOf({ ...one, tag: INTEGER }) : 0n,
  );
  const small = [millis, micros].every((part) => part >= 0n && part < 1000n);
  if (seconds < 0n || seconds > ACCURACY_SECONDS_MAX || !small) {
    throw new FormatError("a timestamp's accuracy is out of range");
  }
  return seconds * MILLION + millis * 1000n + micros;
}

// When, and who says so, in words.
export function saidBy({ time_us, accuracy_us, certificate }) {
  const micros = ((time_us % MILLION) + MILLION) % MILLION;
  let instant = isoTime((time_us - micros) / MILLION);
  if (micros) {
    const fraction = String(micros).padStart(6, "0").replace(/0+$/, "");
    instant = `${instant.slice(0, -1)}.${fraction}Z`;
  }
  const within = accuracy_us === null ? "" : ` (± ${secondsOf(accuracy_us)} s)`;
  return `${instant}${within}, says ${certificate.name}`;
}

function secondsOf(micros) {
  const fraction = String(micros % MILLION)
    .padStart(6, "0")
    .replace(/0+$/, "");
  return `${micros / MILLION}${fraction ? `.${fraction}` : ""}`;
}

// Return if a token is over these bytes and its certificate's key signed it.
export async function checkToken(token, stamped) {
  if (!sameBytes(token.imprint, sha256(stamped))) {
    throw new ProofError("the timestamp is of something else");
  }
  await checkAttributes(token);
  const { certificate } = token;
  await verifyBy(certificate, token.algorithm, token.digest, token.attributes, token.signature);
  const whose = `the certificate of ${certificate.name}`;
  if (!certificate.stamps) throw new ProofError(`${whose} is not for timestamps alone`);
  if (token.time_us < certificate.begins_us || token.time_us > certificate.ends_us) {
    throw new ProofError(`${whose} was not valid at the token's time`);
  }
}

// What is signed names the token's content, its kind, and the certificate.
async function checkAttributes(token) {
  const found = new Map();
  for (const attribute of readValues(readValue(token.attributes).content)) {
    const reader = new Reader(attribute, "a timestamp's attribute");
    const kind = oidOf(reader.take(OID));
    const values = readValues(reader.take(SET).content);
    if (found.has(kind) || (NEEDED.includes(kind) && values.length !== 1)) {
      throw new FormatError("a timestamp's attribute is there twice");
    }
    if (values.length) found.set(kind, values[0]);
  }
  if (!found.has(CONTENT_TYPE) || oidOf(found.get(CONTENT_TYPE)) !== TOKEN_INFO) {
    throw new ProofError("what the authority signed does not say that it is a timestamp");
  }
  const hash = HASHES.get(token.digest);
  if (!hash) {
    throw new ProofError(
      `the timestamp is hashed by a way that is not known here: ${token.digest}`,
    );
  }
  const hashed = await digestOf(hash, token.info);
  if (!found.has(MESSAGE_DIGEST) || !sameBytes(found.get(MESSAGE_DIGEST).content, hashed)) {
    throw new ProofError("what the authority signed is of another timestamp");
  }
  if (!(await namesCertificate(found, token.certificate))) {
    throw new ProofError("what the authority signed does not name its certificate");
  }
}

async function digestOf(hash, bytes) {
  return new Uint8Array(await crypto.subtle.digest(hash, Uint8Array.from(bytes)));
}

// Whether the signing-certificate attribute (RFC 5035, or its older form) is of this one.
async function namesCertificate(found, certificate) {
  const kind = [NAMES, NAMES_BY_SHA1].find((one) => found.has(one));
  if (!kind) return false;
  const what = "a timestamp's naming of a certificate";
  const all = new Reader(found.get(kind), what).take(SEQUENCE);
  const named = new Reader(new Reader(all, what).take(SEQUENCE), what);
  const other = kind === NAMES ? named.maybe(SEQUENCE) : null;
  let hash = kind === NAMES ? "SHA-256" : "SHA-1";
  if (other) hash = HASHES.get(algorithmOf(other));
  const digest = named.take(OCTET_STRING).content;
  return Boolean(hash) && sameBytes(await digestOf(hash, certificate.raw), digest);
}
