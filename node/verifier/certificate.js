// Certificate: a deadline of the terms passed in silence, provable offline from signed records.
// This is the file's form; what it proves is `verify_certificate`'s.

import {
  BASE64,
  HASHES,
  NOTE,
  fileText,
  hashRows,
  hashesOf,
  headOfText,
  rotationRows,
  rotationsOf,
} from "./accusation.js";
import {
  EMPTY,
  base64Of,
  bytesOfBase64,
  bytesOfHex,
  hexOf,
  joined,
  sameBytes,
  utf8,
} from "./bytes.js";
import { FormatError } from "./errors.js";

export const TITLE = "tallystick certificate v1";

const SIZE = "(?:0|[1-9][0-9]{0,18})";
const FILE = new RegExp(
  `^${TITLE}\\n` +
    "channel (?<channel>[0-9a-f]{64})\\n" +
    "log of (?<party>[^ \\n]{1,253})\\n" +
    `terms (?<terms>${BASE64})\\n` +
    `(?<rotations>(?:rotation ${BASE64}\\n)*)` +
    `(?:dispute (?<dispute>${BASE64})\\n)?` +
    `record (?<index>${SIZE})\\n(?<path>${HASHES})leaf (?<leaf>${BASE64})\\n` +
    `lapse (?<lapseIndex>${SIZE})\\n(?<lapsePath>${HASHES})leaf (?<lapseLeaf>${BASE64})\\n` +
    `consistency (?<start>${SIZE}) (?<end>${SIZE})\\n(?<first>${HASHES})` +
    `consistency (?<again>${SIZE}) (?<size>${SIZE})\\n(?<second>${HASHES})` +
    `\\n(?<note>${NOTE})$`,
  "u",
);

function encode({
  channelId,
  party,
  terms,
  rotations,
  dispute,
  record,
  lapse,
  sizes,
  paths,
  head,
}) {
  const [start, end] = sizes;
  const placed = (name, one) =>
    `${name} ${one.index}\n${hashRows(one.path)}leaf ${base64Of(one.leaf)}\n`;
  const text =
    `${TITLE}\nchannel ${hexOf(channelId)}\nlog of ${party}\nterms ${base64Of(terms)}\n` +
    rotationRows(rotations) +
    (dispute.length ? `dispute ${base64Of(dispute)}\n` : "") +
    placed("record", record) +
    placed("lapse", lapse) +
    `consistency ${start} ${end}\n${hashRows(paths[0])}` +
    `consistency ${end} ${head.head.size}\n${hashRows(paths[1])}\n`;
  return joined(utf8(text), head.bytes);
}

// The certificate of a file; `FormatError` unless it is in its one form. Nothing is verified here.
export function parseCertificate(bytes) {
  const match = FILE.exec(fileText(bytes, TITLE));
  if (!match) throw new FormatError("not a certificate: a line is missing, doubled or misspelt");
  const f = match.groups;
  const placed = (index, leaf, path) => ({
    index: BigInt(index),
    leaf: bytesOfBase64(leaf),
    path: hashesOf(path),
  });
  const certificate = {
    channelId: bytesOfHex(f.channel),
    party: f.party,
    terms: bytesOfBase64(f.terms),
    rotations: rotationsOf(f.rotations),
    dispute: f.dispute ? bytesOfBase64(f.dispute) : EMPTY,
    record: placed(f.index, f.leaf, f.path),
    lapse: placed(f.lapseIndex, f.lapseLeaf, f.lapsePath),
    sizes: [BigInt(f.start), BigInt(f.end)],
    paths: [hashesOf(f.first), hashesOf(f.second)],
    head: headOfText(f.note),
  };
  if (!sameBytes(encode(certificate), bytes)) {
    throw new FormatError("not a certificate: it is not in canonical form");
  }
  return certificate;
}
