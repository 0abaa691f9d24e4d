"""Sessions between two real nodes, by the command line: what both are told, and what is kept."""

from __future__ import annotations

import csv
import json
import os
import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import nodes
import pytest

from tallystick.node.books import Books
from tallystick.node.home import open_home
from tallystick.protocol.records import Disclosure

Pair = tuple[nodes.Party, nodes.Party]
ROWS = 20_000
WITH_IDS = """\
time = { column = "time", unit = "ms" }
id = { column = "id" }
subject = { column = "subject" }
[[meter]]
meter = "context-tokens"
quantity = { column = "quantity" }
"""
WITHOUT_IDS = WITH_IDS.replace('id = { column = "id" }\n', "")


class Files:
    """The two parties' exports of one hour, and what is said of them on the command line."""

    def __init__(self, folder: Path, hour: int, mapping: str = WITH_IDS) -> None:
        self.folder = folder
        self.start_ms = (1_750_000_000 // 3600 + hour) * 3_600_000
        self.period = f"{2025}-06-15T{(self.start_ms // 3_600_000) % 24:02}"
        (folder / "map.toml").write_text(mapping)

    def write(self, name: str, rows: Sequence[tuple[int, str, int]]) -> str:
        """An export of (milliseconds into the hour, id, quantity); its path."""
        file = self.folder / name
        lines = [f"{self.start_ms + at},{id},p{q % 7},{q}\n" for at, id, q in rows]
        file.write_text("time,id,subject,quantity\n" + "".join(lines))
        return str(file)

    def options(self, *more: str) -> list[str]:
        return ["--period", self.period, "--map", str(self.folder / "map.toml"), *more]


def _rows(count: int) -> list[tuple[int, str, int]]:
    return [(n * 3_600_000 // count, f"r{n}", n % 997) for n in range(count)]


def _json(done: CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def _disclosures(party: nodes.Party) -> list[Disclosure]:
    books = Books.open(open_home(party.home), read_only=True)
    try:
        own = next(iter(books.channels.values()))[0].own
        return [
            record
            for _, records in own.records(0, own.durable_size)
            for record in records
            if isinstance(record, Disclosure)
        ]
    finally:
        books.close()


def _held(party: nodes.Party) -> list[Path]:
    """The prepared sets that are left in a home."""
    return list((party.home / "reconciling").glob("*"))


def test_both_are_told_what_differs(pair: Pair, tmp_path: Path) -> None:
    acme, beta = pair
    files = Files(tmp_path, 0)
    rows = _rows(ROWS)
    ours = files.write("ours.csv", [*rows[30:], rows[50], (-5, "edge", 40)])
    changed = [(at, id, q + 1000) if q == 5 else (at, id, q) for at, id, q in rows]
    theirs = files.write("theirs.csv", [*changed, rows[70], (5, "edge", 40)])
    assert beta.json("reconcile", "--offer", theirs, *files.options())["rows"] == ROWS + 2
    done = acme.tally("reconcile", beta.name, ours, *files.options(), "--json", check=False)
    assert done.returncode == 1, done.stderr
    here = _json(done)
    assert (here["rows_ours"], here["rows_theirs"]) == (ROWS - 29, ROWS + 2)
    shown = beta.tally("reconcile", "--show", here["session"][:8], "--json", check=False)
    there = _json(shown)
    assert (here["opened_ours"], here["opened_theirs"]) == (
        there["opened_theirs"],
        there["opened_ours"],
    )
    assert here["bytes_sent"] == there["bytes_received"] > 500
    assert here["bytes_sent"] + here["bytes_received"] < 25_000
    _check_mirrored(here, there)
    classes = here["meters"]["context-tokens"]["classes"]
    fives = sum(1 for _, _, q in rows[30:] if q == 5)
    assert {name: found["events"] for name, found in classes.items()} == {
        "timing": 1,
        "missing-here": 30,
        "duplicate": 2,
        "quantity": fives,
    }
    totals = [
        sum(q for _, _, q in rows[30:]) + rows[50][2],
        sum(q for _, _, q in changed) + rows[70][2] + 40,
    ]
    found = here["meters"]["context-tokens"]
    assert [int(found["ours"]), int(found["theirs"])] == totals
    _check_recorded(acme, beta, here, there)
    _check_places(here, ours)
    _check_places(there, theirs)
    assert _held(acme) == _held(beta) == []  # the offer is used up
    restored = nodes.Party(tmp_path, "restored")
    acme.tally("backup", "-o", str(tmp_path / "copy"))
    restored.tally("restore", str(tmp_path / "copy"))
    again = _json(restored.tally("reconcile", "--show", here["session"], "--json", check=False))
    paths = ("rows_file", "events_file")
    assert {**again, **dict.fromkeys(paths)} == {**here, **dict.fromkeys(paths)}


def _check_mirrored(here: Any, there: Any) -> None:
    """What is ours here is theirs there, and every sum is the other's with the other sign."""
    other = {"missing-here": "missing-there", "missing-there": "missing-here"}
    assert here["meters"].keys() == there["meters"].keys()
    for name, meter in here["meters"].items():
        mirrored = there["meters"][name]
        assert (meter["ours"], meter["theirs"]) == (mirrored["theirs"], mirrored["ours"])
        assert int(meter["difference"]) == -int(mirrored["difference"])
        assert meter["unexplained"] == mirrored["unexplained"] == "0"
        assert {
            other.get(klass, klass): (-int(found["quantity"]), found["events"])
            for klass, found in meter["classes"].items()
        } == {
            klass: (int(found["quantity"]), found["events"])
            for klass, found in mirrored["classes"].items()
        }


def _check_recorded(acme: nodes.Party, beta: nodes.Party, here: Any, there: Any) -> None:
    """Both logs say what was shown, each in its own words, and the rows are kept."""
    for party, document in ((acme, here), (beta, there)):
        record = next(r for r in _disclosures(party) if r.session.hex() == document["session"])
        assert record.opened == document["opened_ours"]
        assert record.received == document["opened_theirs"]
        kept = Path(document["rows_file"]).read_text().splitlines()
        whose = [json.loads(line)["whose"] for line in kept if '"both"' not in line]
        assert whose.count("ours") == document["opened_ours"]
        assert whose.count("theirs") == document["opened_theirs"]
        listed = party.json("reconcile", "--list")["sessions"]
        assert document["session"] in [session["session"] for session in listed]


def _check_places(document: Any, export: str) -> None:
    """The events behind each step say where our row is in the file and theirs among those kept."""
    lines = Path(export).read_text().splitlines()
    kept = [json.loads(line) for line in Path(document["rows_file"]).read_text().splitlines()]
    with Path(document["events_file"]).open(newline="") as file:
        found = list(csv.DictReader(file))
    ours = [
        (lines[int(row["our_row"])].split(","), row["our_time"], row["our_quantity"])
        for row in found
        if row["our_row"]
    ]
    assert ours
    assert [(_ms(time), quantity) for _, time, quantity in ours] == [
        (int(values[0]), values[3]) for values, _, _ in ours
    ]
    theirs = [
        (kept[int(row["their_row"]) - 1], row["their_time"], row["their_quantity"])
        for row in found
        if row["their_row"]
    ]
    assert theirs
    assert [(_ms(time), int(quantity)) for _, time, quantity in theirs] == [
        (row["occurred_at"] // 1000, row["quantity"]) for row, _, _ in theirs
    ]
    assert all(row["our_row"] for row in found if row["our_time"])


def _ms(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)


def test_our_row_is_that_of_the_file(pair: Pair, tmp_path: Path) -> None:
    """Also after rows that cannot be read, of copies, and of rows beside the period."""
    acme, beta = pair
    files = Files(tmp_path, 8, WITHOUT_IDS)
    rows = _rows(400)
    edges = [(-5, "edge", 40), (-5, "edge", 40)]
    ours = files.write("ours.csv", [*edges, *rows[::-1], rows[7], rows[7]])
    broken = Path(ours).read_text().splitlines()
    broken[1:1] = ["never,r,p,1", "never,r,p,2"]
    Path(ours).write_text("\n".join(broken) + "\n")
    theirs = files.write("theirs.csv", [*rows[3:], (2, "edge", 40), (2, "edge", 40), (9, "r", 5)])
    beta.tally("reconcile", "--offer", theirs, *files.options())
    done = acme.tally("reconcile", beta.name, ours, *files.options(), "--json", check=False)
    here = _json(done)
    shown = beta.tally("reconcile", "--show", here["session"][:8], "--json", check=False)
    mine = [row for row in _kept(here) if row["whose"] == "ours"]
    assert {row["file_row"] for row in mine if row["why"] == "kin"} == {3, 4}
    assert {row["file_row"] for row in mine if row["copy"]} == {405, 406}
    _check_places(here, ours)
    _check_places(_json(shown), theirs)
    # Rows that an older version kept do not say where they were.
    for row in (kept := _kept(here)):
        del row["file_row"]
    Path(here["rows_file"]).write_text("".join(json.dumps(row) + "\n" for row in kept))
    again = _json(acme.tally("reconcile", "--show", here["session"], "--json", check=False))
    assert again["meters"] == here["meters"]
    assert ",,2025-06-15T" in Path(here["events_file"]).read_text()


def _kept(document: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(document["rows_file"]).read_text().splitlines()]


def test_without_ids_and_for_people(pair: Pair, tmp_path: Path) -> None:
    acme, beta = pair
    files = Files(tmp_path, 1, WITHOUT_IDS)
    rows = _rows(500)
    ours = files.write("ours.csv", rows)
    # Two come a little later there, one in the next second; one is missing there.
    theirs = files.write(
        "theirs.csv", [(at + 400 * (n in (3, 4)), id, q) for n, (at, id, q) in enumerate(rows[:-1])]
    )
    offering = ("reconcile", "--offer", theirs, *files.options("--wait"))
    with subprocess.Popen(beta.command(*offering), stdout=subprocess.PIPE, text=True) as waiting:
        nodes.wait_until(lambda: beta.json("reconcile", "--list")["offers"])
        done = acme.tally("reconcile", beta.name, ours, *files.options(), check=False)
        told, _ = waiting.communicate(timeout=nodes.START_SECONDS)
    assert done.returncode == waiting.returncode == 1
    assert "499 rows here, 500 there" in told and "missing in ours" in told
    assert "the record" not in told and "than the export of acme.example" in told
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 80
    assert "500 rows here, 499 there" in done.stdout
    assert "missing in theirs" in done.stdout and "unexplained" in done.stdout
    files_of = list(acme.home.glob("reconciled/*/differences.csv"))
    headers = {events.read_text().splitlines()[0] for events in files_of}
    assert all("their_quantity" in header and "record" not in header for header in headers)
    assert headers
    assert "compared by content, to 1 s" in done.stderr


def test_equal_files_show_nothing(pair: Pair, tmp_path: Path) -> None:
    acme, beta = pair
    files = Files(tmp_path, 2)
    file = files.write("both.csv", _rows(300))
    beta.tally("reconcile", "--offer", file, *files.options())
    before = len(_disclosures(acme))
    document = acme.json("reconcile", beta.name, file, *files.options())
    assert (document["opened_ours"], document["opened_theirs"], document["cells"]) == (0, 0, 0)
    assert document["meters"]["context-tokens"]["difference"] == "0"
    assert len(_disclosures(acme)) == before  # nothing was disclosed


def test_without_consent_nothing_is_said(pair: Pair, tmp_path: Path) -> None:
    acme, beta = pair
    files = Files(tmp_path, 3)
    file = files.write("ours.csv", _rows(50))
    done = acme.tally("reconcile", beta.name, file, *files.options(), check=False)
    assert done.returncode == 3
    assert f"no consent here to reconcile {files.period}" in " ".join(done.stderr.split())
    assert "tally reconcile --offer" in done.stderr
    assert _held(acme) == []


def test_an_offer_that_does_not_fit_says_why_and_stands(pair: Pair, tmp_path: Path) -> None:
    acme, beta = pair
    files = Files(tmp_path, 4)
    file = files.write("both.csv", _rows(60))
    offer = beta.json("reconcile", "--offer", file, *files.options("--open", "5"))["offer"]
    other = acme.tally("reconcile", beta.name, file, *files.options("--by", "content"), check=False)
    assert "by id here and by content" in " ".join(other.stderr.split())
    fewer = files.write("fewer.csv", _rows(60)[10:])
    many = acme.tally("reconcile", beta.name, fewer, *files.options(), check=False)
    assert many.returncode == 3
    assert "60 rows here and 50 there differ in more than the 5" in " ".join(many.stderr.split())
    listed = beta.tally("reconcile", "--list").stdout
    assert offer[:8] in listed
    beta.tally("reconcile", "--withdraw", offer[:8])
    assert _held(beta) == []


def test_wrong_use_is_said(pair: Pair, tmp_path: Path) -> None:
    acme, _ = pair
    files = Files(tmp_path, 5)
    file = files.write("ours.csv", _rows(5))
    for arguments in (
        ("reconcile",),
        ("reconcile", "beta.example", file),
        ("reconcile", "gamma.example", file, *files.options()),
        ("reconcile", "gamma.example", file, *files.options(), "--channel", "beta.example"),
        ("reconcile", "beta.example", file, "--period", "2025-06", *files.options()[2:]),
        ("reconcile", "--show", "ffff"),
    ):
        done = acme.tally(*arguments, check=False)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert "Traceback" not in done.stderr
    assert _held(acme) == []


@pytest.mark.parametrize("name", ["about.json", "digests.npy"])
def test_a_damaged_set_is_an_error(pair: Pair, tmp_path: Path, name: str) -> None:
    from tallystick.node.errors import StoreError
    from tallystick.node.reconciling.preparing import Request, prepare
    from tallystick.node.reconciling.sets import PreparedSet

    acme, _ = pair
    files = Files(tmp_path, 6)
    request = Request(
        files.write("ours.csv", _rows(5)), str(tmp_path / "map.toml"), files.period, 5
    )
    books = Books.open(open_home(acme.home), read_only=True)
    try:
        channel, _ = next(iter(books.channels.values()))
        made = prepare(tmp_path, channel, request)
    finally:
        books.close()
    os.truncate(made.path / name, 3)
    with pytest.raises(StoreError, match="cannot be read"):
        PreparedSet(made.path)
