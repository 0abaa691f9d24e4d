// The text of a proof: a title, an index, a path in base64 and the signed note that it leads to.
// The proof of a delta is a c2sp.org/tlog-proof@v1 file; that of a balance line has a title of its
// own.

import { hashRows, hashesOf } from "./accusation.js";
import { joined, sameBytes, startsWith, utf8 } from "./bytes.js";
import { FormatError } from "./errors.js";

export const DELTA_TITLE = "c2sp.org/tlog-proof@v1";
export const LINE_TITLE = "tallystick line-proof v1";
const PATH_MAX = 64;
const BODY = /^index (0|[1-9][0-9]{0,18})\n((?:[A-Za-z0-9+/]{43}=\n)*)\n$/;

// The proof as {index, path, note}; `FormatError` unless it is in its one form.
export function parsePath(title, bytes) {
  const begin = `${title}\n`;
  if (!startsWith(bytes, begin))
    throw new FormatError(`not a proof: it does not begin with ${title}`);
  if (startsWith(bytes, "extra ", begin.length)) {
    throw new FormatError("the proof has an extra line, which none of ours has");
  }
  let end = 1;
  while (end < bytes.length && !(bytes[end - 1] === 0x0a && bytes[end] === 0x0a)) end += 1;
  end += 1;
  const body = String.fromCharCode(
    ...bytes.subarray(begin.length, Math.min(end, begin.length + 4096)),
  );
  const match = end <= bytes.length && BODY.exec(body);
  if (!match)
    throw new FormatError("not a proof: after the title come an index and hashes in base64");
  let path;
  try {
    path = hashesOf(match[2]);
  } catch {
    throw new FormatError("not a proof: it is not in canonical form");
  }
  const note = bytes.subarray(end);
  const written = joined(utf8(`${begin}index ${match[1]}\n${hashRows(path)}\n`), note);
  if (path.length > PATH_MAX || !sameBytes(written, bytes)) {
    throw new FormatError("not a proof: it is not in canonical form");
  }
  return { index: BigInt(match[1]), path, note };
}
