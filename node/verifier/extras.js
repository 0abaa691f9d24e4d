// What others added to what two parties signed: lines of witnesses, a timestamp. This page is given
// neither a policy nor certificates, so it says what is there and holds by itself, and that it does
// not judge who that is.

import { compareText } from "./bytes.js";
import { Unjudged } from "./checks.js";
import { FormatError } from "./errors.js";
import { parseNote } from "./notes.js";
import { checkToken, parseResponse, saidBy } from "./timestamps.js";

const PARTIES_LINES = 2; // the author's and its peer's; what follows below a head is of witnesses
const NAMES_SHOWN = 5;

// Whether a head carries more lines than those of its two parties.
export function hasLines(note) {
  try {
    return parseNote(note).signatures.length > PARTIES_LINES;
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return false;
  }
}

// What there is of witnesses below these heads, given as [what it is called, note].
export function checkWitnesses(heads) {
  const names = new Set();
  const counts = heads.map(([name, note]) => {
    const lines = parseNote(note).signatures.slice(PARTIES_LINES);
    lines.forEach((line) => names.add(line.name));
    return `${lines.length} on ${name}`;
  });
  const listed = [...names].sort(compareText).slice(0, NAMES_SHOWN);
  const more = names.size > listed.length ? ` and ${names.size - listed.length} more` : "";
  return new Unjudged(
    `lines in the name of ${listed.join(", ")}${more} (${counts.join(", ")}): not judged, as no` +
      " policy was given",
  );
}

// When an authority says that a note existed.
export async function checkTime(timestamp, note) {
  const token = parseResponse(timestamp);
  await checkToken(token, note);
  return new Unjudged(
    `${saidBy(token)}, certificate ${token.certificate.digest}:` +
      " not judged who that is, as no certificates were given",
  );
}
