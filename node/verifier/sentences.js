// The result in one sentence, in words for people who have never seen a check, and what follows.

const HOLDS = {
  certificate: "It is proved that the time which the terms give passed in silence.",
  "delta proof": "It is proved that this record is in the log that both parties signed.",
  "line proof": "It is proved that both parties signed this line.",
  checkpoint: "Both parties signed this checkpoint, by the keys that you expect.",
  passthrough: "It is proved that what was sold here was bought, to the last digit.",
  seal: "It is proved that what this seal is on was bought, to the last digit.",
};

const NAMES = {
  bundle: "a bundle",
  statement: "a statement with a bundle inside",
  invoice: "an invoice",
  evidence: "evidence",
  refutation: "a refutation",
  certificate: "a certificate",
  "delta proof": "the proof of a delta",
  "line proof": "the proof of a balance line",
  checkpoint: "a checkpoint’s note",
  passthrough: "the proof of a passthrough",
  seal: "the seal on a passthrough’s proof",
};

// What the file is, to be put before its name.
export function nameOf(kind) {
  return NAMES[kind];
}

// The result of all checks: `state` is good, bad or open (this browser cannot say), and two
// sentences.
export function resultOf(kind, checks, known) {
  const failed = checks.find((check) => !check.ok);
  if (!failed) {
    return { state: "good", says: held(kind, known), follows: further(kind, known, checks) };
  }
  const others = checks.filter((check) => !check.ok && !check.detail.startsWith("not reached"));
  if (others.every((check) => check.unsupported)) {
    if (kind === "statement" && others.every((check) => check.name === "pages")) {
      return {
        state: "open",
        says: `The bundle inside holds: ${signers(known)} both signed what is shown below.`,
        follows:
          "Whether the pages of this file show the same, this page cannot tell. Rely on the" +
          " numbers below, or compare the pages with tally verify.",
      };
    }
    return {
      state: "open",
      says: "This browser cannot check all of it.",
      follows:
        "Nothing was found to be wrong, and nothing is proved." +
        ` Check ${failed.number}, ${failed.name}: ${failed.detail}.`,
    };
  }
  const cause = others.find((check) => !check.unsupported);
  return {
    state: "bad",
    says: `Not proven: check ${cause.number}, ${cause.name}, does not hold.`,
    follows: `${capital(cause.detail)}${/[.!?]$/.test(cause.detail) ? "" : "."}`,
  };
}

function held(kind, known) {
  if (kind === "evidence") {
    const did =
      known.accused.part === "author"
        ? "signed two histories of its log"
        : "co-signed two histories of one log";
    return `This is proof that ${known.accused.party} ${did}.`;
  }
  if (kind === "refutation") {
    return `This refutes the accusation of ${known.accused.party}: what it signed is one history.`;
  }
  if (kind !== "bundle") return HOLDS[kind];
  const who = signers(known);
  const { period } = known.checkpoint;
  return known.compact
    ? `Every check holds: ${who} both signed this statement of ${period}.`
    : `Every check holds: ${who} both signed this statement of ${period}, and the records give` +
        " the same numbers.";
}

function signers({ terms }) {
  return `${terms.provider.name} and ${terms.consumer.name}`;
}

function further(kind, known, checks) {
  if (kind === "bundle" && known.compact) {
    return (
      "The bundle is compact: it has no records, so this shows what was signed, not that it was" +
      " added up rightly. A full bundle shows both."
    );
  }
  const own =
    "It rests on the keys in its own terms. Compare the channel below with the one that you know.";
  if (kind === "certificate") return `${capital(checks[checks.length - 1].detail)}. ${own}`;
  if (kind === "bundle" || kind === "evidence" || kind === "refutation") return own;
  return "It rests on the keys that you pasted.";
}

export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

// What a check shows of its outcome, as [class, words].
export function outcomeOf(check) {
  if (check.ok) return check.judged === false ? ["open", "not judged"] : ["ok", "holds"];
  if (check.unsupported) return ["open", "cannot say"];
  return check.detail.startsWith("not reached") ? ["open", "not run"] : ["fails", "FAILS"];
}
