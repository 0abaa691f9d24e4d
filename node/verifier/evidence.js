// Evidence of equivocation: two heads of one log, both with the signature of the accused, that
// cannot both be prefixes of one history. An RFC 6962 consistency proof shows it, so nobody needs
// records.

import {
  ACCUSED,
  HASH,
  HASHES,
  NOTE,
  accusedOf,
  accusedText,
  checkAccusedKeys,
  checkAccusedLine,
  checkAccusedTerms,
  fileText,
  hashRows,
  hashesOf,
  headOfText,
  inOrder,
} from "./accusation.js";
import { base64Of, bytesOfBase64, hexOf, joined, sameBytes, utf8 } from "./bytes.js";
import { runChecks } from "./checks.js";
import { FormatError, ProofError } from "./errors.js";
import { verifyConsistency } from "./merkle.js";
import { other } from "./records.js";
import { sha256 } from "./sha256.js";

const TITLE = "tallystick evidence v1";
const FILE = new RegExp(
  `^${TITLE}\\n${ACCUSED}` +
    `prefix (?<prefix>${HASH})\\n` +
    "consistency (?<old>[0-9]{1,19}) (?<new>[0-9]{1,19})\\n" +
    `(?<path>${HASHES})\\n(?<first>${NOTE})\\n(?<second>${NOTE})$`,
  "u",
);

function encode({ accused, heads: [first, second], prefix, path }) {
  const begin =
    `${TITLE}\n${accusedText(accused)}` +
    `prefix ${base64Of(prefix)}\n` +
    `consistency ${first.head.size} ${second.head.size}\n${hashRows(path)}\n`;
  return joined(utf8(begin), first.bytes, utf8("\n"), second.bytes);
}

function parse(bytes) {
  const match = FILE.exec(fileText(bytes, TITLE));
  if (!match) throw new FormatError("not evidence: a line is missing, doubled or misspelt");
  const { groups } = match;
  const evidence = {
    heads: [headOfText(groups.first), headOfText(groups.second)],
    accused: accusedOf(groups),
    prefix: bytesOfBase64(groups.prefix),
    path: hashesOf(groups.path),
  };
  if (!inOrder(evidence.heads) || !sameBytes(encode(evidence), bytes)) {
    throw new FormatError("not evidence: it is not in canonical form");
  }
  return evidence;
}

// Run the six checks on a file's bytes; it convicts when all of them hold.
export function verifyEvidence(bytes, known = {}) {
  return runChecks(Object.assign(known, { bytes }), CHECKS);
}

// 1. The file is in its one form.
function checkForm(known) {
  known.evidence = parse(known.bytes);
  known.accused = known.evidence.accused;
  return `${TITLE}, ${hexOf(sha256(known.bytes))}`;
}

// 4. The accused signed (or co-signed) the first head, and it is of the log in question.
function checkFirst(known) {
  return checkAccusedLine(known, known.evidence.heads[0]);
}

// 5. The same of the second head.
function checkSecond(known) {
  return checkAccusedLine(known, known.evidence.heads[1]);
}

// 6. The second head's history has another root at the first head's size.
function checkContradiction(known) {
  const { prefix, path } = known.evidence;
  const [first, second] = known.evidence.heads.map((noted) => noted.head);
  verifyConsistency(first.size, prefix, second.size, second.root, path);
  if (sameBytes(prefix, first.root)) {
    throw new ProofError(
      `convicts nobody: the head of ${first.size} records is a prefix of the one of` +
        ` ${second.size}, as it should be`,
    );
  }
  const { party, part } = known.accused;
  const shown = `its heads of ${first.size} and ${second.size} records cannot both be true`;
  if (part === "author") return `convicts ${party} of signing two histories of its log: ${shown}`;
  const author = known.terms[other(known.role)].name;
  return `convicts ${party} of co-signing two histories of ${author}'s log: ${shown}`;
}

const CHECKS = [
  ["form", [], checkForm],
  ["terms", [1], checkAccusedTerms],
  ["keys", [2], checkAccusedKeys],
  ["first head", [3], checkFirst],
  ["second head", [3], checkSecond],
  ["contradiction", [4, 5], checkContradiction],
];
