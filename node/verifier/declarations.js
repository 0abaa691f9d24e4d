// Declarations: each party's own totals of a period, committed to before either reveals them. What
// counts of them is a function of both logs.

import { compareText, hexOf, sameBytes, utf8 } from "./bytes.js";
import { pack } from "./encoding.js";
import { FormatError, InvalidRecord, quoted } from "./errors.js";
import { parseTotal } from "./quantities.js";
import { sha256 } from "./sha256.js";
import { channelId, lineScales } from "./terms.js";

const TITLE = utf8("tallystick declaration v1\n");

// Refuse (`InvalidRecord`) a reveal that opens something else than what was committed to.
export function checkReveal(terms, role, declaration, reveal) {
  const totals = reveal.totals.map((row) => [row.meter, row.total]);
  const body = pack([declaration.period, reveal.salt, totals]);
  const opened = sha256(TITLE, channelId(terms), utf8(role), body);
  if (!sameBytes(opened, declaration.commitment)) {
    throw new InvalidRecord("what it opens is not what its declaration committed to");
  }
}

// Totals in each meter's scale; `FormatError` if they are not in their one form.
function readTotals(terms, totals) {
  const scales = lineScales(terms);
  const found = new Map();
  for (const row of totals) {
    if (!scales.has(row.meter))
      throw new FormatError(`the terms have no meter ${quoted(row.meter)}`);
    found.set(row.meter, parseTotal(row.total, scales.get(row.meter)));
  }
  if (totals.some((row, at) => at && compareText(totals[at - 1].meter, row.meter) >= 0)) {
    throw new FormatError("the meters are not in order, or one is there twice");
  }
  return found;
}

// What the log of a role says of a period: its declarations by digest, and the reveals that open
// them, each declaration's first one.
export function commitmentsIn(terms, role, period, matters) {
  const declarations = new Map();
  const openings = new Map();
  for (const { index, record } of matters) {
    if (record.kind === "declaration" && record.period === period) {
      const digest = hexOf(sha256(record.bytes));
      declarations.set(digest, record);
    } else if (record.kind === "reveal" && declarations.has(hexOf(record.declaration))) {
      const declaration = hexOf(record.declaration);
      let totals = new Map();
      let fault = "";
      try {
        checkReveal(terms, role, declarations.get(declaration), record);
        totals = readTotals(terms, record.totals);
      } catch (error) {
        if (!(error instanceof FormatError || error instanceof InvalidRecord)) throw error;
        fault = error.message;
      }
      const opening = { index, declaration, names: hexOf(record.peer_declaration), totals, fault };
      if (!openings.has(declaration)) openings.set(declaration, opening);
    }
  }
  return { declarations, openings };
}

// What counts of both parties' declarations of one period: [provider's, consumer's] totals, each a
// map or null. The first pair counts, in the order of the provider's log; without one, a proper
// reveal that the other can still answer counts by itself, unless both have one.
export function declared(provider, consumer) {
  for (const opening of inOrder(provider)) {
    const answer = consumer.openings.get(opening.names);
    if (!answer || answer.names !== opening.declaration) continue;
    if (!opening.fault && !answer.fault) return [opening.totals, answer.totals];
  }
  const alone = [
    inOrder(provider).find((one) => onlyWaits(one, consumer)),
    inOrder(consumer).find((one) => onlyWaits(one, provider)),
  ];
  if (alone[0] && alone[1]) return [null, null];
  return alone.map((opening) => (opening ? opening.totals : null));
}

function inOrder(said) {
  return [...said.openings.values()].sort((a, b) => a.index - b.index);
}

// Whether a reveal holds and names a declaration of the other party's that is not opened.
function onlyWaits(opening, other) {
  return (
    !opening.fault && other.declarations.has(opening.names) && !other.openings.has(opening.names)
  );
}
