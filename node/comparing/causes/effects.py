"""Effects: what each cause contributes to ours minus theirs, event by event, in whole units.

A pair is followed from their event to ours in one order, always the same: their name and quantity
at their time; renamed; at the time that our zone makes of it; at our time; times the factor;
rounded; what is left. Each step's change of what the period counts is that step's effect, so the
steps of a pair add up to the pair's whole difference, whatever the hypotheses are.
"""

from __future__ import annotations

from tallystick.node.comparing.causes.found import Found
from tallystick.node.comparing.tables import Tables

FINDINGS = """CREATE TABLE findings (meter VARCHAR, kind VARCHAR, id VARCHAR, subject VARCHAR,
    op BIGINT, oat BIGINT, oq HUGEINT, tp BIGINT, tat BIGINT, tq HUGEINT,
    effect HUGEINT, confidence VARCHAR, step VARCHAR, ours BIGINT, theirs BIGINT, cause INTEGER)"""


REACH_MAX_US = 12 * 3_600_000_000  # no lag makes pairing look further than this


def quoted(text: str) -> str:
    """A text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


def shift_sql(found: Found, theirs: str, ours: str, value: str = "shift") -> str:
    """By how much our clock is ahead of theirs for an event at these instants; or the cause."""
    if not found.offsets or found.clocks is None:
        return "0::BIGINT" if value == "shift" else "NULL::INTEGER"
    at = theirs if found.clocks.side == "theirs" else ours
    cases = "".join(
        f" WHEN {at} >= {s.since_us} AND {at} < {s.until_us}"
        f" THEN {s.shift_us if value == 'shift' else number}"
        for s, number in found.offsets
    )
    return f"(CASE{cases} ELSE {'0' if value == 'shift' else 'NULL'} END)"


def _late_sql(found: Found, rest: str) -> str:
    """The lag or cut-off, if what the zones leave over is within its bounds."""
    if found.late is None or found.clocks is None:
        return "NULL::INTEGER"
    low, high = late_bounds(found)
    return f"(CASE WHEN {rest} BETWEEN {low} AND {high} THEN {found.late} END)"


def late_bounds(found: Found) -> tuple[int, int]:
    """Between what our time minus theirs may be, zones aside; nothing but 0 without a lag."""
    if found.clocks is None:
        return 0, 0
    late = found.clocks.lag or found.clocks.cut_off
    return (late.low_us, late.high_us) if late else (0, 0)


def _factor_sql(found: Found, meter: str, subject: str, what: str) -> str:
    cases = ""
    for factor, number in found.factors:
        names = ", ".join(quoted(name) for name in factor.subjects)
        only = f" AND {subject} IN ({names})" if names else ""
        value = {
            "num": str(factor.value.numerator),
            "den": str(factor.value.denominator),
            "cause": str(number),
        }[what]
        cases += f" WHEN {meter} = {quoted(factor.meter)}{only} THEN {value}"
    otherwise = "NULL" if what == "cause" else "1"
    return f"(CASE{cases} ELSE {otherwise} END)" if cases else f"{otherwise}::INTEGER"


def _rounding_sql(found: Found, meter: str, per: tuple[str, ...]) -> str:
    """The rounding that explains what a factor leaves over, if that is less than a step."""
    cases = ""
    for rounding, number in found.roundings:
        if rounding.per in per:
            unit = "den" if rounding.side == "ours" else "num"
            far = f"abs(full_o * den - full_t * num) <= {rounding.step}::HUGEINT * {unit}"
            cases += f" WHEN {meter} = {quoted(rounding.meter)} AND {far} THEN {number}"
    return f"(CASE{cases} ELSE NULL END)" if cases else "NULL::INTEGER"


def _plain(quantity: str) -> str:
    """The nearest whole number to a quantity times the factor."""
    return f"(sign({quantity})::HUGEINT * ((2 * abs({quantity}) * num + den) // (2 * den)))"


def seen_quantities(found: Found) -> tuple[str, str]:
    """What pairing shall take their quantity and ours for: with the factor, in the same steps."""
    num = _factor_sql(found, "as_meter", "subject", "num") + "::HUGEINT"
    den = _factor_sql(found, "as_meter", "subject", "den") + "::HUGEINT"
    seen = {"theirs": _scaled("full_quantity", num, den, 1, "nearest"), "ours": "full_quantity"}
    if not found.factors:
        seen["theirs"] = "full_quantity"
    for rounding, _ in found.roundings:
        if rounding.per != "event":
            continue
        step, mode = rounding.step, rounding.mode
        whole = [f.value for f, _ in found.factors if f.meter == rounding.meter and not f.subjects]
        if rounding.side == "ours":
            made = _scaled("full_quantity", num, den, step, mode)
        else:
            up, down = (whole[0].numerator, whole[0].denominator) if whole else (1, 1)
            back = _scaled("full_quantity", str(down), str(up), step, mode)
            made = _scaled(f"({back})", str(up), str(down), 1, "nearest")
        side = "theirs" if rounding.side == "ours" else "ours"
        meter = quoted(rounding.meter)
        seen[side] = f"(CASE WHEN as_meter = {meter} THEN {made} ELSE {seen[side]} END)"
    return seen["theirs"], seen["ours"]


def _scaled(quantity: str, num: str, den: str, step: int, mode: str) -> str:
    """A quantity times a fraction, in whole steps."""
    unit = f"({den} * {step})"
    extra = {"down": "0", "nearest": f"{unit} // 2", "up": f"{unit} - 1"}[mode]
    return f"(({quantity}::HUGEINT * {num} + {extra}) // {unit} * {step})"


def find_effects(tables: Tables, found: Found) -> None:
    """Make `findings` of all that differs: one row for each step of each pair that has an effect,
    and one for each event without a partner.
    """
    tables.db.execute(FINDINGS)
    inside = f"({{0}} >= {tables.start_us} AND {{0}} < {tables.end_us})"
    _make_joined(tables, found, inside)
    _from_pairs(tables, found)
    _make_summed(tables, found, inside)
    _from_sums(tables, found)
    _alone(tables, inside, found)


def _make_joined(tables: Tables, found: Found, inside: str) -> None:
    """Make `followed`: the pairs that differ, with what their steps need."""
    num, den, cause = (
        _factor_sql(found, "t.meter", "t.subject", what) for what in ("num", "den", "cause")
    )
    tables.db.execute(
        f"""
        CREATE OR REPLACE TEMP VIEW joined AS
        SELECT *, CASE WHEN fcause IS NULL THEN full_t ELSE {_plain("full_t")} END AS fq,
            {_rounding_sql(found, "tm", ("event",))} AS rcause
        FROM (
            SELECT *, a2 - a1 AS rest, {_late_sql(found, "a2 - a1")} AS lcause,
                {inside.format("a0")}::INTEGER AS in0, {inside.format("a1")}::INTEGER AS in1,
                {inside.format("a2")}::INTEGER AS in2,
                CASE WHEN counts THEN 1 ELSE oq + o_more END AS full_o,
                CASE WHEN counts THEN 1 ELSE tq + t_more END AS full_t
            FROM (
                SELECT p.ours, p.theirs, p.confidence, p.step, o.meter AS om, t.meter AS tm,
                    k.aggregate = 'count' AS counts, coalesce(o.id, t.id) AS id, o.subject,
                    o.place AS op, o.instant AS a2, o.quantity::HUGEINT AS oq, o.outcome,
                    t.place AS tp, t.instant AS a0, t.quantity::HUGEINT AS tq,
                    t.instant + {shift_sql(found, "t.instant", "o.instant")} AS a1,
                    {shift_sql(found, "t.instant", "o.instant", "cause")} AS ocause,
                    CASE WHEN k.aggregate = 'count' THEN 0 ELSE coalesce(ro.more, 0) END AS o_more,
                    CASE WHEN k.aggregate = 'count' THEN 0 ELSE coalesce(rt.more, 0) END AS t_more,
                    CASE WHEN k.aggregate = 'count' THEN 1 ELSE {num} END::HUGEINT AS num,
                    CASE WHEN k.aggregate = 'count' THEN 1 ELSE {den} END::HUGEINT AS den,
                    CASE WHEN k.aggregate <> 'count' THEN {cause} END AS fcause
                FROM pairs p JOIN ours o ON o.event = p.ours JOIN theirs t ON t.event = p.theirs
                    JOIN kinds k ON k.meter = t.meter
                    LEFT JOIN carried ro ON ro.side = 'ours' AND ro.carrier = o.event
                    LEFT JOIN carried rt ON rt.side = 'theirs' AND rt.carrier = t.event)
            WHERE {inside.format("a0")} OR {inside.format("a1")} OR {inside.format("a2")});
        CREATE OR REPLACE TEMP TABLE followed AS
        SELECT *, CASE WHEN in2 = 1 AND in0 = 0 AND fcause IS NULL AND rcause IS NULL
            THEN full_o ELSE full_t END AS w FROM joined
        WHERE in0 <> in1 OR in1 <> in2 OR full_o <> full_t OR om <> tm OR o_more <> 0 OR t_more <> 0
        """
    )


_PAIR = "id, subject, op, a2, oq, tp, a0, tq, {effect}, confidence, step, ours, theirs, {cause}"


def _from_pairs(tables: Tables, found: Found) -> None:
    """The steps of each pair. See the file's head for their order."""
    renamed = _renamed_sql(found)
    ours_split, theirs_split = (
        " ".join(
            f"WHEN {meter} = {quoted(names.name)} THEN {number}"
            for names, number in found.meter_names
            if names.form == "split" and names.side == side
        )
        for side, meter in (("ours", "om"), ("theirs", "tm"))
    )
    steps = [
        ("tm", "'missing-here'", "-in0 * full_t", renamed, "om <> tm AND in0 = 1"),
        ("om", "'missing-there'", "in0 * full_t", renamed, "om <> tm AND in0 = 1"),
        ("tm", "'quantity'", "in0 * t_more", _case(theirs_split), "in0 * t_more <> 0"),
        ("om", "'timing'", "(in1 - in0) * w", "ocause", "in1 <> in0"),
        ("om", "'timing'", "(in2 - in1) * w", "lcause", "in2 <> in1"),
        ("om", "'quantity'", "fq - w", "fcause", "in2 = 1 AND fcause IS NOT NULL AND fq <> w"),
        ("om", "'rounding'", "full_o - fq", "rcause",
            "in2 = 1 AND rcause IS NOT NULL AND fq <> full_o"),
        ("om", "'quantity'", "full_o - CASE WHEN fcause IS NULL THEN w ELSE fq END", "NULL",
            "in2 = 1 AND rcause IS NULL AND"
            " full_o <> CASE WHEN fcause IS NULL THEN w ELSE fq END"),
        ("om", "'quantity'", "-in2 * o_more", _case(ours_split), "in2 * o_more <> 0"),
    ]  # fmt: skip
    for meter, kind, effect, cause, where in steps:
        columns = _PAIR.format(effect=effect, cause=cause)
        tables.db.execute(
            f"INSERT INTO findings SELECT {meter}, {kind}, {columns} FROM followed WHERE {where}"
        )


def _renamed_sql(found: Found) -> str:
    """The cause of a pair across meters."""
    cases = " ".join(
        f"WHEN om = {quoted(names.other)} OR tm = {quoted(names.other)} THEN {number}"
        for names, number in found.meter_names
        if names.form != "split"
    )
    return _case(cases)


def _late_number(found: Found) -> str:
    return "NULL::INTEGER" if found.late is None else str(found.late)


def _case(cases: str) -> str:
    return f"(CASE {cases} END)" if cases else "NULL"


def _make_summed(tables: Tables, found: Found, inside: str) -> None:
    """Sums against their parts: the sum's side counts all of it at once, the other part by part."""
    for side, other in (("ours", "theirs"), ("theirs", "ours")):
        whole_o, whole_t = ("qw", "qp") if side == "ours" else ("qp", "qw")
        om, tm = ("w.meter", "g.meter") if side == "ours" else ("g.meter", "w.meter")
        num, den, cause = (
            _factor_sql(found, tm, "w.subject", what) for what in ("num", "den", "cause")
        )
        tables.db.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE summed_{side} AS
            SELECT *, CASE WHEN fcause IS NULL THEN full_t ELSE {_plain("full_t")} END AS fq,
                {_rounding_sql(found, "tm", ("session", "hour", "day", "sum", "event"))} AS rcause
            FROM (
                SELECT g.whole, g.confidence, {om} AS om, {tm} AS tm, w.id, w.subject,
                    w.place, w.instant, w.quantity::HUGEINT AS qw, g.qp, g.qin,
                    {whole_o} AS full_o, {whole_t} AS full_t,
                    {inside.format("w.instant")}::INTEGER AS inw,
                    {num}::HUGEINT AS num, {den}::HUGEINT AS den, {cause} AS fcause
                FROM (SELECT whole, any_value(confidence) AS confidence,
                        any_value(e.meter) AS meter,
                        sum(e.quantity::HUGEINT) AS qp,
                        coalesce(sum(e.quantity::HUGEINT)
                            FILTER ({inside.format("e.instant")}), 0) AS qin
                    FROM groups g JOIN {other} e ON e.event = g.part
                    WHERE g.side = '{side}' GROUP BY whole) g
                JOIN {side} w ON w.event = g.whole)
            """
        )


def _from_sums(tables: Tables, found: Found) -> None:
    """The steps of each sum, in the order of those of a pair."""
    renamed = _renamed_sql(found)
    clock = f"coalesce({shift_sql(found, 'instant', 'instant', 'cause')}, {_late_number(found)})"
    for side in ("ours", "theirs"):
        here = (
            "place, instant, qw, NULL, NULL, qp"
            if side == "ours"
            else "NULL, NULL, qp, place, instant, qw"
        )
        events = "whole, NULL" if side == "ours" else "NULL, whole"
        counted = "qin" if side == "ours" else "inw * full_t"
        timing = "inw * full_t - qin" if side == "ours" else "qin - inw * full_o"
        for meter, kind, effect, cause, where in (
            ("tm", "missing-here", f"-{counted}", renamed, f"om <> tm AND {counted} <> 0"),
            ("om", "missing-there", counted, renamed, f"om <> tm AND {counted} <> 0"),
            ("om", "timing", timing, clock, f"{timing} <> 0"),
            ("om", "quantity", "inw * (fq - full_t)", "fcause", "inw * (fq - full_t) <> 0"),
            ("om", "rounding", "inw * (full_o - fq)", "rcause",
                "rcause IS NOT NULL AND inw * (full_o - fq) <> 0"),
            ("om", "quantity", "inw * (full_o - fq)", "NULL",
                "rcause IS NULL AND inw * (full_o - fq) <> 0"),
        ):  # fmt: skip
            tables.db.execute(
                f"INSERT INTO findings SELECT {meter}, '{kind}', id, subject, {here}, {effect},"
                f" confidence, 'sum', {events}, {cause} FROM summed_{side} WHERE {where}"
            )


def _alone(tables: Tables, inside: str, found: Found) -> None:
    """What has no partner: ours is a copy or missing there, theirs a copy or missing here."""
    effect = "CASE WHEN aggregate = 'count' THEN 1 ELSE quantity::HUGEINT END"
    riding = " ".join(
        f"WHEN s.meter = {quoted(names.other)} THEN {number}"
        for names, number in found.meter_names if names.form == "split"
    )  # fmt: skip
    for side, kind in (("ours", "missing-there"), ("theirs", "missing-here")):
        here, nothing = "place, instant, quantity", "NULL, NULL, NULL"
        sides = f"{here}, {nothing}" if side == "ours" else f"{nothing}, {here}"
        events = "s.event, NULL" if side == "ours" else "NULL, s.event"
        sign = "" if side == "ours" else "-"
        doubles = "OR s.event IN (SELECT event FROM doubles)" if side == "ours" else ""
        tables.db.execute(
            f"""
            INSERT INTO findings
            SELECT s.meter, CASE WHEN r.event IS NOT NULL {doubles} THEN 'duplicate'
                    ELSE '{kind}' END, id, subject, {sides}, {sign}({effect}), NULL, NULL, {events},
                CASE WHEN v.event IS NOT NULL THEN {_case(riding)} END
            FROM {side} s JOIN kinds USING (meter)
                LEFT JOIN echoes r ON r.side = '{side}' AND r.event = s.event
                LEFT JOIN riders v ON v.side = '{side}' AND v.event = s.event
            WHERE {inside.format("s.instant")}
                AND NOT EXISTS (FROM pairs WHERE {side} = s.event)
                AND NOT EXISTS (FROM groups g WHERE g.side = '{side}' AND whole = s.event)
                AND NOT EXISTS (FROM groups g WHERE g.side <> '{side}' AND part = s.event)
            """
        )
