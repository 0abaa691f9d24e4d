"""Comparisons of every shape that a report must tell well: for the tests of what people see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tallystick.node.comparing.result import Comparison, Finding
from tallystick.node.comparing.timeline import Spans, Timeline
from tallystick.protocol.compare import Cause, ClassTotal, MeterComparison

AT = 1_790_805_600_000_000
ABOVE = "above the tolerance of 1844 token (0.01% of the provider's number)"
WITHIN = "within the tolerance of 1844 token (0.01% of the provider's number)"
LAG = "Events are booked 90 s later here: 5 that the record has before 19:00 fell after it."
FEED = "From 18:20:00 to 18:24:59 there is no event here; the record has 197."
RETRY = "Events are here again within 2 s, with another id: retries counted as new."
FACTOR = "Quantities of subject batch are a thousandth of the record's: thousands, not single ones."


def meter(
    name: str = "context-tokens",
    *,
    theirs: int = 18_444_477,
    gap: int = 0,
    classes: dict[str, ClassTotal] | None = None,
    within: bool = False,
    unit: str = "token",
    scale: int = 0,
) -> MeterComparison:
    """A meter that our file has `gap` more of than the record."""
    rule = WITHIN if within else ABOVE
    return MeterComparison(
        name,
        unit,
        scale,
        theirs + gap,
        theirs,
        classes or {},
        within,
        rule if gap else "no difference",
    )


def cause(
    kind: str, klass: str, quantity: int, events: int, says: str, name: str = "context-tokens"
) -> Cause:
    """A likely cause."""
    return Cause(kind, name, klass, quantity, events, "likely", {"class": "retried"}, says)


def comparison(
    *meters: MeterComparison,
    causes: tuple[Cause, ...] = (),
    file: str = "beta.csv",
    rejected: int = 0,
) -> Comparison:
    """A comparison of such meters, with an example of each class."""
    examples = {
        (found.meter, klass, None): [_finding(found.meter, klass)]
        for found in meters
        for klass in found.classes
    }
    return Comparison(
        Path("/exports") / file,
        "2026-10-14T18",
        "beta.example",
        "acme.example",
        meters,
        examples,
        rejected,
        "row 7, ContextTokens: '1,5' is not a decimal number" if rejected else "",
        Path(f"/exports/{file}.2026-10-14T18.differences.csv") if examples else None,
        causes,
        statuses=dict.fromkeys((found.meter for found in meters), "co-signed"),
    )


def with_timeline(made: Comparison) -> Comparison:
    """The comparison with a day by the hour of each meter, with a gap and a shift in it."""
    spans = Spans("hour", "Europe/Berlin", tuple(AT + n * 3_600_000_000 for n in range(27)))
    shape = [400 + 37 * (n * n % 23) + 90 * min(n, 26 - n) for n in range(26)]
    ours = [0 if n in (9, 10) else shape[n - 1] if n > 18 else shape[n] for n in range(26)]
    lines = {m.meter: Timeline(m.meter, spans, tuple(ours), tuple(shape)) for m in made.meters}
    return replace(made, timelines=lines)


def _finding(name: str, klass: str) -> Finding:
    return Finding(name, klass, "conv-1640", "conv", 7, AT, 1033, 9, AT - 90_000_000, 1033, -1033)


def _four() -> Comparison:
    classes = {
        "timing": ClassTotal(-6_652, 5),
        "missing-here": ClassTotal(-22_828, 209),
        "duplicate": ClassTotal(5_640, 7),
        "quantity": ClassTotal(-41_000, 31),
        "rounding": ClassTotal(12, 904),
    }
    causes = (
        cause("factor", "quantity", -41_000, 31, FACTOR),
        cause("missing-feed", "missing-here", -20_800, 197, FEED),
        cause("lag", "timing", -6_652, 5, LAG),
        cause("retry", "duplicate", 5_640, 7, RETRY),
    )
    return comparison(meter(gap=-64_828, classes=classes), causes=causes)


def _many() -> Comparison:
    found = [meter(f"meter-{n:02}", theirs=10_000 * n + 1) for n in range(12)]
    for n in range(18):
        classes = {"missing-here": ClassTotal(-7 * n - 7, n + 1)}
        within = n % 3 == 0
        found.append(
            meter(f"region-{n:02}", theirs=90_000, gap=-7 * n - 7, classes=classes, within=within)
        )
    return comparison(
        *found, causes=(cause("missing-feed", "missing-here", -120, 9, FEED, "region-17"),)
    )


def samples() -> dict[str, Comparison]:
    """A comparison of each shape, by what it shows."""
    lost = {"missing-here": ClassTotal(-22_828, 209)}
    feed = cause("missing-feed", "missing-here", -20_800, 197, FEED)
    wide = {"missing-there": ClassTotal(10**22, 3), "rounding": ClassTotal(-1, 2)}
    return {
        "agree": comparison(meter(), meter("generated-tokens", theirs=3_138_185)),
        "cancel": comparison(
            meter(
                classes={"missing-here": ClassTotal(-9, 1), "missing-there": ClassTotal(9, 1)},
                within=True,
            )
        ),
        "no cause": comparison(meter(gap=-22_828, classes=lost), rejected=2),
        "one cause": comparison(meter(gap=-22_828, classes=lost), causes=(feed,)),
        "unsure": replace(
            comparison(meter(gap=-22_828, classes=lost)),
            pairing={
                "context-tokens": {
                    "certain": 9_000,
                    "likely": 31,
                    "possible": 0,
                    "unpaired_ours": 0,
                    "unpaired_theirs": 209,
                }
            },
        ),
        "tolerated": comparison(
            meter(gap=-9, classes={"missing-here": ClassTotal(-9, 1)}, within=True)
        ),
        "four causes": _four(),
        "thirty meters": _many(),
        "nearly cancelled": comparison(
            meter(
                gap=3,
                classes={
                    "missing-here": ClassTotal(-40_000, 9),
                    "missing-there": ClassTotal(40_003, 9),
                },
            )
        ),
        "all unexplained": comparison(meter("peak", gap=500, unit="GPU-hour", scale=2)),
        "huge": comparison(
            meter(
                "bytes",
                theirs=9_223_372_036_854_775_807 * 10**6,
                gap=10**22 - 1,
                classes=wide,
                unit="byte",
                scale=6,
            )
        ),
        "tiny": comparison(
            meter(
                "gib",
                theirs=9 * 10**18,
                gap=-1,
                classes={"rounding": ClassTotal(-1, 1)},
                unit="GiB",
                scale=9,
            ),
            causes=(
                cause(
                    "rounding", "rounding", -1, 1, "Each day is rounded down here, to 0.001.", "gib"
                ),
            ),
        ),
        "from nothing": comparison(
            meter(theirs=0, gap=12, classes={"missing-there": ClassTotal(12, 2)})
        ),
        "long and wide": comparison(
            meter("計量" * 20, gap=-22_828, classes=lost, unit="トークン" * 8),
            causes=(
                cause(
                    "rename-subject",
                    "missing-here",
                    -20_800,
                    197,
                    "プロジェクト七 is called проект-7 there, " * 3,
                    "計量" * 20,
                ),
            ),
            file="輸出" * 30 + ".csv",
        ),
        "hostile": comparison(
            meter(
                "<script>alert(1)</script>",
                gap=-22_828,
                classes=lost,
                unit="\"'><img src=x onerror=alert(1)>",
            ),
            causes=(
                cause(
                    "missing-feed",
                    "missing-here",
                    -20_800,
                    197,
                    "\x1b[31m</style><b>&amp;\u202eevil",
                    "<script>alert(1)</script>",
                ),
            ),
            file="</title><script>x.csv",
        ),
    }
