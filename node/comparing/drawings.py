"""The page's drawings, as SVG that is as wide as its place: positions across are percentages.

Text keeps its size on a telephone and on paper; only curves are stretched. Every drawing has a
title and a description for those who hear it, and its numbers stand in a table beside it. Colours
come from the page's style, and nothing is told by colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tallystick.node.comparing.columns import cropped
from tallystick.node.comparing.markup import Markup, tag, together
from tallystick.node.comparing.timeline import Spans, Timeline
from tallystick.node.comparing.words import grouped, signed
from tallystick.protocol.periods import zone_named
from tallystick.protocol.quantities import format_quantity

LABEL = 28  # columns of a step's name
EXACT = 16  # characters of a quantity that is written in full
_STEP, _BAR = 42, 14  # a row of the waterfall, and its bar
_PLOT, _STRIP = 150, 44  # the time-line's curves, and the differences below
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_THIN = 0.2  # percent; a bar without width is not drawn at all
_SIZES = ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k"))
_FORMS = {"minute": "%H:%M", "hour": "%H:%M", "day": "%m-%d"}


@dataclass(frozen=True, slots=True)
class Bar:
    """A row of a waterfall: from one level to another; a total's first level is zero."""

    name: str
    kind: str  # "total", "cause", "rest" or "unexplained"
    start: int
    end: int


def compact(value: int, scale: int) -> str:
    """A quantity in a few characters: three digits and a power of ten."""
    size = abs(value) / 10**scale
    sign = "-" if value < 0 else ""
    if size >= 1e21:
        return f"{sign}{size:.1e}"
    for power, letter in _SIZES:
        if size >= 0.9995 * 10**power:
            return f"{sign}{size / 10**power:.3g} {letter}"
    if size and size < 0.001:
        return f"{sign}{size:.1e}"
    return f"{sign}{size:.3g}"


def moment(instant_us: int, zone: str, form: str) -> str:
    """An instant on the zone's clock."""
    return (_EPOCH + timedelta(microseconds=instant_us)).astimezone(zone_named(zone)).strftime(form)


def waterfall_drawing(key: str, meter: str, bars: Sequence[Bar], scale: int) -> Markup:
    """The steps from their total to ours as bars; the axis begins near them, not at zero."""
    base, top, cut = _axis(bars)

    def across(value: int) -> float:
        return 0.5 + 98 * (value - base) / (top - base)

    joins: list[Markup] = []
    rows: list[Markup] = []
    for place, bar in enumerate(bars):
        y = place * _STEP
        start = base if bar.kind == "total" else bar.start
        low, high = sorted((across(start), across(bar.end)))
        wide = max(high - low, _THIN)
        way = "total" if bar.kind == "total" else "up" if bar.end >= bar.start else "down"
        rows += [
            tag("text", cropped(bar.name, LABEL), x="0", y=y + 13),
            tag("text", _size(bar, scale), x="100%", y=y + 13, class_="end"),
            tag(
                "rect", x=f"{low:.3f}%", y=y + 19, width=f"{wide:.3f}%", height=_BAR,
                class_=f"bar {bar.kind} {way}",
            ),
        ]  # fmt: skip
        if bar.kind == "total" and cut:
            rows.append(_cut(y + 19))
        if place + 1 < len(bars):
            edge = f"{across(bar.end):.3f}%"
            joins.append(
                tag("line", x1=edge, x2=edge, y1=y + 19 + _BAR, y2=y + _STEP + 19, class_="join")
            )
    told = "; ".join(f"{bar.name} {format_quantity(bar.end - bar.start, scale)}" for bar in bars)
    if cut:
        told += ". The bars of the totals are cut: the axis does not begin at zero"
    title = f"{meter}: from their total to ours"
    return _drawing(f"fall-{key}", title, told, len(bars) * _STEP, joins + rows)


def _size(bar: Bar, scale: int) -> str:
    """What a bar amounts to, exact where there is room for it."""
    if bar.kind == "total":
        size = grouped(bar.end, scale)
        return size if len(size) <= EXACT else compact(bar.end, scale)
    size = signed(bar.end - bar.start, scale)
    if len(size) <= EXACT:
        return size
    return f"{'+' if bar.end > bar.start else ''}{compact(bar.end - bar.start, scale)}"


def _axis(bars: Sequence[Bar]) -> tuple[int, int, bool]:
    """Where the axis begins and ends, and whether it leaves zero out."""
    levels = [level for bar in bars for level in (bar.start, bar.end) if bar.kind != "total"]
    levels += [bar.end for bar in bars if bar.kind == "total"]
    low, high = min(levels), max(levels)
    span = max(high - low, 1)
    if low > span:  # from zero on, the steps would hardly be seen
        return low - span // 3 - 1, high + span // 50 + 1, True
    return min(low, 0), max(high, 0, min(low, 0) + 1), False


def _cut(y: int) -> Markup:
    """The two strokes that say that a bar is longer than it is drawn."""
    path = tag("path", d=f"M1 {_BAR + 2} L6 -2 M6 {_BAR + 2} L11 -2", class_="cut")
    return tag("svg", path, x="3%", y=y, width="12", height=_BAR, overflow="visible")


def timeline_drawing(key: str, timeline: Timeline, scale: int) -> Markup:
    """Both sides over time, the theirs as an area and ours as a line; below, ours less theirs."""
    spans = timeline.spans
    every = [*timeline.ours, *timeline.theirs, 0]
    low, high = min(every), max(every)
    gaps = [ours - theirs for ours, theirs in zip(timeline.ours, timeline.theirs, strict=True)]
    worst = max(map(abs, gaps)) or 1
    top = 18
    strip = top + _PLOT + 40
    height = strip + _STRIP + 8
    low_text = f"ours less theirs, up to {compact(worst, scale)}"
    parts = [
        tag("text", compact(high, scale), x="0", y=12, class_="soft"),
        *_empty_spans(timeline, top),
        _curves(timeline, low, high, top),
        tag("line", x1="0", x2="100%", y1=top + _PLOT, y2=top + _PLOT, class_="axis"),
        *_hours(spans, top + _PLOT + 15),
        tag("line", x1="0", x2="100%", y1=strip + _STRIP / 2, y2=strip + _STRIP / 2, class_="axis"),
        *_strip(gaps, worst, strip),
        *_veils(spans, top, strip + _STRIP),
        tag("text", low_text, x="0", y=strip - 6, class_="soft"),
        *_hover(timeline, scale, top, strip + _STRIP),
    ]  # fmt: skip
    title = f"{timeline.meter}: both sides by {spans.name}"
    return _drawing(f"time-{key}", title, _said(timeline), height, parts)


def _said(timeline: Timeline) -> str:
    """The time-line in a sentence."""
    spans = timeline.spans
    pairs = list(zip(timeline.ours, timeline.theirs, strict=True))[1:-1]
    unequal = sum(ours != theirs for ours, theirs in pairs)
    here = sum(not ours and bool(theirs) for ours, theirs in pairs)
    there = sum(bool(ours) and not theirs for ours, theirs in pairs)
    return (
        f"In {unequal} of {len(pairs)} {spans.name}s the two sides' totals differ; in {here} only"
        f" ours has nothing, in {there} only theirs has. The table has each."
    )


def _empty_spans(timeline: Timeline, top: int) -> list[Markup]:
    """Bands where one side has nothing and the other does."""
    width = 100 / len(timeline.spans)
    return [
        tag(
            "rect", x=f"{place * width:.3f}%", width=f"{width:.3f}%", y=top, height=_PLOT,
            class_="gap",
        )
        for place, (ours, theirs) in enumerate(zip(timeline.ours, timeline.theirs, strict=True))
        if bool(ours) != bool(theirs)
    ]  # fmt: skip


def _curves(timeline: Timeline, low: int, high: int, top: int) -> Markup:
    """Both curves in a box of their own, which is stretched to the drawing's width."""
    many = len(timeline.spans)

    def up(value: int) -> str:
        return f"{_PLOT - _PLOT * (value - low) / ((high - low) or 1):.2f}"

    def steps(values: Sequence[int]) -> str:
        return " ".join(f"V{up(value)} H{place + 1}" for place, value in enumerate(values))

    area = f"M0 {up(0)} {steps(timeline.theirs)} V{up(0)} Z"
    line = f"M0 {up(timeline.ours[0])} {steps(timeline.ours)}"
    return tag(
        "svg",
        tag("path", d=area, class_="theirs"),
        tag("path", d=line, class_="ours", vector_effect="non-scaling-stroke"),
        x="0", y=top, width="100%", height=_PLOT, viewBox=f"0 0 {many} {_PLOT}",
        preserveAspectRatio="none",
    )  # fmt: skip


def _hours(spans: Spans, y: int) -> list[Markup]:
    """When the period begins, its middle and its end, on the terms' clock."""
    width = 100 / len(spans)
    form = _FORMS[spans.name]
    last = len(spans) - 1
    middle = (1 + last) // 2
    places = ((1, "start"), (middle, "middle"), (last, "end"))
    return [
        tag("text", moment(spans.bounds[place], spans.zone, form), x=f"{place * width:.3f}%", y=y,
            class_=f"soft {anchor}")
        for place, anchor in places
    ]  # fmt: skip


def _strip(gaps: Sequence[int], worst: int, top: int) -> list[Markup]:
    """A bar for each difference, up where we have more."""
    width, half = 100 / len(gaps), _STRIP / 2
    bars = []
    for place, gap in enumerate(gaps):
        size = max(half * abs(gap) / worst, 1.0)
        if gap:
            bars.append(
                tag(
                    "rect", x=f"{(place + 0.1) * width:.3f}%", width=f"{0.8 * width:.3f}%",
                    y=f"{top + half - (size if gap > 0 else 0):.2f}", height=f"{size:.2f}",
                    class_=f"bar {'up' if gap > 0 else 'down'}",
                )
            )  # fmt: skip
    return bars


def _veils(spans: Spans, top: int, bottom: int) -> list[Markup]:
    """What is outside the period is pale."""
    width = 100 / len(spans)
    return [
        tag(
            "rect", x=f"{place * width:.3f}%", width=f"{width:.3f}%", y=top - 2,
            height=bottom - top + 2, class_="veil",
        )
        for place in (0, len(spans) - 1)
    ]  # fmt: skip


def _hover(timeline: Timeline, scale: int, top: int, bottom: int) -> list[Markup]:
    """What a pointer at a span is told."""
    spans = timeline.spans
    width = 100 / len(spans)
    areas = []
    for place, (ours, theirs) in enumerate(zip(timeline.ours, timeline.theirs, strict=True)):
        said = (
            f"{span_name(spans, place)}: theirs {format_quantity(theirs, scale)},"
            f" ours {format_quantity(ours, scale)}"
        )
        areas.append(
            tag("g", tag("title", said), tag(
                "rect", x=f"{place * width:.3f}%", width=f"{width:.3f}%", y=top,
                height=bottom - top, class_="touch",
            ))
        )  # fmt: skip
    return areas


def span_name(spans: Spans, place: int) -> str:
    """A span as the table calls it."""
    form = "%Y-%m-%d" if spans.name == "day" else "%Y-%m-%d %H:%M"
    name = moment(spans.bounds[place], spans.zone, form)
    return f"{name} (outside)" if place in (0, len(spans) - 1) else name


def _drawing(key: str, title: str, told: str, height: int, parts: Sequence[Markup]) -> Markup:
    return tag(
        "svg",
        tag("title", title, id=f"{key}-title"),
        tag("desc", told, id=f"{key}-told"),
        together(*parts),
        role="img", width="100%", height=height, aria_labelledby=f"{key}-title {key}-told",
    )  # fmt: skip
