// What can be wrong with a file, as errors whose messages are sentences for a person. A check that
// throws one of these does not hold; any other error is a mistake of this page (checks.js).

export class TallyError extends Error {
  constructor(message, advice = "") {
    super(message);
    this.advice = advice;
  }

  get sentence() {
    return this.advice ? `${this.message}. ${this.advice}` : this.message;
  }
}

// Bytes are not in the one form that the protocol writes.
export class FormatError extends TallyError {}

// A record is not allowed by the terms or by the log before it.
export class InvalidRecord extends TallyError {}

// A signature, a proof or a total does not hold.
export class ProofError extends TallyError {}

// What a person handed in, or a name in the terms, is wrong.
export class InputError extends TallyError {}

// A label does not name a period of the terms' calendar.
export class PeriodError extends InputError {}

// Nothing is wrong with the file: this browser lacks what the check needs.
export class Unsupported extends TallyError {}

// A person stopped it: no result of a check.
export class Stopped extends Error {}

// Text as Python shows it in its messages: quoted, with what cannot be seen escaped.
export function quoted(text) {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  let shown = "";
  for (const character of text) {
    const code = character.codePointAt(0);
    if (character === quote || character === "\\") shown += `\\${character}`;
    else if (character === "\n") shown += "\\n";
    else if (character === "\r") shown += "\\r";
    else if (character === "\t") shown += "\\t";
    else if (code < 0x20 || (code >= 0x7f && code < 0xa1) || code === 0xad) {
      shown += `\\x${code.toString(16).padStart(2, "0")}`;
    } else shown += character;
  }
  return quote + shown + quote;
}
