// Quantities: integers in a meter's scale as we count them, decimals as people read them.

import { FormatError, quoted } from "./errors.js";

// The decimal text of an integer in the scale: 1250 at scale 2 is `12.50`.
export function formatQuantity(value, scale) {
  if (!scale) return String(value);
  const digits = String(value < 0n ? -value : value).padStart(scale + 1, "0");
  return `${value < 0n ? "-" : ""}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
}

// The integer of a total as `formatQuantity` writes it; `FormatError` for anything else.
export function parseTotal(text, scale) {
  const point = text.indexOf(".");
  const digits = point < 0 ? text : text.slice(0, point) + text.slice(point + 1);
  // 128 bits, in which totals are kept, are 39 digits.
  if (/^-?[0-9]{1,39}$/.test(digits)) {
    const value = BigInt(digits);
    if (formatQuantity(value, scale) === text) return value;
  }
  const shown = quoted(Array.from(text).slice(0, 60).join(""));
  throw new FormatError(`${shown} is not a decimal with ${scale} places`);
}
