"""tally watch with a real node: every file once, whatever happens to files, node and watcher."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nodes
import pyarrow
import pytest
from pyarrow import parquet

MAP = """\
time = { column = "time" }
id = { column = "id" }
subject = { value = "s" }
[[meter]]
meter = "context-tokens"
quantity = { column = "q" }
"""
HEADER = "time,id,q\n"
# Under these, files without permission cannot be read: the second takes from root what may.
POWERLESS = ((), ("setpriv", "--bounding-set=-dac_override,-dac_read_search"))


class Spot:
    """A folder of its own, its map, and the deltas that were recorded from it."""

    def __init__(self, pair: tuple[nodes.Party, nodes.Party], folder: Path) -> None:
        self.acme = pair[0]
        self.folder = folder / "in"
        self.folder.mkdir()
        self.map = folder / "map.toml"
        self.map.write_text(MAP)
        self.prefix = folder.name
        self.log = folder / "watch.log"

    def rows(self, first: int, stop: int) -> str:
        return "".join(
            f"2026-03-01 00:00:00.{n:06},{self.prefix}-{n},{n}\n" for n in range(first, stop)
        )

    def write(self, name: str, first: int, stop: int) -> Path:
        file = self.folder / name
        file.write_text(HEADER + self.rows(first, stop))
        return file

    def recorded(self) -> list[int]:
        """The numbers of the deltas in the log, sorted; twice is twice."""
        records = self.acme.json("log", "--from", "0", "--count", "1000000")["records"]
        ids = [row.get("id", "") for row in records]
        mine = [id_ for id_ in ids if id_.startswith(f"{self.prefix}-")]
        return sorted(int(id_.rpartition("-")[2]) for id_ in mine)

    def command(self, *options: str) -> list[str]:
        return self.acme.command("watch", str(self.folder), "--map", str(self.map), *options)

    def once(self, code: int = 0, under: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
        """Run once, under another command; each file's result by its name."""
        done = subprocess.run(
            [*under, *self.command("--once", "--settle", "0", "--json")],
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
        document = json.loads(done.stdout.splitlines()[0])
        return {result["file"]: result for result in document["files"]}

    @contextmanager
    def watching(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        with self.log.open("a") as log:
            process = subprocess.Popen(
                self.command("--settle", "0.2", *options),
                stdout=subprocess.DEVNULL,
                stderr=log,
                text=True,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def logged(self, text: str) -> bool:
        return text in self.log.read_text()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[nodes.Party, nodes.Party]]:
    with nodes.channel(tmp_path_factory.mktemp("pair")) as parties:
        yield parties


@pytest.fixture
def spot(pair: tuple[nodes.Party, nodes.Party], tmp_path: Path) -> Spot:
    return Spot(pair, tmp_path)


def test_every_format_once_and_a_second_time_nothing(spot: Spot) -> None:
    spot.write("a.csv", 0, 3)
    (spot.folder / "b.csv.gz").write_bytes(gzip.compress((HEADER + spot.rows(3, 6)).encode()))
    (spot.folder / "c.jsonl").write_text(
        "".join(
            json.dumps({"time": "2026-03-01", "id": f"{spot.prefix}-{n}", "q": n}) + "\n"
            for n in (6, 7)
        )
    )
    ids = [f"{spot.prefix}-8", f"{spot.prefix}-9"]
    columns = {"time": ["2026-03-01", "2026-03-02"], "id": ids, "q": [8, 9]}
    parquet.write_table(pyarrow.table(columns), spot.folder / "d.parquet")
    spot.write("again.csv", 0, 3)  # the content of a.csv
    weird = os.fsdecode(b"\xff \n.csv")
    (spot.folder / weird).write_text(HEADER + spot.rows(10, 11))
    first = spot.once()
    assert {name: row["state"] for name, row in first.items()} == {
        "a.csv": "imported",
        "again.csv": "same",
        "b.csv.gz": "imported",
        "c.jsonl": "imported",
        "d.parquet": "imported",
        r"\udcff \n.csv": "imported",
    }
    assert spot.recorded() == list(range(11))
    assert spot.once() == {}
    (spot.folder / "a.csv").rename(spot.folder / "renamed.csv")
    assert spot.once()["renamed.csv"]["state"] == "same"
    assert spot.recorded() == list(range(11))


def test_rejects_are_beside_the_file_and_go_when_it_is_mended(spot: Spot) -> None:
    file = spot.write("a.csv", 0, 2)
    file.write_text(file.read_text() + "never,x,1\n")
    row = spot.once()["a.csv"]
    assert (row["read"], row["recorded"], row["rejected"]) == (3, 2, 1)
    rejects = spot.folder / row["rejects_file"]
    assert "'never' is not an ISO 8601 time" in rejects.read_text()
    spot.write("a.csv", 0, 2)
    row = spot.once()["a.csv"]
    assert (row["recorded"], row["duplicate"], row["rejects_file"]) == (0, 2, None)
    assert not rejects.exists()


def test_rejects_never_go_through_a_link(spot: Spot, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("keep")
    (spot.folder / "a.csv").write_text(HEADER + "never,x,1\n")
    (spot.folder / "a.csv.rejects.csv").symlink_to(target)
    row = spot.once(code=2)["a.csv"]
    assert row["state"] == "failed"
    assert "cannot be written" in row["problem"]
    assert target.read_text() == "keep"


def test_files_that_cannot_be_read_are_named_and_do_not_stop_others(spot: Spot) -> None:
    (spot.folder / "a.csv").write_text("no,such,columns\n1,2,3\n")
    (spot.folder / "b.csv.gz").write_bytes(gzip.compress((HEADER + spot.rows(0, 9)).encode())[:-9])
    (spot.folder / "c.parquet").write_bytes(b"PAR1 it is not")
    (spot.folder / "d.csv").write_bytes(b"\xff\xfe\x00")
    spot.write("e.csv", 20, 22)
    found = spot.once(code=2)
    assert {name for name, row in found.items() if row["state"] == "failed"} == {
        "a.csv", "b.csv.gz", "c.parquet", "d.csv",
    }  # fmt: skip
    assert "no column 'time'" in found["a.csv"]["problem"]
    assert set(range(20, 22)) <= set(spot.recorded())
    again = spot.once(code=2)
    assert set(again) == {"a.csv", "b.csv.gz", "c.parquet", "d.csv"}
    (spot.folder / "b.csv.gz").write_bytes(gzip.compress((HEADER + spot.rows(0, 9)).encode()))
    assert spot.once(code=2)["b.csv.gz"]["state"] == "imported"
    assert spot.recorded() == [*range(9), 20, 21]


def test_a_file_without_permission_is_named(spot: Spot) -> None:
    file = spot.write("a.csv", 0, 2)
    file.chmod(0)
    for under in POWERLESS:
        with suppress(FileNotFoundError):
            read = subprocess.run([*under, "cat", str(file)], capture_output=True, text=True)
            if "Permission denied" in read.stderr:
                assert "Permission denied" in spot.once(2, under)["a.csv"]["problem"]
                return
    pytest.skip("root may read everything, and setpriv cannot take that away")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('{ column = "id" }', '{ template = "jan-{row}" }', "the same in every file"),
        ('"context-tokens"', '"miles"', "'miles' that the terms do not have"),
        ('id = { column = "id" }', "", "there is no id"),
    ],
)
def test_a_map_that_cannot_be_is_refused_at_the_start(
    spot: Spot, before: str, after: str, said: str
) -> None:
    spot.map.write_text(MAP.replace(before, after))
    done = subprocess.run(spot.command("--once"), capture_output=True, text=True)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())


def test_files_are_taken_as_they_come_and_as_they_grow(spot: Spot) -> None:
    spot.write("before.csv", 0, 2)
    with spot.watching():
        nodes.wait_until(lambda: spot.logged("before.csv: 2 rows read, 2 deltas recorded"))
        part = spot.write("moved.csv.part", 2, 4)
        part.rename(spot.folder / "moved.csv")
        nodes.wait_until(lambda: spot.logged("moved.csv: 2 rows read, 2 deltas recorded"))
        with (spot.folder / "slow.csv").open("w") as slow:
            slow.write(HEADER)
            for n in range(4, 14):
                slow.write(spot.rows(n, n + 1))
                slow.flush()
                time.sleep(0.05)
        nodes.wait_until(lambda: spot.logged("slow.csv: 10 rows read"))
        with (spot.folder / "slow.csv").open("a") as slow:
            slow.write(spot.rows(14, 16))
        nodes.wait_until(lambda: spot.logged("slow.csv: 12 rows read, 2 deltas recorded, 10 alr"))
        second = subprocess.run(spot.command("--once"), capture_output=True, text=True)
        assert (second.returncode, "another tally watch" in second.stderr) == (2, True)
    assert spot.recorded() == list(range(16))


def test_a_name_that_is_no_utf8_ends_no_watching(spot: Spot) -> None:
    with spot.watching() as process:
        spot.write("a.csv", 0, 3)
        nodes.wait_until(lambda: spot.logged("a.csv: 3 rows"))
        spot.write(os.fsdecode(b"caf\xe9.csv"), 3, 6)
        nodes.wait_until(lambda: spot.logged("udce9.csv: 3 rows"))
        spot.write("b.csv", 6, 9)
        nodes.wait_until(lambda: spot.logged("b.csv: 3 rows"), 90)
        assert process.poll() is None
    assert spot.recorded() == list(range(9))


def test_a_node_that_is_down_is_waited_for(spot: Spot) -> None:
    spot.acme.stop()
    try:
        spot.write("a.csv", 0, 2)
        done = subprocess.run(
            spot.command("--once", "--settle", "0"), capture_output=True, text=True
        )
        assert (done.returncode, "no node is running" in done.stderr) == (3, True)
        with spot.watching():
            nodes.wait_until(lambda: spot.logged("waiting: no node is running"))
            spot.write("b.csv", 2, 4)
            spot.acme.start()
            nodes.wait_until(lambda: spot.logged("b.csv: 2 rows read, 2 deltas recorded"))
        assert spot.recorded() == list(range(4))
        assert spot.log.read_text().count("waiting:") == 1
    finally:
        if spot.acme.process is None:
            spot.acme.start()


def test_kills_of_watcher_and_node_double_nothing(spot: Spot) -> None:
    for n in range(40):
        spot.write(f"{n:02}.csv", n * 500, (n + 1) * 500)
    for n in range(5):
        with spot.watching():
            time.sleep(0.8 + 0.1 * n)
            if n % 2:
                spot.acme.kill()
                spot.acme.start()
    spot.once()
    assert spot.recorded() == list(range(40 * 500))
    assert spot.once() == {}
