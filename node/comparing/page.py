"""The comparison as one page: nothing in it runs, and nothing is fetched from anywhere.

It is built of functions that escape by themselves (`markup`), so what a file or a peer wrote stands
on it as text. Its policy allows the one style that is in it, by its hash, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files

from tallystick.node.comparing.drawings import (
    Bar,
    span_name,
    timeline_drawing,
    waterfall_drawing,
)
from tallystick.node.comparing.events import show_clock
from tallystick.node.comparing.markup import Child, Markup, tag, together
from tallystick.node.comparing.result import CONFIDENCES, Comparison, Finding
from tallystick.node.comparing.timeline import Timeline
from tallystick.node.comparing.words import (
    alike,
    by_weight,
    class_name,
    counted,
    differs,
    grouped,
    headline,
    kind_name,
    our_total,
    percent,
    signed,
    step_name,
    steps_of,
    their_total,
)
from tallystick.protocol.compare import Cause, MeterComparison
from tallystick.protocol.quantities import format_quantity

_STATUSES = {
    "open": "recorded, and not all of it co-signed by the peer yet",
    "co-signed": "recorded by one, held and found valid by both",
    "declared": "co-signed, and confirmed by one party's declaration",
    "agreed": "co-signed, and confirmed by both parties' declarations",
    "checkpointed": "in a closed period that both signed",
    "disputed": "disputed by one of the parties",
}

DRAWN_METERS = 12  # meters that are drawn; others that differ stand in a table

_STYLE = files("tallystick.node.comparing").joinpath("page.css").read_text("utf-8")


def render_page(comparison: Comparison) -> str:
    """The page's text."""
    found = by_weight(comparison.meters)
    drawn, rest = found[:DRAWN_METERS], found[DRAWN_METERS:]
    title = f"{comparison.file.name} against {comparison.against}, {comparison.period}"
    body = tag(
        "main",
        _top(comparison, title),
        _causes(comparison),
        *(_meter(comparison, meter, str(n)) for n, meter in enumerate(drawn, 1)),
        _others(comparison, rest),
        _examples(comparison, drawn),
        _sureness(comparison),
        _foot(comparison),
    )
    html = tag("html", _head(title), tag("body", body), lang="en")
    return f"<!doctype html>\n{html}\n"


def _head(title: str) -> Markup:
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Markup(_STYLE)),
    )


def _top(comparison: Comparison, title: str) -> Markup:
    return tag(
        "header",
        tag("p", f"{comparison.us}, in a channel with {comparison.them}", class_="over"),
        tag("h1", title),
        tag("p", headline(comparison), class_="lead"),
    )


def _causes(comparison: Comparison) -> Markup | None:
    """The causes in words."""
    if not comparison.causes:
        return None
    by_name = {meter.meter: meter for meter in comparison.meters}
    items = []
    for numbers, cause in alike(comparison.causes):
        said = tag("strong", f"{kind_name(cause).capitalize()} ({cause.confidence}). ")
        parts = [comparison.causes[number - 1] for number in numbers]
        sizes = [tag("p", _size(part, by_name[part.meter]), class_="soft") for part in parts]
        which = ", ".join(map(str, numbers))
        item = tag("div", tag("p", said, cause.says), *sizes)
        items.append(tag("li", tag("span", which, class_="number"), item))
    return tag("section", tag("h2", "Why"), tag("ol", *items, class_="causes"))


def _size(cause: Cause, meter: MeterComparison) -> str:
    """What a cause amounts to."""
    share = percent(cause.quantity, meter.difference)
    size = f"{signed(cause.quantity, meter.scale)} {meter.unit} of {cause.meter}"
    facts = (size, f"{share} of the gap" if share else "", counted(cause.events, "event"))
    return " · ".join(filter(None, facts))


def _meter(comparison: Comparison, meter: MeterComparison, key: str) -> Markup:
    """A meter's drawings, tables and verdict."""
    timeline = comparison.timelines.get(meter.meter)
    verdict = "Tolerated" if meter.within_tolerance else "Not tolerated"
    if not meter.difference:
        verdict = "Equal"
    return tag(
        "section",
        tag("h2", meter.meter),
        tag(
            "p",
            tag("span", verdict, class_=f"verdict {'ok' if meter.within_tolerance else 'bad'}"),
            f": {meter.rule}",
        ),
        tag("figure", waterfall_drawing(key, meter.meter, _bars(comparison, meter), meter.scale)),
        _steps(comparison, meter),
        *(_timeline(comparison, meter, timeline, key) if timeline else ()),
    )


def _bars(comparison: Comparison, meter: MeterComparison) -> list[Bar]:
    bars = [Bar("their total", "total", 0, meter.theirs)]
    level = meter.theirs
    for name, kind, quantity in _named_steps(comparison, meter):
        bars.append(Bar(name, kind, level, level + quantity))
        level += quantity
    return [*bars, Bar("our total", "total", 0, meter.ours)]


def _named_steps(comparison: Comparison, meter: MeterComparison) -> Iterable[tuple[str, str, int]]:
    for name, kind, quantity, _ in _all_steps(comparison, meter):
        if kind != "unexplained" or quantity:
            yield name, kind, quantity


def _all_steps(
    comparison: Comparison, meter: MeterComparison
) -> Iterable[tuple[str, str, int, str]]:
    """Each step's name, kind, quantity and events; what is unexplained comes last."""
    numbers = {id(cause): number for number, cause in enumerate(comparison.causes, 1)}
    for step in steps_of(comparison, meter):
        name = step_name(comparison, step, meter.meter)
        if step.cause:
            yield f"{numbers[id(step.cause)]} {name}", "cause", step.quantity, f"{step.events:,}"
        else:
            yield name, "rest", step.quantity, f"{step.events:,}"
    yield "unexplained", "unexplained", meter.unexplained, ""


def _steps(comparison: Comparison, meter: MeterComparison) -> Markup:
    """The waterfall as a table."""
    total = {"class_": "sum"}
    rows = [
        _row(their_total(comparison, meter), "", grouped(meter.theirs, meter.scale), "", **total)
    ]
    for name, _, quantity, events in _all_steps(comparison, meter):
        share = percent(quantity, meter.difference) if quantity else ""
        rows.append(_row(name, events, signed(quantity, meter.scale), share))
    rows.append(_row(our_total(comparison), "", grouped(meter.ours, meter.scale), "", **total))
    columns = (("step", ""), ("events", "n"), (meter.unit, "n"), ("share", "n"))
    return _table(f"{meter.meter}, from their total to ours", columns, rows)


def _row(name: str, *numbers: str, class_: str | None = None) -> Markup:
    return tag(
        "tr",
        tag("th", name, scope="row"),
        *(tag("td", number, class_="n") for number in numbers),
        class_=class_,
    )


def _table(
    caption: str, columns: Sequence[tuple[str, str]], rows: Iterable[Markup], wide: bool = False
) -> Markup:
    head = tag("tr", *(tag("th", name, scope="col", class_=kind or None) for name, kind in columns))
    table = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *rows))
    if not wide:
        return tag("div", table, class_="scroll")
    # It scrolls on a telephone, so it must be reached with keys as well.
    return tag("div", table, class_="scroll wide", role="region", aria_label=caption, tabindex="0")


def _timeline(
    comparison: Comparison, meter: MeterComparison, timeline: Timeline, key: str
) -> Iterable[Markup]:
    """Both sides over time: a key, the drawing, and its numbers for those who want them."""
    spans = timeline.spans
    yield tag("h3", f"By {spans.name}, {spans.zone}")
    yield tag(
        "ul",
        _sign(comparison.against, tag("path", d="M0 2h22v10H0z", class_="theirs")),
        _sign(comparison.file.name, tag("path", d="M0 7h22", class_="ours")),
        _sign("nothing on one side", tag("path", d="M0 2h22v10H0z", class_="gap")),
        class_="key",
    )
    yield tag("figure", timeline_drawing(key, timeline, meter.scale))
    rows = [
        _row(span_name(spans, place), *(
            grouped(theirs, meter.scale), grouped(ours, meter.scale),
            signed(ours - theirs, meter.scale),
        ))
        for place, (ours, theirs) in enumerate(zip(timeline.ours, timeline.theirs, strict=True))
    ]  # fmt: skip
    columns = ((spans.name, ""), ("theirs", "n"), ("ours", "n"), ("ours less theirs", "n"))
    table = _table(f"{meter.meter} by {spans.name}", columns, rows)
    yield tag("details", tag("summary", "The time-line’s numbers"), table)


def _sign(name: str, drawing: Markup) -> Markup:
    return tag("li", tag("svg", drawing, width="22", height="14", aria_hidden="true"), name)


def _others(comparison: Comparison, rest: Sequence[MeterComparison]) -> Markup | None:
    """The meters that are not drawn: those that differ less, and those that do not differ."""
    equal = [meter for meter in comparison.meters if not differs(meter)]
    meters = [*rest, *equal]
    if not meters:
        return None
    rows = [
        tag(
            "tr",
            tag("th", f"{meter.meter} ({meter.unit})", scope="row"),
            *(
                tag("td", text, class_="n")
                for text in (
                    grouped(meter.theirs, meter.scale),
                    grouped(meter.ours, meter.scale),
                    signed(meter.difference, meter.scale),
                    signed(meter.unexplained, meter.scale),
                )
            ),
            tag("td", meter.rule),
        )
        for meter in meters
    ]
    columns = (
        ("meter", ""), ("theirs", "n"), ("ours", "n"), ("gap", "n"), ("unexplained", "n"),
        ("by the terms", ""),
    )  # fmt: skip
    title = "Other meters" if len(meters) < len(comparison.meters) else "The meters"
    return tag(
        "section", tag("h2", title), _table(counted(len(meters), "meter"), columns, rows, wide=True)
    )


def _examples(comparison: Comparison, meters: Sequence[MeterComparison]) -> Markup | None:
    """The first events of each step of these meters."""
    scales = {meter.meter: comparison.event_scale(meter) for meter in meters}
    rows = [
        tag("tr", *_event(comparison, finding, scales[name]))
        for (name, _, _), found in comparison.examples.items()
        if name in scales
        for finding in found
    ]
    if not rows:
        return None
    columns = [(name, "") for name in ("meter", "step", "event", "ours", "theirs")]
    # The page is sent to others: what this machine's folders are called is not for them.
    file = comparison.events_file.name if comparison.events_file else "no file"
    where = f"The first events of each step; all are in {file}"
    return tag("section", tag("h2", "Events"), _table(where, columns, rows, wide=True))


def _event(comparison: Comparison, finding: Finding, scale: int) -> Iterable[Markup]:
    yield tag("th", finding.meter, scope="row")
    number = f"{finding.cause}: " if finding.cause else ""
    yield tag("td", f"{number}{class_name(comparison, finding.kind)}")
    yield tag("td", finding.id or finding.subject, class_="id")
    for where, place, at, quantity in (
        ("row", finding.our_place, finding.our_at, finding.our_quantity),
        ("record", finding.their_place, finding.their_at, finding.their_quantity),
    ):
        said: Child = None
        if at is not None and quantity is not None:
            said = f"{format_quantity(quantity, scale)} at {show_clock(at)}, {where} {place}"
        yield tag("td", said)


def _sureness(comparison: Comparison) -> Markup:
    """How sure each number is."""
    rows = [
        *(
            _said(f"their total of {meter}", f"{status}: {_STATUSES[status]}")
            for meter, status in comparison.statuses.items()
        ),
        _said("our total", "this file's: nobody has signed it, and only we have seen it"),
        _said("gap, steps, unexplained", "exact: computed from both, and they add up"),
        _said("causes", _confidences(comparison)),
        *(
            _said(f"pairs of {meter}", _pairs(counts))
            for meter, counts in comparison.pairing.items()
        ),
    ]
    if comparison.rejected:
        rows.append(
            _said(
                "left out",
                f"{counted(comparison.rejected, 'row')} of the file that cannot be read; the first:"
                f" {comparison.first_reject}",
            )
        )
    return tag(
        "section",
        tag("h2", "How sure each number is"),
        _table("What stands behind them", (("number", ""), ("sure", "")), rows),
    )


def _said(name: str, text: str) -> Markup:
    return tag("tr", tag("th", name, scope="row"), tag("td", text))


def _pairs(counts: Mapping[str, int]) -> str:
    """How sure a meter's pairs are, and how many events have no partner."""
    told = [f"{counts[name]:,} {name}" for name in CONFIDENCES if counts[name]] or ["none"]
    alone = counts["unpaired_ours"], counts["unpaired_theirs"]
    return f"{', '.join(told)}; without a partner {alone[0]:,} of ours, {alone[1]:,} of theirs"


def _confidences(comparison: Comparison) -> str:
    found = [cause.confidence for cause in comparison.causes]
    parts = [f"{found.count(name)} {name}" for name in CONFIDENCES if name in found]
    return ", ".join(parts) or "none was found"


def _foot(comparison: Comparison) -> Markup:
    return tag(
        "footer",
        tag(
            "p",
            "A step with a number is a cause: one thing about two systems that explains many"
            " events. Other steps are events for which no such thing was found. ",
            together("Made by ", tag("code", "tally compare"), "; times of events are UTC."),
        ),
    )
