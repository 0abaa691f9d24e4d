// Calendar periods in an IANA time zone: half-open, without gaps, in microseconds UTC. Wall-clock
// bounds are turned into instants by the zone's own rules; a local hour that occurs twice is two
// periods, told apart by their offset.

import { PeriodError, quoted } from "./errors.js";
import { zoneNamed } from "./zones.js";

const FORMS = {
  hour: ["YYYY-MM-DDTHH", "2026-10-25T14"],
  day: ["YYYY-MM-DD", "2026-10-25"],
  week: ["YYYY-Www", "2026-W43"],
  month: ["YYYY-MM", "2026-10"],
};
const HOUR = 3600;
const DAY = 86_400;
const US = 1_000_000n;
const KNOWN_MAX = 20_000; // periods that are remembered

// Seconds since 1970 of a calendar day, or NaN if there is no such day in the years 1 to 9999.
export function secondsOfDay(year, month, day) {
  if (year < 1 || year > 9999 || month < 1 || month > 12 || day < 1) return NaN;
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  return date.getUTCDate() === day ? date.getTime() / 1000 : NaN;
}

// The calendar day of seconds since 1970.
function dayOf(seconds) {
  const date = new Date(seconds * 1000);
  return { year: date.getUTCFullYear(), month: date.getUTCMonth() + 1, day: date.getUTCDate() };
}

const FIRST = secondsOfDay(1969, 12, 1);
const LAST = secondsOfDay(9999, 1, 1);

const two = (number) => String(number).padStart(2, "0");
const four = (number) => String(number).padStart(4, "0");

// The day of the week, from Monday, 0.
function weekday(seconds) {
  return (((Math.floor(seconds / DAY) + 3) % 7) + 7) % 7;
}

// The Monday of a week after ISO 8601; NaN if the year has no such week.
function mondayOf(year, week) {
  const fourth = secondsOfDay(year, 1, 4);
  const first = fourth - weekday(fourth) * DAY;
  const monday = first + (week - 1) * 7 * DAY;
  return week >= 1 && dayOf(monday + 3 * DAY).year === year ? monday : NaN;
}

// The year and week after ISO 8601 that a Monday begins.
function weekOf(monday) {
  const { year } = dayOf(monday + 3 * DAY);
  const fourth = secondsOfDay(year, 1, 4);
  const first = fourth - weekday(fourth) * DAY;
  return `${four(year)}-W${two((monday - first) / (7 * DAY) + 1)}`;
}

export class Calendar {
  constructor(calendar, timeZone) {
    this.zone = zoneNamed(timeZone);
    this.calendar = calendar;
    this.timeZone = timeZone;
    this.known = []; // periods, by their start
    this.last = null;
  }

  // The period that an instant (in microseconds) is in, as {label, start_us, end_us}.
  periodOf(instantUs) {
    const { last, known } = this;
    if (last && last.start_us <= instantUs && instantUs < last.end_us) return last;
    let low = 0;
    let high = known.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (known[middle].start_us <= instantUs) low = middle + 1;
      else high = middle;
    }
    if (low && instantUs < known[low - 1].end_us) {
      this.last = known[low - 1];
      return this.last;
    }
    if (known.length >= KNOWN_MAX) {
      known.length = 0;
      low = 0;
    }
    const { label, start, end } = this.compute(Number(floorDiv(instantUs, US)));
    this.last = { label, start_us: BigInt(start) * US, end_us: BigInt(end) * US };
    known.splice(low, 0, this.last);
    return this.last;
  }

  // The period of a label; `PeriodError` says what form is expected.
  parse(label) {
    const [form, example] = FORMS[this.calendar];
    const wall = this.parseWall(label);
    if (!(wall > FIRST && wall < LAST)) {
      throw new PeriodError(
        `${quoted(label)} is not a ${this.calendar} of this channel's calendar`,
        `Write ${form}, as in ${example}`,
      );
    }
    const found = new Set();
    // A repeated hour may be a half one, so later minutes of the hour are tried as well.
    for (const minute of this.calendar === "hour" ? [0, 30, 45] : [0]) {
      for (const fold of [0, 1]) {
        const instant = this.zone.instant(wall + minute * 60, fold);
        const period = this.periodOf(BigInt(instant) * US);
        if (period.label === label) return period;
        if (period.label.startsWith(`${label}+`) || period.label.startsWith(`${label}-`)) {
          found.add(period.label);
        }
      }
    }
    if (!found.size)
      throw new PeriodError(`there is no ${label} in ${this.timeZone}: the clock skips it`);
    throw new PeriodError(
      `${label} occurs twice in ${this.timeZone}`,
      `Write ${[...found].join(" or ")}`,
    );
  }

  // The wall at which a label's period begins; NaN if it is not a label of this calendar.
  parseWall(label) {
    const pattern = {
      month: /^([0-9]{4})-([0-9]{2})$/,
      week: /^([0-9]{4})-W([0-9]{2})$/,
      day: /^([0-9]{4})-([0-9]{2})-([0-9]{2})$/,
      hour: /^([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2})(?:[+-][0-9]{2}:[0-9]{2})?$/,
    }[this.calendar];
    const match = pattern.exec(label);
    if (!match) return NaN;
    const [year, second, day = 1, hour = 0] = match.slice(1).map((part) => part && Number(part));
    if (this.calendar === "week") return mondayOf(year, second);
    return hour > 23 ? NaN : secondsOfDay(year, second, day) + hour * HOUR;
  }

  compute(instant) {
    const wall = this.zone.wall(instant);
    if (this.calendar === "hour") return this.hour(instant, wall);
    const today = Math.floor(wall / DAY) * DAY;
    const { year, month, day } = dayOf(today);
    let label;
    let start;
    let following;
    if (this.calendar === "month") {
      start = secondsOfDay(year, month, 1);
      following = month === 12 ? secondsOfDay(year + 1, 1, 1) : secondsOfDay(year, month + 1, 1);
      label = `${four(year)}-${two(month)}`;
    } else if (this.calendar === "week") {
      start = today - weekday(today) * DAY;
      following = start + 7 * DAY;
      label = weekOf(start);
    } else {
      start = today;
      following = today + DAY;
      label = `${four(year)}-${two(month)}-${two(day)}`;
    }
    return { label, start: this.begin(start), end: this.begin(following) };
  }

  // The first instant at which the local clock shows this wall or later.
  begin(wall) {
    const { zone } = this;
    const found = zone.instant(wall);
    if (zone.wall(found) === wall) return found;
    // The clock skips it: the period begins when the skip ends.
    let low = found - 26 * HOUR;
    let high = found + 26 * HOUR;
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if (zone.wall(middle) >= wall) high = middle;
      else low = middle;
    }
    return high;
  }

  // The run of instants around this one that show the same local hour at one offset.
  hour(instant, local) {
    const { zone } = this;
    const offset = zone.offset(instant);
    const wall = Math.floor(local / HOUR) * HOUR;
    let start = wall - offset;
    let end = start + HOUR;
    for (const { at } of zone.changesBetween(start, end)) {
      if (start < at && at <= instant) start = at;
      if (instant < at && at < end) end = at;
    }
    const { year, month, day } = dayOf(wall);
    const hour = wall / HOUR - Math.floor(wall / DAY) * (DAY / HOUR);
    let label = `${four(year)}-${two(month)}-${two(day)}T${two(hour)}`;
    if (this.twice(wall)) {
      const size = Math.abs(offset);
      const minutes = two(Math.floor((size % HOUR) / 60));
      label += `${offset < 0 ? "-" : "+"}${two(Math.floor(size / HOUR))}:${minutes}`;
    }
    return { label, start, end };
  }

  // Whether some minute of this local hour occurs at two instants.
  twice(wall) {
    const { zone } = this;
    const offsets = (minute) => [0, 1].map((fold) => zone.wallOffset(wall + minute * 60, fold));
    if (new Set([...offsets(0), ...offsets(59)]).size < 2) return false;
    return [0, 15, 30, 45, 59].some((minute) => {
      const at = wall + minute * 60;
      const [first, second] = offsets(minute);
      return zone.wall(at - first) === at && first !== second;
    });
  }
}

function floorDiv(value, by) {
  const whole = value / by;
  return value % by < 0n ? whole - 1n : whole;
}
