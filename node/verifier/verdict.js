// The verdict: what the terms say about the two parties' declared totals of a period, meter by
// meter. Its digest stands in the checkpoint, so both sign it with the statement.

import { utf8 } from "./bytes.js";
import { pack } from "./encoding.js";
import { FormatError } from "./errors.js";
import { formatQuantity, parseTotal } from "./quantities.js";
import { sha256 } from "./sha256.js";
import { lineScale, unitOf } from "./terms.js";

export const METER_COLUMNS = [
  "meter",
  "unit",
  "provider",
  "consumer",
  "payable",
  "disputed",
  "result",
];
export const RESULTS = [
  "agreed",
  "within tolerance",
  "disputed",
  "declared by one",
  "not declared",
];
const TITLE = utf8("tallystick verdict v1\n");

export function verdictDigest(verdict) {
  const rows = verdict.meters.map((row) => METER_COLUMNS.map((name) => row[name]));
  return sha256(TITLE, pack([verdict.period, rows]));
}

// The verdict on a period's statement; `lines` are all its lines, late ones included. `provider`
// and `consumer` are maps of what counts of their declarations, or null.
export function makeVerdict(terms, period, lines, provider, consumer) {
  const sums = new Map();
  for (const meter of terms.meters) {
    sums.set(meter.name, { scale: lineScale(meter), payable: 0n, disputed: 0n, deltas: 0n });
  }
  for (const line of lines) {
    const sum = sums.get(line.meter);
    if (!sum) continue;
    sum.payable += parseTotal(line.payable, sum.scale);
    sum.disputed += parseTotal(line.disputed, sum.scale);
    if (line.late_for === null) sum.deltas += line.deltas;
  }
  const meters = terms.meters.map((meter) => {
    const { scale, payable, disputed, deltas } = sums.get(meter.name);
    const sides = [provider, consumer].map((totals) => totals?.get(meter.name) ?? null);
    const shown = sides.map((side) => (side === null ? null : formatQuantity(side, scale)));
    return {
      meter: meter.name,
      unit: unitOf(meter),
      provider: shown[0],
      consumer: shown[1],
      payable: formatQuantity(payable, scale),
      disputed: formatQuantity(disputed, scale),
      result: resultOf(meter, sides, disputed, deltas),
    };
  });
  return { period, meters };
}

function resultOf(meter, [provider, consumer], disputed, deltas) {
  if (disputed) return "disputed";
  if (provider === null || consumer === null) {
    return provider === consumer ? "not declared" : "declared by one";
  }
  if (provider === consumer) return "agreed";
  return isTolerated(meter, provider, consumer, deltas) ? "within tolerance" : "disputed";
}

const magnitude = (value) => (value < 0n ? -value : value);

// Whether the terms tolerate that both counted differently.
function isTolerated(meter, provider, consumer, deltas) {
  const { tolerance } = meter;
  if (!tolerance) return false;
  if (deltas < tolerance.least) return true;
  const base = magnitude(tolerance.base === "provider" ? provider : consumer);
  const relative = (tolerance.relative_ppm * base) / 1_000_000n;
  let { absolute } = tolerance;
  if (meter.aggregate === "count") absolute /= 10n ** BigInt(meter.scale);
  const allowed = relative > absolute ? relative : absolute;
  return magnitude(provider - consumer) <= allowed;
}

// The totals that a verdict says were declared, each side a map or null; `FormatError` if one is
// not a decimal of its meter.
export function declaredOf(terms, verdict) {
  const names = terms.meters.map((meter) => meter.name);
  if (
    verdict.meters.length !== names.length ||
    verdict.meters.some((row, at) => row.meter !== names[at])
  ) {
    throw new FormatError("the verdict's meters are not those of the terms, in their order");
  }
  return ["provider", "consumer"].map((role) => {
    const found = new Map();
    verdict.meters.forEach((row, at) => {
      if (row[role]) found.set(row.meter, parseTotal(row[role], lineScale(terms.meters[at])));
    });
    return found.size ? found : null;
  });
}

export function sameVerdict(a, b) {
  return a.period === b.period && firstDiffering(a, b) === null;
}

// The first meter in which two verdicts differ, as each has it; null if they do not.
export function firstDiffering(a, b) {
  for (let at = 0; at < Math.max(a.meters.length, b.meters.length); at += 1) {
    const left = a.meters[at] ?? null;
    const right = b.meters[at] ?? null;
    if (!left || !right || METER_COLUMNS.some((name) => left[name] !== right[name]))
      return [left, right];
  }
  return null;
}
