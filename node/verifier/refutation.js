// Refutation: what an honest party answers when it is accused of equivocation. Every head that it
// is accused with, and one that both signed, are shown to be prefixes of one history; heads of a
// part that both lost are answered by the epoch's record.

import {
  ACCUSED,
  BASE64,
  HASHES,
  NOTE,
  accusedOf,
  accusedText,
  checkAccusedKeys,
  checkAccusedLine,
  checkAccusedTerms,
  checkLog,
  fileText,
  hashRows,
  hashesOf,
  headOfText,
  headShown,
  inOrder,
  verifyAuthorLine,
  verifyCosignerLine,
} from "./accusation.js";
import { EMPTY, base64Of, bytesOfBase64, joined, sameBytes, utf8 } from "./bytes.js";
import { runChecks } from "./checks.js";
import { FormatError, ProofError } from "./errors.js";
import { HASH_SIZE, leafHash, verifyConsistency, verifyInclusion } from "./merkle.js";
import { decodeRecord, other } from "./records.js";

const TITLE = "tallystick refutation v1";
const ANSWERED_MAX = 16;

const SIZE = "(?:0|[1-9][0-9]{0,18})";
const FILE = new RegExp(
  `^${TITLE}\\n${ACCUSED}` +
    `(?<chain>(?:(?:answers|agreed) ${SIZE}\\n(?:consistency ${SIZE} ${SIZE}\\n${HASHES})?)+)` +
    `(?<lost>(?:lost ${SIZE}\\n)*)` +
    `(?:epoch (?<index>${SIZE})\\n(?<path>${HASHES})leaf (?<leaf>${BASE64})\\n)?` +
    `(?<notes>(?:\\n${NOTE})+)$`,
  "u",
);

function encode({ accused, chain, agreed, paths, loss }) {
  let text = `${TITLE}\n${accusedText(accused)}`;
  chain.forEach((noted, place) => {
    text += `${place === agreed ? "agreed" : "answers"} ${noted.head.size}\n`;
    if (place < paths.length) {
      const after = chain[place + 1].head.size;
      text += `consistency ${noted.head.size} ${after}\n${hashRows(paths[place])}`;
    }
  });
  if (loss) {
    text += loss.heads.map((noted) => `lost ${noted.head.size}\n`).join("");
    text += `epoch ${loss.index}\n${hashRows(loss.path)}leaf ${base64Of(loss.leaf)}\n`;
  }
  const heads = [...chain, ...(loss ? loss.heads : [])];
  return joined(utf8(text), ...heads.flatMap((noted) => [utf8("\n"), noted.bytes]));
}

function parse(bytes) {
  const match = FILE.exec(fileText(bytes, TITLE));
  if (!match) throw new FormatError("not a refutation: a line is missing, doubled or misspelt");
  const { groups } = match;
  const labels = [...groups.chain.matchAll(/(answers|agreed) [0-9]+\n/g)].map((found) => found[1]);
  const pattern = new RegExp(`consistency [0-9]+ [0-9]+\\n(${HASHES})`, "gu");
  const paths = [...groups.chain.matchAll(pattern)].map((found) => hashesOf(found[1]));
  const notes = [...groups.notes.matchAll(new RegExp(`\\n(${NOTE})`, "gu"))].map((found) =>
    headOfText(found[1]),
  );
  const chain = notes.slice(0, labels.length);
  const lost = notes.slice(labels.length);
  const agreed = labels.indexOf("agreed");
  if (
    agreed < 0 ||
    labels.lastIndexOf("agreed") !== agreed ||
    notes.length > ANSWERED_MAX + 1 ||
    notes.length < 2
  ) {
    throw new FormatError("not a refutation: it answers for heads by one head that both signed");
  }
  if (lost.length > 0 !== (groups.index !== undefined)) {
    throw new FormatError("not a refutation: it has lost heads without an epoch, or the reverse");
  }
  const loss = lost.length
    ? {
        heads: lost,
        index: BigInt(groups.index),
        leaf: groups.leaf ? bytesOfBase64(groups.leaf) : EMPTY,
        path: hashesOf(groups.path),
      }
    : null;
  const refutation = { accused: accusedOf(groups), chain, agreed, paths, loss };
  const whole = paths.length === chain.length - 1 && chain.length === labels.length;
  if (!inOrder(chain) || !inOrder(lost) || !whole || !sameBytes(encode(refutation), bytes)) {
    throw new FormatError("not a refutation: it is not in canonical form");
  }
  return refutation;
}

// Run the seven checks on a file's bytes; it holds when all of them do.
export function verifyRefutation(bytes, known = {}) {
  return runChecks(Object.assign(known, { bytes }), CHECKS);
}

function answered({ chain, agreed, loss }) {
  return [...chain.filter((_, place) => place !== agreed), ...(loss ? loss.heads : [])];
}

// 1. The file is in its one form.
function checkForm(known) {
  known.refutation = parse(known.bytes);
  known.accused = known.refutation.accused;
  return `${TITLE}, answers for ${answered(known.refutation).length} heads`;
}

// 4. The party signed (or co-signed) every head that it answers for.
async function checkAnswered(known) {
  const found = [];
  for (const noted of answered(known.refutation)) found.push(await checkAccusedLine(known, noted));
  return found.join("; ");
}

// 5. The agreed head has its author's signature and its peer's co-signature.
async function checkAgreed(known) {
  const agreed = known.refutation.chain[known.refutation.agreed];
  checkLog(known, agreed.head);
  await verifyAuthorLine(agreed.note, known.ring, known.author);
  await verifyCosignerLine(agreed.note, known.ring, other(known.author));
  return `${headShown(agreed)}, signed and co-signed`;
}

// 6. Each head is a prefix of the next, so all of them belong to one history.
function checkHistory(known) {
  const { chain, paths } = known.refutation;
  paths.forEach((path, place) => {
    const [a, b] = [chain[place].head, chain[place + 1].head];
    verifyConsistency(a.size, a.root, b.size, b.root, path);
  });
  const sizes = chain.map((noted) => noted.head.size).join(", ");
  return `the heads of ${sizes} records are prefixes of it`;
}

// 7. Heads that are in no log any more were lost before an epoch that both parties signed.
async function checkLoss(known) {
  const { loss } = known.refutation;
  if (loss) await checkEpoch(known, loss);
  const rest = loss ? ", and the rest was lost before the epoch" : "";
  return `refutes the accusation of ${known.accused.party}: what it signed is one history${rest}`;
}

async function checkEpoch(known, loss) {
  const agreed = known.refutation.chain[known.refutation.agreed].head;
  verifyInclusion(leafHash(loss.leaf), loss.index, agreed.size, loss.path, agreed.root);
  const record = decodeRecord(loss.leaf.subarray(HASH_SIZE));
  if (record.kind !== "epoch")
    throw new ProofError("what is shown as an epoch is a record of another kind");
  const cosigner = known.ring.cosignerVkeys(other(known.author))[0].name;
  for (const noted of loss.heads) {
    if (noted.head.size <= loss.index) {
      throw new ProofError(
        `the epoch gave up what came after ${loss.index} records; the head of` +
          ` ${noted.head.size} is from before`,
      );
    }
    // Only a co-signature dates a head; one without may always be from before the loss.
    if (!noted.note.signatures.some((signature) => signature.name === cosigner)) continue;
    const seconds = await verifyCosignerLine(noted.note, known.ring, other(known.author));
    if (seconds * 1_000_000n > record.recorded_at) {
      throw new ProofError(`the head of ${noted.head.size} records is younger than the epoch`);
    }
  }
}

const CHECKS = [
  ["form", [], checkForm],
  ["terms", [1], checkAccusedTerms],
  ["keys", [2], checkAccusedKeys],
  ["answered heads", [3], checkAnswered],
  ["agreed head", [3], checkAgreed],
  ["one history", [4, 5], checkHistory],
  ["losses", [6], checkLoss],
];
