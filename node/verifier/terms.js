// Terms: what a decoded terms record must satisfy beyond its schema, and the same in plain words.

import { compareText, hexOf } from "./bytes.js";
import { FormatError, InputError, InvalidRecord, ProofError } from "./errors.js";
import { Calendar } from "./periods.js";
import { formatQuantity } from "./quantities.js";
import { INT64_MAX, checkText, decodeRecord } from "./records.js";
import { sha256 } from "./sha256.js";
import { checkPartyName } from "./signatures.js";

// The SHA-256 of the terms record: the channel's id.
export function channelId(terms) {
  return sha256(terms.bytes);
}

export function roleOf(terms, party) {
  return terms.provider.name === party ? "provider" : "consumer";
}

// The unit of each meter's lines: a count counts deltas, whatever is measured.
export function unitOf(meter) {
  return meter.aggregate === "count" ? "delta" : meter.unit;
}

// The decimal places of a meter's lines: a count has none.
export function lineScale(meter) {
  return meter.aggregate === "count" ? 0 : meter.scale;
}

export function lineScales(terms) {
  return new Map(terms.meters.map((meter) => [meter.name, lineScale(meter)]));
}

// Refuse (`InvalidRecord`) a decoded terms record that says what no file could say.
export function checkTerms(terms) {
  try {
    for (const party of [terms.provider, terms.consumer]) checkPartyName(party.name);
    new Calendar(terms.calendar, terms.time_zone);
    for (const meter of terms.meters) checkText(meter.unit, `unit of ${meter.name}`);
  } catch (error) {
    if (!(error instanceof InputError || error instanceof FormatError)) throw error;
    throw new InvalidRecord(`the terms do not hold: ${error.message}`);
  }
  const keys = [terms.provider, terms.consumer]
    .flatMap((party) => [party.log_key, party.cosigner_key])
    .map(hexOf);
  const names = terms.meters.map((meter) => meter.name);
  const ordered = names.every((name, at) => !at || compareText(names[at - 1], name) < 0);
  const faults = [
    [terms.provider.name === terms.consumer.name, "provider and consumer are the same"],
    [new Set(keys).size !== keys.length, "a key serves for two jobs"],
    [!ordered, "the meters are not sorted, or one is there twice"],
    [terms.meters.some((meter) => meter.minimum > meter.maximum), "a meter's range is empty"],
    [
      terms.meters.some((meter) => meter.source !== "both" && meter.source !== meter.payable),
      "a meter is payable by the side that does not record it",
    ],
  ];
  const fault = faults.find(([wrong]) => wrong);
  if (fault) throw new InvalidRecord(`the terms do not hold: ${fault[1]}`);
}

// The terms record of these bytes, if it makes sense and founds the expected channel.
export function termsOf(bytes, expected) {
  const record = decodeRecord(bytes);
  if (record.kind !== "terms") throw new ProofError("the terms are a record of another kind");
  checkTerms(record);
  const id = hexOf(channelId(record));
  if (id !== hexOf(expected)) {
    throw new ProofError(`these are the terms of channel ${id}, not of ${hexOf(expected)}`);
  }
  return record;
}

export function between(terms) {
  return `between ${terms.provider.name} (provider) and ${terms.consumer.name} (consumer)`;
}

function duration(seconds) {
  for (const [size, unit] of [
    [86_400n, "day"],
    [3_600n, "hour"],
    [60n, "minute"],
    [1n, "second"],
  ]) {
    if (seconds && seconds % size === 0n) {
      const count = seconds / size;
      return `${count} ${unit}${count === 1n ? "" : "s"}`;
    }
  }
  return "no time";
}

// The terms in plain words, as a bundle holds them.
export function termsText(terms) {
  const lines = [
    `${terms.provider.name} provides, ${terms.consumer.name} consumes and pays.`,
    `Usage is counted by the ${terms.calendar}, on the clock of ${terms.time_zone}.`,
    `A period may be closed ${duration(terms.grace_seconds)} after its end; what is not disputed`,
    `within ${duration(terms.dispute_seconds)} is accepted; a dispute not answered within` +
      ` ${duration(terms.answer_seconds)} is upheld.`,
  ];
  for (const meter of terms.meters) lines.push("", ...meterText(meter));
  return `${lines.join("\n")}\n`;
}

function meterText(meter) {
  const what = {
    sum: `the sum of ${meter.unit}`,
    max: `the highest ${meter.unit}`,
    count: "the number of deltas",
  }[meter.aggregate];
  const places = meter.scale ? `, ${meter.scale} decimal places` : "";
  const lines = [`${meter.name}: ${what}${places}.`];
  if (meter.source === "both") {
    const whose = meter.payable === "minimum" ? "the lower of both" : `the ${meter.payable}'s`;
    lines.push(`  Both record it; ${whose} number is payable.`);
  } else {
    lines.push(`  The ${meter.source} records it.`);
  }
  const low = formatQuantity(meter.minimum, meter.scale);
  const high = formatQuantity(meter.maximum, meter.scale);
  if (meter.maximum === INT64_MAX) lines.push(`  One delta is at least ${low}.`);
  else lines.push(`  One delta is from ${low} to ${high}.`);
  const { tolerance } = meter;
  if (!tolerance) {
    lines.push("  Any difference counts.");
    return lines;
  }
  lines.push(
    `  A difference up to ${formatQuantity(tolerance.relative_ppm, 4)}% of the` +
      ` ${tolerance.base}'s number or ${formatQuantity(tolerance.absolute, meter.scale)}`,
    `  ${meter.unit}, whichever is more, is tolerated.`,
  );
  if (tolerance.least) lines.push(`  With fewer than ${tolerance.least} deltas nothing is judged.`);
  return lines;
}
