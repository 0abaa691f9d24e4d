"""Comparing where ids do not help, where maxima do not add up, and between two real nodes."""

from __future__ import annotations

import csv
import errno
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import builders
import nodes
import pyarrow.parquet
import pytest
from explaining import classes, explained

from tallystick.node.comparing.events import write_differences
from tallystick.node.comparing.explaining import Explainer
from tallystick.node.comparing.result import Finding
from tallystick.node.comparing.tables import Event
from tallystick.node.errors import StoreError
from tallystick.protocol.records import Meter

START, END = 1_000_000_000, 2_000_000_000  # a period of a thousand seconds
TOKENS = builders.meter("tokens")  # events match within two seconds
PEAK = builders.meter("tokens", aggregate="max")
CALLS = builders.meter("tokens", aggregate="count", scale=2)


def _event(place: int, second: float, quantity: int = 5, id_: str | None = None) -> Event:
    return Event(place, id_, "tokens", "s", quantity, START + int(second * 1_000_000))


def _matched(
    ours: list[Event], theirs: list[Event], meter: Meter = TOKENS
) -> AbstractContextManager[Explainer]:
    return explained(ours, theirs, meter, START, END)


def _found(explainer: Explainer) -> list[tuple[str, int | None, int | None]]:
    return [(f.kind, f.our_place, f.their_place) for f in explainer.findings()]


def test_a_loss_at_the_boundary_is_not_taken_for_timing() -> None:
    record = [_event(0, 999.5), _event(1, 1000.5)]
    with _matched([_event(1, 1000.5)], record) as explainer:
        assert _found(explainer) == [("missing-here", None, 0)]


def test_the_very_event_that_is_missing_is_named() -> None:
    record = [_event(0, 8.5), _event(1, 10)]
    with _matched([_event(1, 10)], record) as explainer:
        assert _found(explainer) == [("missing-here", None, 0)]
    with _matched([_event(1, 10.1)], record) as explainer:
        assert _found(explainer) == [("missing-here", None, 0)]


def test_a_steady_lag_within_the_window_leaves_nothing_over() -> None:
    record = [_event(n, 10 + 3 * n) for n in range(50)]
    ours = [_event(n, 11.9 + 3 * n) for n in range(50)]
    with _matched(ours, record) as explainer:
        assert _found(explainer) == []


def test_a_copy_is_a_duplicate_on_either_side_of_its_twin() -> None:
    for copy in (8.5, 11.5):
        ours = [_event(1, 10), _event(2, copy)]
        with _matched(ours, [_event(0, 10)]) as explainer:
            assert _found(explainer) == [("duplicate", 2, None)]


def test_a_copy_without_an_id_of_an_event_paired_by_id() -> None:
    ours = [_event(1, 10, id_="a"), _event(2, 10)]
    with _matched(ours, [_event(0, 10, id_="a")]) as explainer:
        assert _found(explainer) == [("duplicate", 2, None)]


def test_an_id_of_its_own_makes_another_event() -> None:
    ours = [_event(1, 10, id_="a"), _event(2, 10, id_="b")]
    with _matched(ours, [_event(0, 10, id_="a")]) as explainer:
        assert _found(explainer) == [("missing-there", 2, None)]


def test_a_maximum_goes_to_the_class_that_explains_it() -> None:
    ours = [_event(1, 500, 9, "a"), _event(2, 600, 3, "b")]
    record = [_event(0, 700, 2, "c"), _event(1, 600, 3, "b")]
    with _matched(ours, record, PEAK) as explainer:
        totals = {kind: (t.quantity, t.events) for kind, t in classes(explainer).items()}
    assert totals == {"missing-here": (0, 1), "missing-there": (6, 1)}


def test_a_maximum_that_takes_two_classes_stays_unexplained() -> None:
    ours = [_event(1, 500, 9, "a"), _event(2, 600, 8, "b"), _event(3, 700, 1, "c")]
    record = [_event(1, 600, 7, "b"), _event(2, 700, 1, "c")]
    with _matched(ours, record, PEAK) as explainer:
        assert [t.quantity for t in classes(explainer).values()] == [0, 0]


def test_a_count_has_no_quantities_to_differ() -> None:
    with _matched([_event(1, 1, 9, "a")], [_event(0, 1, 3, "a")], CALLS) as explainer:
        assert _found(explainer) == []


def test_many_copies_and_bursts() -> None:
    size = 50_000
    record = [_event(n, 10) for n in range(size)]
    late = [_event(n, 11) for n in range(2 * size)]
    with _matched(late, record) as explainer:
        total = classes(explainer)["duplicate"]
        assert (total.quantity, total.events) == (5 * size, size)


FINDING = Finding("tokens", "missing-there", "a", "s", 1, START, 900, None, None, None, 1)


def test_a_count_s_effect_has_no_decimals(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    assert write_differences(path, iter([FINDING]), {"tokens": CALLS}) == 1
    with path.open(newline="") as lines:
        (row,) = csv.DictReader(lines)
    assert (row["our_quantity"], row["effect"]) == ("9.00", "1")


def test_a_full_disk_leaves_the_old_events_file_and_no_other(tmp_path: Path) -> None:
    def findings() -> Iterator[Finding]:
        yield FINDING
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "events.csv"
    path.write_text("before")
    with pytest.raises(StoreError, match="No space left"):
        write_differences(path, findings(), {"tokens": CALLS})
    assert [file.name for file in tmp_path.iterdir()] == ["events.csv"]
    assert path.read_text() == "before"


MAP = """\
time = { column = "time" }
id = { column = "id" }
subject = { value = "s" }
[[meter]]
meter = "generated-tokens"
quantity = { column = "q" }
"""


def test_an_export_with_everything_wrong_against_a_real_record(
    pair: tuple[nodes.Party, nodes.Party], tmp_path: Path
) -> None:
    acme, beta = pair
    rows = [[f"2026-03-01 05:{n:02}:00", f"cp-{n}", str(10 + n)] for n in range(20)]
    (tmp_path / "map.toml").write_text(MAP)

    def written(name: str, lines: list[list[str]]) -> str:
        with (tmp_path / name).open("w", newline="") as out:
            csv.writer(out).writerows([["time", "id", "q"], *lines])
        return str(tmp_path / name)

    mapping = str(tmp_path / "map.toml")
    acme.tally("import", written("all.csv", rows), "--map", mapping, "--wait")
    lost, doubled, late, off = 3, 5, 7, 9
    mine = [list(row) for n, row in enumerate(rows) if n != lost] + [rows[doubled]]
    mine[late - 1][0] = "2026-03-01 06:00:01"
    mine[off - 1][2] = str(10 + off + 1)
    arguments = (written("mine.csv", mine), "--map", mapping, "--period", "2026-03-01T05")

    done = beta.tally("compare", *arguments, check=False)
    assert done.returncode == 1
    assert all(len(line) <= 80 or " " not in line.strip() for line in done.stdout.splitlines())
    document = beta.tally("compare", *arguments, "--json", check=False).stdout
    assert document.count("events_file") == 1
    with (tmp_path / "mine.csv.2026-03-01T05.differences.csv").open(newline="") as lines:
        found = {(row["class"], row["id"], row["effect"]) for row in csv.DictReader(lines)}
    assert found == {
        ("missing-here", "cp-3", "-13"),
        ("duplicate", "cp-5", "15"),
        ("timing", "cp-7", "-17"),
        ("quantity", "cp-9", "1"),
    }
    files = [str(tmp_path / name) for name in ("r.html", "r.csv", "r.parquet")]
    wanted = ("--html", files[0], "--csv", files[1], "--parquet", files[2])
    done = beta.tally("compare", *arguments, *wanted, check=False)
    assert done.returncode == 1
    assert done.stderr == ""
    assert "mine.csv counts" in Path(files[0]).read_text()
    with Path(files[1]).open(newline="") as lines:
        assert {(row["class"], row["id"], row["effect"]) for row in csv.DictReader(lines)} == found
    assert pyarrow.parquet.read_table(files[2]).num_rows == len(found)
    over = beta.tally("compare", *arguments, "--csv", arguments[0], check=False)
    assert over.returncode == 2
    assert "--csv and FILE are the same file" in over.stderr
    clean = (written("clean.csv", rows), "--map", mapping, "--period", "2026-03-01T05")
    assert beta.tally("compare", *clean, check=False).returncode == 0
