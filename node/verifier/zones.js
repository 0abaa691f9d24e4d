// A time zone by the browser's own data (Intl): what a local clock shows at an instant, and at
// which instant it shows a time. Instants are whole seconds since 1970 in UTC, *walls* whole
// seconds since 1970 as the local clock counts them; both are Numbers, and offsets are wall less
// instant.

import { PeriodError, Unsupported, quoted } from "./errors.js";
import { writtenName } from "./zone_names.js";

const DAY = 86_400;
const NAME_MAX = 64;
const DAYS_MAX = 100_000; // that are remembered
const NAME = /^[A-Za-z0-9_+-]+(?:\/[A-Za-z0-9_+-]+){0,3}$/;

const zones = new Map();

// The zone of an IANA name; `PeriodError` if there is none, `Unsupported` if the browser has no
// data for it.
export function zoneNamed(name) {
  if (!zones.has(name)) zones.set(name, new Zone(name));
  return zones.get(name);
}

class Zone {
  constructor(name) {
    const none = new PeriodError(
      `there is no time zone ${quoted(name)}`,
      "Use an IANA name, as in Europe/Berlin",
    );
    if (name.length > NAME_MAX || !NAME.test(name)) throw none;
    const written = writtenName(name);
    if (written ? written !== name : !/^[A-Za-z]/.test(name)) throw none;
    try {
      this.format = new Intl.DateTimeFormat("en-US", {
        timeZone: name,
        calendar: "gregory",
        numberingSystem: "latn",
        hourCycle: "h23",
        year: "numeric",
        month: "numeric",
        day: "numeric",
        hour: "numeric",
        minute: "numeric",
        second: "numeric",
      });
    } catch {
      if (!written) throw none;
      throw new Unsupported(
        `this browser has no data for the time zone ${name}, so its periods cannot be checked here`,
        "Use another browser, or `tally verify`",
      );
    }
    this.atDays = new Map(); // offsets at the midnights of UTC, by the day's number
    this.changes = new Map(); // the change of offset within a day, by its number
  }

  // What the browser says the offset is.
  asked(instant) {
    const found = {};
    for (const { type, value } of this.format.formatToParts(instant * 1000))
      found[type] = Number(value);
    const day = Date.UTC(found.year, found.month - 1, found.day) / 1000;
    return day + found.hour * 3600 + found.minute * 60 + found.second - instant;
  }

  atDay(day) {
    if (this.atDays.size >= DAYS_MAX) this.atDays.clear();
    if (!this.atDays.has(day)) this.atDays.set(day, this.asked(day * DAY));
    return this.atDays.get(day);
  }

  // The change of offset between two midnights of UTC, as {at, before, after}; null if there is
  // none. No zone has had two within a day.
  changeIn(day) {
    if (this.changes.has(day)) return this.changes.get(day);
    if (this.changes.size >= DAYS_MAX) this.changes.clear();
    const before = this.atDay(day);
    const after = this.atDay(day + 1);
    let change = null;
    if (before !== after) {
      let low = day * DAY;
      let high = low + DAY;
      while (high - low > 1) {
        const middle = Math.floor((low + high) / 2);
        if (this.asked(middle) === before) low = middle;
        else high = middle;
      }
      change = { at: high, before, after };
    }
    this.changes.set(day, change);
    return change;
  }

  // The changes of offset in the days from one instant to another.
  changesBetween(from, to) {
    const found = [];
    for (let day = Math.floor(from / DAY); day <= Math.floor(to / DAY); day += 1) {
      const change = this.changeIn(day);
      if (change) found.push(change);
    }
    return found;
  }

  offset(instant) {
    const day = Math.floor(instant / DAY);
    const change = this.changeIn(day);
    if (!change) return this.atDay(day);
    return instant < change.at ? change.before : change.after;
  }

  wall(instant) {
    return instant + this.offset(instant);
  }

  // The offset that a wall is read with. What the clock shows twice is the first (fold 0) or the
  // second time (fold 1); what it skips is read with the offset before (0) or after the skip (1).
  wallOffset(wall, fold) {
    let offset = this.atDay(Math.floor(wall / DAY) - 2);
    for (const { at, before, after } of this.changesBetween(wall - 2 * DAY, wall + 2 * DAY)) {
      const shown = at + (fold ? Math.min(before, after) : Math.max(before, after));
      if (wall >= shown) offset = after;
    }
    return offset;
  }

  instant(wall, fold = 0) {
    return wall - this.wallOffset(wall, fold);
  }
}
