"""The report tells the story in 80 columns, from their total to ours, exactly."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import comparisons
import pytest
from rich.cells import cell_len

from tallystick.node.comparing.page import render_page
from tallystick.node.comparing.report import render_comparison
from tallystick.node.comparing.result import Comparison, Finding
from tallystick.protocol.compare import ClassTotal, MeterComparison

AT = 1_790_805_600_000_000
RULE = "above the tolerance of 1234.00 GPU-hour (0.5% of the provider's number)"
SAMPLES = comparisons.samples()


def _render(name: str = "evt-1", unit: str = "GPU-hour") -> str:
    classes = {"timing": ClassTotal(-12_500_000, 2), "quantity": ClassTotal(100, 1)}
    meter = MeterComparison(
        "gpu-hours", unit, 2, 987_600_100, 1_000_000_000, classes, False, RULE
    )  # fmt: skip
    findings = [
        Finding("gpu-hours", "timing", name, "s", 1, AT, 6_250_000, 2, AT, 6_250_000, -6_250_000)
    ]
    return render_comparison(
        Comparison(
            Path("usage.csv"), "2026-10", "beta.example", "acme.example", [meter],
            {("gpu-hours", "timing", None): findings}, 0, "",
            Path("/exports/usage.differences.csv"),
        )
    )  # fmt: skip


def test_the_waterfall_in_order_and_exact() -> None:
    lines = [" ".join(line.split()) for line in _render().splitlines()]
    steps = [
        "their total 10,000,000.00",
        "in another period 2 -125,000.00 101%",
        "other quantity 1 +1.00 -<1%",
        "unexplained +1,000.00 -<1%",
        "our total (usage.csv) 9,876,001.00",
    ]
    first = lines.index(steps[0])
    assert lines[first : first + 5] == steps
    assert lines[first + 5].startswith("DIFFERS: above")


def test_long_names_stay_within_80_columns() -> None:
    text = _render("i" * 128, "u" * 32)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "usage.differences.csv" in text


@pytest.mark.parametrize("name", SAMPLES)
def test_every_shape_fits_80_columns_and_moves_no_cursor(name: str) -> None:
    lines = render_comparison(SAMPLES[name]).splitlines()
    paths = [line for line in lines if "/exports/" in line]  # a path is never broken
    assert max(cell_len(line) for line in lines if line not in paths) <= 80
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_waterfall_on_the_terminal_adds_up(name: str) -> None:
    number = re.compile(r"  .*?([+-]?[\d,]+(?:\.\d+)?)(?: +[-~<>\d.]+%)?$")
    falls = re.findall(
        r"^  their total.*?^  our total[^\n]*", render_comparison(SAMPLES[name]), re.M | re.S
    )
    for fall in falls:
        numbers = [number.fullmatch(line) for line in fall.splitlines()]
        values = [
            int(found[1].replace(",", "").replace(".", ""))
            for found in numbers
            if found is not None
        ]
        assert len(values) == len(fall.splitlines())
        assert sum(values[:-1]) == values[-1]
    assert falls or name == "agree"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("agree", "agree in 2026-10-14T18: 2 meters, nothing differs."),
        ("cancel", "count the same in 2026-10-14T18, but 2 events differ, and cancel out."),
        ("one cause", "91% is a missing feed, 9% is events missing here; nothing is unexplained."),
        ("tolerated", "The terms tolerate it."),
        ("all unexplained", "GPU-hours more than the record in 2026-10-14T18 (+0.0027%): all of"),
        ("nearly cancelled", "+40,003 is events missing there, -40,000 is events missing here;"),
        ("huge", "nearly all of it is events missing there, under 1% is in smaller steps;"),
        ("thirty meters", "In region-17, beta.csv counts 126 tokens less"),
        ("thirty meters", "17 other meters differ."),
        ("thirty meters", "12 meters without any difference"),
        ("from nothing", "(none there)"),
        ("four causes", "2 likely: From 18:20:00 to 18:24:59 there is no event here;"),
        ("unsure", "Pairs of events: 9,000 certain, 31 likely."),
    ],
)  # fmt: skip
def test_what_the_report_says(name: str, told: str) -> None:
    assert told in " ".join(render_comparison(SAMPLES[name]).split())


def test_a_cause_of_several_meters_is_told_once() -> None:
    meters = [
        comparisons.meter(name, gap=-9, classes={"missing-here": ClassTotal(-9, 1)})
        for name in ("a", "b")
    ]
    causes = tuple(
        comparisons.cause("missing-feed", "missing-here", -9, 1, comparisons.FEED, name)
        for name in ("a", "b")
    )
    text = render_comparison(comparisons.comparison(*meters, causes=causes))
    assert text.count("From 18:20:00") == 1
    assert "1, 2 likely: From" in text


def test_an_event_of_a_count_is_shown_in_its_own_scale() -> None:
    calls = comparisons.meter("calls", gap=1, classes={"missing-there": ClassTotal(1, 1)})
    made = replace(comparisons.comparison(calls), scales={"calls": 2})
    assert "10.33 here at" in render_comparison(made)
    assert "10.33 at" in render_page(made)


def test_a_private_export_is_never_called_the_record() -> None:
    made = comparisons.comparison(
        comparisons.meter(
            gap=-30,
            classes={
                "missing-here": ClassTotal(-40, 2),
                "missing-there": ClassTotal(5, 1),
                "duplicate": ClassTotal(5, 1),
            },
        )
    )
    told = render_comparison(
        replace(made, against="the export of acme.example", of_exports=True, statuses={})
    )
    assert "30 tokens less than the export of acme.example in" in told.replace("\n", " ")
    assert "record" not in told
    for name in ("their export's total", "our export's total (beta.csv)", "missing in ours",
                 "missing in theirs", "counted twice"):  # fmt: skip
        assert f"  {name}" in told
