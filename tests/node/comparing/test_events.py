"""The files of events: whole or not at all, and adding up to the report, cause by cause."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import builders
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.node.comparing.events import write_csv, write_parquet
from tallystick.node.comparing.explaining import explained
from tallystick.node.comparing.result import Finding
from tallystick.node.comparing.tables import Event
from tallystick.node.errors import StoreError
from tallystick.protocol.periods import Period
from tallystick.protocol.quantities import format_quantity

METERS = {
    "hours": builders.meter("hours", scale=2),
    "calls": builders.meter("calls", aggregate="count"),
    "peak": builders.meter("peak", aggregate="max"),
}
HOUR_US = 3_600_000_000
AT = 1_790_805_600_000_001
ODD = '=1+1,"q"\n\'é\u202e計'
FINDINGS = [
    Finding("hours", "timing", "a", "s", 7, AT, 1250, 9, AT - 1, 1250, -1250, "certain", 1),
    Finding("hours", "timing", "b", ODD, 8, AT, 100, 10, AT, 100, -40, "likely", 2),
    Finding("hours", "timing", "b", ODD, 8, AT, 100, 10, AT, 100, -60, "likely", None),
    Finding("hours", "missing-here", None, "s", None, None, None, 3, AT, 2**70, -(2**70)),
    Finding("calls", "missing-there", ODD, "s", 4, AT, 5, None, None, None, 1),
    Finding("peak", "quantity", "c", "s", 4, AT, 5, 4, AT, 6, -1, "certain", None),
]


def _csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_both_files_say_the_same(tmp_path: Path) -> None:
    write_csv(tmp_path / "e.csv", FINDINGS, METERS)
    write_parquet(tmp_path / "e.parquet", FINDINGS, METERS)
    rows = pyarrow.parquet.read_table(tmp_path / "e.parquet").to_pylist()
    for row in rows:
        for name in ("our_time", "record_time"):
            row[name] = row[name] and row[name].isoformat(timespec="microseconds")
        for name in ("id", "subject"):  # a spreadsheet would run what an engine only reads
            row[name] = row[name] and row[name].replace(ODD, f"'{ODD}")
    written = [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows]
    assert written == _csv(tmp_path / "e.csv")
    assert written[1] == {
        "meter": "hours", "class": "timing", "cause": "2", "confidence": "likely", "id": "b",
        "subject": f"'{ODD}", "our_row": "8", "our_time": "2026-09-30T22:00:00.000001+00:00",
        "our_quantity": "1.00", "record_index": "10", "record_quantity": "1.00", "effect": "-0.40",
        "record_time": "2026-09-30T22:00:00.000001+00:00",
    }  # fmt: skip
    assert [row["effect"] for row in written[3:]] == [format_quantity(-(2**70), 2), "1", ""]


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("timing", "quantity")), st.none() | st.integers(1, 3), st.integers()
        ),
        max_size=30,
    )
)
def test_a_cause_s_rows_add_up_to_it_exactly(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[str, int | None, int]]
) -> None:
    path = tmp_path_factory.mktemp("events")
    findings = [
        Finding("hours", klass, "a", "s", 1, AT, 5, 2, AT, 5, effect, "certain", cause)
        for klass, cause, effect in parts
    ]
    wanted: Counter[tuple[str, str]] = Counter()
    for klass, cause, effect in parts:
        wanted[klass, "" if cause is None else str(cause)] += effect
    write_csv(path / "e.csv", findings, METERS)
    write_parquet(path / "e.parquet", findings, METERS)
    tables = (_csv(path / "e.csv"), pyarrow.parquet.read_table(path / "e.parquet").to_pylist())
    for rows in tables:
        sums: Counter[tuple[str, str]] = Counter()
        for row in rows:
            cause = "" if row["cause"] is None else str(row["cause"])
            sums[row["class"], cause] += int(row["effect"].replace(".", ""))
        assert +sums == +wanted
        assert -sums == -wanted


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "e.parquet"
    with pytest.raises(StoreError, match=r"gone/e\.parquet cannot be written: No such file"):
        write_parquet(path, FINDINGS, METERS)


def test_the_rows_of_each_cause_that_was_found_add_up_to_it(tmp_path: Path) -> None:
    meter = builders.meter("tokens")
    period = Period("p", 10**15, 10**15 + 4 * HOUR_US)
    record = [
        Event(n, f"e-{n}", "tokens", "s", 100 + n % 37, period.start_us + n * 4_000_000)
        for n in range(3600)
    ]
    ours = [e._replace(at=e.at + 90_000_000) for e in record if not 1800 <= e.place < 2000]
    ours += [e._replace(id=f"{e.id}-r1", at=e.at + 1_000_000) for e in ours[::30]]
    ours.pop(5)
    ours = [event._replace(place=place) for place, event in enumerate(ours)]
    with explained([meter], period, [ours], [record], tmp_path) as explainer:
        (found,), causes = explainer.comparisons("consumer")
        write_csv(tmp_path / "e.csv", explainer.findings(), explainer.meters)
        write_parquet(tmp_path / "e.parquet", explainer.findings(), explainer.meters)
    assert {cause.kind for cause in causes} == {"lag", "missing-feed", "retry"}
    parts = {str(n): (c.klass, c.quantity) for n, c in enumerate(causes, 1)}
    for rows in (
        _csv(tmp_path / "e.csv"),
        pyarrow.parquet.read_table(tmp_path / "e.parquet").to_pylist(),
    ):
        sums: Counter[tuple[str, str]] = Counter()
        for row in rows:
            sums[row["class"], str(row["cause"] or "")] += int(row["effect"])
        assert {n: (klass, sums[klass, n]) for n, (klass, _) in parts.items()} == parts
        for klass, total in found.classes.items():
            assert sum(part for (name, _), part in sums.items() if name == klass) == total.quantity
        assert sum(sums.values()) + found.unexplained == found.difference
