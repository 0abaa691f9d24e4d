// What a file is, by its first words, and the checks for it. A leaf or a line is no file by itself:
// it stands beside the proof that it belongs to.

import { FILE_BYTES_MAX } from "./accusation.js";
import { findAttached, isStatement } from "./attached.js";
import { startsWith } from "./bytes.js";
import { TallyError } from "./errors.js";
import { verifyEvidence } from "./evidence.js";
import { FILE_BYTES_MAX as PASSTHROUGH_BYTES_MAX } from "./passthrough.js";
import { verifyRefutation } from "./refutation.js";
import { Source } from "./source.js";
import { verifyBundle } from "./verify.js";
import { verifyCertificate } from "./verify_certificate.js";
import { verifyPassthrough, verifySeal } from "./verify_passthrough.js";
import { BESIDE_BYTES_MAX, verifyDeltaProof, verifyLine, verifyNote } from "./verify_proof.js";

const KINDS = [
  ["tallystick evidence ", "evidence"],
  ["tallystick refutation ", "refutation"],
  ["tallystick certificate ", "certificate"],
  ["c2sp.org/tlog-proof@", "delta proof"],
  ["tallystick line-proof ", "line proof"],
  ["tallystick checkpoint ", "checkpoint"],
  ["tallystick passthrough-seal", "seal"],
  ["tallystick passthrough", "passthrough"],
];
const BEFORE_XML = [0xef, 0xbb, 0xbf, 0x20, 0x09, 0x0d, 0x0a]; // a byte order mark, and space
const BESIDE = { "delta proof": ".leaf", "line proof": ".line", seal: ".passthrough" };
const ALONE = [".leaf", ".line"]; // of these, nothing can be checked by itself

// What the bytes that a file begins with say that it is; what nothing else claims is a bundle.
export function kindOf(bytes) {
  const named = KINDS.find(([begin]) => startsWith(bytes, begin));
  if (named) return named[1];
  if (isStatement(bytes)) return "statement";
  const first = bytes.find((byte) => !BEFORE_XML.includes(byte));
  return first === 0x3c ? "invoice" : "bundle";
}

const suffix = (name) => name.slice(name.lastIndexOf("."));
const stem = (name) => name.slice(0, name.length - suffix(name).length);
const isBeside = (file) => ALONE.includes(suffix(file.name));

// The files to verify, each as {file, kind, beside}: the leaf or line of a proof, or what is behind
// a seal, is the one of the same name, or the only one that there is.
export async function arranged(files) {
  const proofs = [];
  const used = new Set();
  for (const file of files) {
    if (isBeside(file)) continue;
    const bytes = await new Source(file).read(0, FILE_BYTES_MAX + 1);
    const kind = kindOf(bytes);
    const fitting = files.filter((one) => suffix(one.name) === BESIDE[kind]);
    const named = fitting.find((one) => stem(one.name) === stem(file.name));
    const beside = named ?? (fitting.length === 1 ? fitting[0] : null);
    if (beside) used.add(beside);
    proofs.push({ file, kind, beside });
  }
  const alone = files.filter((file) => isBeside(file) && !used.has(file));
  return { proofs, alone };
}

// The checks of a file, each as soon as it is done. `expected` are the keys that a proof or a
// checkpoint's note is to be signed by; `known` is filled with what the checks establish.
export async function* checksOf({ file, kind, beside }, expected, pace, known = {}) {
  const source = new Source(file);
  if (kind === "statement") {
    yield* statementChecks(source, pace, known);
    return;
  }
  if (kind === "invoice") {
    const detail =
      "this page does not read invoices. Save the PDF or the bundle that is attached to it," +
      " and check that";
    yield { number: 1, name: "attachment", ok: false, unsupported: true, detail };
    return;
  }
  if (kind === "bundle") {
    yield* verifyBundle(source, pace, known);
    return;
  }
  if (kind === "seal" || kind === "passthrough") {
    yield* passthroughChecks(source, kind, beside, expected, known);
    return;
  }
  const bytes = await source.read(0, FILE_BYTES_MAX + 1);
  const other = beside && (await new Source(beside).read(0, BESIDE_BYTES_MAX + 1));
  switch (kind) {
    case "evidence":
      yield* verifyEvidence(bytes, known);
      break;
    case "refutation":
      yield* verifyRefutation(bytes, known);
      break;
    case "certificate":
      yield* verifyCertificate(bytes, known);
      break;
    case "delta proof":
      yield* verifyDeltaProof(bytes, other, expected, known);
      break;
    case "line proof":
      yield* verifyLine(bytes, other, expected, known);
      break;
    default:
      yield* verifyNote(bytes, expected, known);
  }
}

async function* passthroughChecks(source, kind, beside, expected, known) {
  const bytes = await source.read(0, PASSTHROUGH_BYTES_MAX + 1);
  if (kind === "passthrough") {
    yield* verifyPassthrough(bytes, expected, known);
    return;
  }
  const behind = beside && (await new Source(beside).read(0, PASSTHROUGH_BYTES_MAX + 1));
  yield* verifySeal(bytes, behind, expected, known);
}

// The checks of the bundle inside a statement. That the pages show the same, `tally verify` finds
// out by making them again, which a browser cannot.
async function* statementChecks(source, pace, known) {
  let found;
  try {
    found = await findAttached(source);
  } catch (error) {
    if (!(error instanceof TallyError)) throw error;
    yield { number: 1, name: "attachment", ok: false, detail: error.sentence };
    return;
  }
  let number = 0;
  let failed = 0;
  for await (const check of verifyBundle(new Source(new Blob([found.bundle])), pace, known)) {
    yield check;
    number = check.number;
    if (!check.ok) failed ||= number;
  }
  const detail = failed
    ? `not reached: check ${failed} failed`
    : `${found.name} inside holds; this page cannot make the pages again, to compare them`;
  yield { number: number + 1, name: "pages", ok: false, unsupported: !failed, detail };
}
