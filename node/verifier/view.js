// What is shown of a file's checks. Everything that a file says gets onto the page as text.

import { hexOf } from "./bytes.js";
import { isoTime } from "./keyring.js";
import { ROLES } from "./records.js";
import { nameOf, outcomeOf, resultOf } from "./sentences.js";

const LINES_SHOWN = 200;

// An element with attributes and what is in it: text or elements.
export function element(name, attributes = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside.filter((one) => one !== null));
  return made;
}

// The place of one file's result: `add` shows a check that is done, `finish` the result.
export class Result {
  constructor(file, kind, number) {
    this.kind = kind;
    this.checks = [];
    this.list = element("ol", { class: "checks" });
    this.title = element("h2", { id: `result-${number}` }, "Checking …");
    this.follows = element("p");
    this.box = element(
      "div",
      { class: "verdict" },
      element(
        "p",
        { class: "file" },
        `${file.name}, ${nameOf(kind)} of ${file.size.toLocaleString("en")} bytes`,
      ),
      this.title,
      this.follows,
    );
    this.facts = element("div");
    this.article = element(
      "article",
      { "aria-labelledby": `result-${number}` },
      this.box,
      this.facts,
      part("The checks", this.list),
    );
  }

  add(check) {
    this.checks.push(check);
    const [look, outcome] = outcomeOf(check);
    this.list.append(
      element(
        "li",
        { class: look },
        element("span", { class: "count" }, String(check.number)),
        element("span", { class: "outcome" }, outcome),
        element("span", { class: "name" }, check.name),
        element("span", { class: "detail" }, check.detail),
      ),
    );
  }

  // Show the result and return it: {state, says, follows}.
  finish(known, expected) {
    const result = resultOf(this.kind, this.checks, known);
    this.box.classList.add(result.state);
    this.title.textContent = result.says;
    this.follows.textContent = result.follows;
    this.box.append(
      element(
        "p",
        { class: "file" },
        `Checked ${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC.`,
      ),
    );
    this.facts.append(...factsOf(this.kind, this.checks, known, expected));
    return result;
  }

  stop() {
    this.title.textContent = "Stopped: nothing is proved.";
  }
}

function part(title, ...inside) {
  return element("section", { class: "part" }, element("h3", {}, title), ...inside);
}

// What the checks that hold have established, for a person to compare with what he knows.
function factsOf(kind, checks, known, expected) {
  const holds = (name) => checks.some((check) => check.name === name && check.ok);
  const parts = [];
  if (known.terms) parts.push(part("Between whom", channelFacts(known, holds)));
  const hasBundle = kind === "bundle" || kind === "statement";
  if (hasBundle && holds("checkpoint")) parts.push(part("What was signed", closingFacts(known)));
  if (hasBundle && holds("totals"))
    parts.push(part("The statement", ...statementFacts(known, holds)));
  const signers = signersOf(known, holds);
  if (signers.length) parts.push(part("Whose keys signed", ...keyFacts(signers, expected)));
  return parts;
}

function facts(...rows) {
  const list = element("dl");
  for (const [name, value, look] of rows) {
    list.append(element("dt", {}, name), element("dd", look ? { class: look } : {}, value));
  }
  return list;
}

function channelFacts(known) {
  const { terms } = known;
  return facts(
    ["provider", terms.provider.name],
    ["consumer", terms.consumer.name],
    [
      "channel",
      hexOf(known.channelId ?? known.ring?.channelId ?? new Uint8Array(0)) || "—",
      "mono",
    ],
  );
}

function closingFacts({ checkpoint }) {
  return facts(
    ["period", `${checkpoint.period}, ${checkpoint.time_zone}`],
    ["from", isoTime(checkpoint.start_us / 1_000_000n)],
    ["until", isoTime(checkpoint.end_us / 1_000_000n)],
    ["checkpoint", hexOf(checkpoint.digest), "mono"],
  );
}

function statementFacts({ terms, checkpoint, lines, verdict }, holds) {
  const results = new Map(
    holds("verdict") && verdict ? verdict.meters.map((row) => [row.meter, row]) : [],
  );
  const totals = terms.meters.map((meter, at) => {
    const [, quantity, ...unit] = checkpoint.totals[at].split(" ");
    const row = results.get(meter.name);
    return [meter.name, quantity, unit.join(" "), row ? row.disputed : "", row ? row.result : ""];
  });
  const shown = lines
    .slice(0, LINES_SHOWN)
    .map((line) => [
      line.meter,
      line.subject,
      line.late_for ?? "",
      line.provider ?? "",
      line.consumer ?? "",
      line.payable,
      line.disputed,
      line.unit,
    ]);
  const rest = lines.length - shown.length;
  const columns = [
    "meter",
    "subject",
    "late for",
    "#provider",
    "#consumer",
    "#payable",
    "#disputed",
    "unit",
  ];
  const table = tableOf(
    `${lines.length} lines${rest ? `; the first ${shown.length} are shown` : ""}`,
    columns,
    shown,
  );
  return [
    tableOf(
      "Totals that both signed",
      ["meter", "#payable", "unit", "#disputed", "declared totals"],
      totals,
    ),
    element("details", {}, element("summary", {}, `Lines (${lines.length})`), table),
  ];
}

// A table; the columns whose names begin with # are of numbers.
function tableOf(caption, columns, rows) {
  const look = (name) => (name.startsWith("#") ? { class: "number" } : {});
  const head = columns.map((name) =>
    element("th", { scope: "col", ...look(name) }, name.replace("#", "")),
  );
  const body = rows.map((row) =>
    element("tr", {}, ...row.map((value, at) => element("td", look(columns[at]), value))),
  );
  return element(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    element(
      "table",
      {},
      element("caption", {}, caption),
      element("thead", {}, element("tr", {}, ...head)),
      element("tbody", {}, ...body),
    ),
  );
}

// The verifier keys by which what the file shows was signed.
function signersOf(known, holds) {
  if (known.keys && holds("signatures")) return known.keys;
  if (known.rings && holds("checkpoint")) {
    const [provider, consumer] = known.rings;
    return ROLES.flatMap((role) => [
      provider.logVkeys(role)[0],
      ...(holds("heads")
        ? [(role === "provider" ? consumer : provider).cosignerVkeys(role)[0]]
        : []),
    ]);
  }
  if (known.ring && holds("keys")) {
    return ROLES.flatMap((role) => [
      ...known.ring.logVkeys(role),
      ...known.ring.cosignerVkeys(role),
    ]);
  }
  return [];
}

function keyFacts(signers, expected) {
  const list = element("ul");
  for (const key of signers) list.append(element("li", { class: "mono file" }, String(key)));
  if (!expected.length) return [list];
  const own = new Set(signers.map(String));
  const strange = expected.filter((key) => !own.has(String(key)));
  const said = strange.length
    ? `Of the keys that you expect, these are not among them: ${strange.join(" ")}`
    : "All keys that you expect are among them.";
  return [list, element("p", strange.length ? { class: "alarm" } : {}, said)];
}
