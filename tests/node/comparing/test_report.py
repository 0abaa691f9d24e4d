"""The report goes from their total to ours, in 80 columns."""

from __future__ import annotations

from pathlib import Path

from tallystick.node.comparing.comparison import Comparison
from tallystick.node.comparing.findings import Finding
from tallystick.node.comparing.report import render_comparison
from tallystick.protocol.compare import ClassTotal, MeterComparison

AT = 1_790_805_600_000_000
RULE = "above the tolerance of 1234.00 GPU-hour (0.5% of the provider's number)"


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
            {("gpu-hours", "timing"): findings}, 0, "", Path("/exports/usage.differences.csv"),
        )
    )  # fmt: skip


def test_the_waterfall_in_order_and_exact() -> None:
    lines = [" ".join(line.split()) for line in _render().splitlines()]
    steps = [
        "their total 10,000,000.00",
        "in another period 2 events -125,000.00",
        "other quantity 1 event +1.00",
        "unexplained +1,000.00",
        "our total 9,876,001.00",
    ]
    first = lines.index(steps[0])
    assert lines[first : first + 5] == steps
    assert lines[first + 5].startswith("DIFFERS: -123,999.00 GPU-hour, above")


def test_long_names_stay_within_80_columns() -> None:
    text = _render("i" * 128, "u" * 32)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "usage.differences.csv" in text
