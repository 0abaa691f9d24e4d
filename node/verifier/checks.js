// Numbered checks: what a verifier shows, whatever it is that it verifies. A verifier is a table of
// short functions in order. Each returns a sentence on what it found or throws; one runs when those
// that it needs have held, so one fault is reported once, by the check that caught it.

import { Stopped, TallyError, Unsupported } from "./errors.js";

// What a check found that it could not judge: nothing is wrong, and who reads it must say whom he
// trusts.
export class Unjudged {
  constructor(detail) {
    this.detail = detail;
  }
}

// The checks' results as {number, name, ok, detail}, each as soon as it is done. `known` is what
// the checks establish on their way; steps are [name, numbers of those that it needs, function].
// `failed` is filled with the checks that do not hold, and the check that each is due to.
export async function* runChecks(known, steps, failed = new Map(), first = 1) {
  let number = first - 1;
  for (const [name, needs, run] of steps) {
    number += 1;
    const due = needs.find((need) => failed.has(need));
    if (due !== undefined) {
      const cause = failed.get(due);
      failed.set(number, cause);
      yield { number, name, ok: false, detail: `not reached: check ${cause} failed` };
      continue;
    }
    let check;
    try {
      const found = await run(known);
      const judged = !(found instanceof Unjudged);
      check = { number, name, ok: true, detail: judged ? found : found.detail, judged };
    } catch (error) {
      if (error instanceof Stopped) throw error;
      failed.set(number, number);
      check = {
        number,
        name,
        ok: false,
        detail: sentenceOf(error),
        unsupported: error instanceof Unsupported,
      };
    }
    yield { ...check, detail: shown(check.detail) };
  }
}

// What is wrong, in a sentence. Any other error is a mistake of this page or a limit of the
// browser, and the check does not hold either.
export function sentenceOf(error) {
  if (error instanceof TallyError) return error.sentence;
  return `this page could not finish the check: ${error?.message ?? error}`;
}

function shown(text) {
  return text.replace(
    /[\x00-\x1f\x7f-\x9f]/g,
    (found) => `\\x${found.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}
