// What a file is, by its first words, and the checks for it. A leaf or a line is no file by itself:
// it stands beside the proof that it belongs to.

import { FILE_BYTES_MAX } from "./accusation.js";
import { startsWith } from "./bytes.js";
import { verifyEvidence } from "./evidence.js";
import { verifyRefutation } from "./refutation.js";
import { Source } from "./source.js";
import { verifyBundle } from "./verify.js";
import { verifyCertificate } from "./verify_certificate.js";
import { BESIDE_BYTES_MAX, verifyDeltaProof, verifyLine, verifyNote } from "./verify_proof.js";

const KINDS = [
  ["tallystick evidence ", "evidence"],
  ["tallystick refutation ", "refutation"],
  ["tallystick certificate ", "certificate"],
  ["c2sp.org/tlog-proof@", "delta proof"],
  ["tallystick line-proof ", "line proof"],
  ["tallystick checkpoint ", "checkpoint"],
];
const BESIDE = { "delta proof": ".leaf", "line proof": ".line" };

// What the bytes that a file begins with say that it is; what nothing else claims is a bundle.
export function kindOf(bytes) {
  return KINDS.find(([begin]) => startsWith(bytes, begin))?.[1] ?? "bundle";
}

const suffix = (name) => name.slice(name.lastIndexOf("."));
const stem = (name) => name.slice(0, name.length - suffix(name).length);
const isBeside = (file) => Object.values(BESIDE).includes(suffix(file.name));

// The files to verify, each as {file, kind, beside}: the leaf or line of a proof is the one of the
// same name, or the only one that there is.
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
  if (kind === "bundle") {
    yield* verifyBundle(source, pace, known);
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
