// The page: files come in by a drop or a choice, are verified one after the other, and the results
// are shown and announced.

import { sentenceOf } from "./checks.js";
import { Stopped } from "./errors.js";
import { arranged, checksOf } from "./kinds.js";
import { Pace } from "./pace.js";
import { agreesWithTheBrowser } from "./sha256.js";
import { browserVerifies, parseVkey } from "./signatures.js";
import { Result, element } from "./view.js";

const find = (id) => document.getElementById(id);

let run = 0; // the newest run; one that is not it stops
let shown = 0; // results so far, for their ids

// What this browser lacks to verify anything, in a sentence; empty if it has all.
async function whatIsMissing() {
  if (!globalThis.isSecureContext || !globalThis.crypto?.subtle) {
    return (
      "Open this page as a file, or over https: over plain http browsers do not let it verify" +
      " signatures."
    );
  }
  if (!(await agreesWithTheBrowser()))
    return "This browser does not compute as it should (SHA-256).";
  if (!(await browserVerifies())) {
    return (
      "This browser cannot verify Ed25519 signatures. Use a current Chrome, Edge, Firefox or" +
      " Safari."
    );
  }
  return "";
}

// The keys in the text field; what is none is said beside it.
function expectedKeys() {
  const keys = [];
  const faults = [];
  for (const row of find("vkeys").value.split(/\s+/).filter(Boolean)) {
    try {
      keys.push(parseVkey(row));
    } catch (error) {
      faults.push(sentenceOf(error));
    }
  }
  find("vkeys-fault").textContent = faults.join(" ");
  find("vkeys").setAttribute("aria-invalid", String(faults.length > 0));
  return keys;
}

function showProgress(what, done) {
  find("progress").hidden = false;
  find("progress-what").textContent = what.charAt(0).toUpperCase() + what.slice(1);
  find("progress-bar").value = done;
}

// Verify files that were handed over, and show the results in place of the ones before.
async function verifyFiles(files) {
  run += 1;
  const mine = run;
  const results = find("results");
  results.replaceChildren();
  const pace = new Pace((what, done) => {
    if (mine !== run) throw new Stopped();
    showProgress(what, done);
  });
  const expected = expectedKeys();
  const said = [];
  try {
    const { proofs, alone } = await arranged(files);
    for (const file of alone) {
      results.append(
        element(
          "p",
          { class: "alarm" },
          `${file.name} belongs to a proof, which is not among these files.`,
        ),
      );
    }
    if (proofs.some(needsKeys) && !expected.length) find("expect").open = true;
    for (const proof of proofs) {
      showProgress(`Reading ${proof.file.name}`, 0);
      const { says } = await verifyOne(proof, expected, pace, results, () => mine !== run);
      said.push(`${proof.file.name}: ${says}`);
    }
  } catch (error) {
    if (!(error instanceof Stopped)) {
      const text = `These files could not be read: ${sentenceOf(error)}`;
      results.append(element("p", { class: "alarm" }, text));
      said.push(text);
    }
  } finally {
    pace.end();
  }
  if (mine !== run) return;
  find("progress").hidden = true;
  find("announced").textContent = said.join(" ");
  results.scrollIntoView({ block: "nearest" });
}

function needsKeys({ kind }) {
  return ["delta proof", "line proof", "checkpoint", "passthrough", "seal"].includes(kind);
}

async function verifyOne(proof, expected, pace, results, stopped) {
  shown += 1;
  const result = new Result(proof.file, proof.kind, shown);
  results.append(result.article);
  const known = {};
  try {
    for await (const check of checksOf(proof, expected, pace, known)) {
      if (stopped()) throw new Stopped();
      result.add(check);
    }
  } catch (error) {
    result.stop();
    throw error;
  }
  return result.finish(known, expected);
}

// The checks of files as data, for scripts: an array of {file, kind, checks}.
async function checked(files, keys = []) {
  const pace = new Pace();
  const found = [];
  try {
    const { proofs } = await arranged(files);
    for (const proof of proofs) {
      const checks = [];
      for await (const check of checksOf(proof, keys.map(parseVkey), pace)) checks.push(check);
      found.push({ file: proof.file.name, kind: proof.kind, checks });
    }
  } finally {
    pace.end();
  }
  return found;
}

function listen() {
  const drop = find("drop");
  const chosen = find("files");
  let handed = [];
  const take = (files) => {
    handed = [...files];
    if (!handed.length) return;
    verifyFiles(handed);
    find("progress").scrollIntoView({ block: "nearest" });
  };
  chosen.addEventListener("change", () => {
    take(chosen.files);
    chosen.value = ""; // so that the same file can be chosen again
  });
  find("vkeys").addEventListener("change", () => {
    if (handed.length) verifyFiles(handed);
    else expectedKeys();
  });
  find("stop").addEventListener("click", () => {
    run += 1;
    find("progress").hidden = true;
    find("announced").textContent = "Stopped.";
    chosen.focus();
  });
  // A file that is dropped beside the field must not replace the page.
  for (const name of ["dragover", "drop"]) {
    document.addEventListener(name, (event) => event.preventDefault());
  }
  document.addEventListener("dragover", () => drop.classList.add("over"));
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    take(event.dataTransfer.files);
  });
}

async function start() {
  const missing = await whatIsMissing();
  if (missing) {
    find("unable").textContent = missing;
    find("unable").hidden = false;
    find("hand-over").hidden = true;
  } else {
    listen();
    globalThis.tallystick = { checked };
  }
  document.documentElement.dataset.ready = String(!missing);
}

start();
