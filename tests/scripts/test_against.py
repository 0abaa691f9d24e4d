"""Two results against each other: what is better, worse, and no more than noise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nodes
import pytest
from benchmarks import against
from benchmarks.figures import Figures, percentile, tidy

SCRIPTS = Path(nodes.__file__).parent


def _result(name: str, samples: dict[str, list[float]], records: int = 1000, **facts: Any) -> Any:
    figures = Figures()
    for figure, values in samples.items():
        if len(values) > 1:
            figures.repeated(figure, values)
        else:
            figures.put(figure, values[0])
    machine = {"cpu": "a", "load_before": [1.0], "load_after": [2.0], **facts}
    return {
        "benchmark": name,
        "records": records,
        **figures.document,
        "spread": figures.spread,
        "machine": machine,
    }


def _verdicts(before: dict[str, list[float]], after: dict[str, list[float]]) -> dict[str, str]:
    rows = against.compare([_result("x", before)], [_result("x", after)])
    return {row["figure"]: row["verdict"] for row in rows}


def test_more_a_second_is_better_and_more_seconds_are_worse() -> None:
    before = {"deltas_per_second": [100.0, 101, 102], "seconds": [5.0, 5.1, 5.2]}
    after = {"deltas_per_second": [200.0, 201, 202], "seconds": [9.0, 9.1, 9.2]}
    assert _verdicts(before, after) == {
        "deltas_per_second": against.BETTER,
        "seconds": against.WORSE,
    }
    assert _verdicts(after, before) == {
        "deltas_per_second": against.WORSE,
        "seconds": against.BETTER,
    }


def test_spreads_that_overlap_are_the_same_however_far_the_medians_are_apart() -> None:
    before, after = {"ms": [1.0, 2.0, 9.0]}, {"ms": [8.0, 8.5, 20.0]}
    assert _verdicts(before, after) == {"ms": against.SAME}


def test_what_was_measured_once_needs_a_large_change() -> None:
    assert _verdicts({"ms": [100.0]}, {"ms": [110.0]}) == {"ms": against.UNSURE}
    assert _verdicts({"ms": [100.0]}, {"ms": [200.0]}) == {"ms": against.WORSE}
    assert _verdicts({"ms": [0.0]}, {"ms": [0.0]}) == {"ms": against.UNSURE}


def test_a_limit_is_the_machine_s_and_a_ratio_of_ages_better_when_small() -> None:
    before = {"limits.sha256_per_second": [1.0, 1.1], "ratios.emit.per_second": [1.0]}
    after = {"limits.sha256_per_second": [9.0, 9.1], "ratios.emit.per_second": [2.0]}
    assert _verdicts(before, after) == {
        "limits.sha256_per_second": against.MACHINE,
        "ratios.emit.per_second": against.WORSE,
    }
    assert _verdicts({"ratios.of_sha256": [0.1]}, {"ratios.of_sha256": [0.2]}) == {
        "ratios.of_sha256": against.BETTER
    }


def test_totals_of_other_sizes_are_not_judged() -> None:
    samples = {"seconds": [1.0], "cpu_seconds.provider": [1.0], "small.deltas": [5.0], "ms": [1.0]}
    more = {name: [value[0] * 9] for name, value in samples.items()}
    rows = against.compare([_result("x", samples, 1)], [_result("x", more, 9)])
    verdicts = {row["figure"]: row["verdict"] for row in rows}
    assert verdicts == {
        "seconds": "", "cpu_seconds.provider": "", "small.deltas": "", "ms": against.WORSE
    }  # fmt: skip


def test_only_what_both_have_is_compared() -> None:
    rows = against.compare(
        [_result("x", {"ms": [1.0], "old": [1.0]}), _result("gone", {"ms": [1.0]})],
        [_result("x", {"ms": [1.0], "new": [1.0]}), _result("come", {"ms": [1.0]})],
    )
    assert [(row["benchmark"], row["figure"]) for row in rows] == [("x", "ms")]


def test_files_are_compared_without_measuring(tmp_path: Path) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    samples = {"deltas_per_second": [100.0, 101.0], "nested.ms": [3.0]}
    before.write_text(json.dumps(_result("throughput", samples)) + "\n")
    faster = {"deltas_per_second": [300.0, 301.0], "nested.ms": [3.0]}
    slow = _result("throughput", {"deltas_per_second": [1.0]})
    measured = _result("throughput", faster, 2000, cpu="b", load_after=[7.5])
    after.write_text(json.dumps(slow) + "\n" + json.dumps(measured) + "\n")
    files = ["--against", str(before), "--results", str(after)]
    command = [sys.executable, "-m", "benchmarks", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=SCRIPTS)
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.strip()}
    assert rows["deltas_per_second"] == ["100.5", "300.5", "2.99", "better"]
    assert rows["nested.ms"] == ["3", "3", "1.00", "?"]
    assert "cpu: a → b" in done.stdout
    assert "1,000 → 2,000 records" in done.stdout
    assert "load average up to: 2.0 → 7.5" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    done = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, check=True, cwd=SCRIPTS
    )
    document = json.loads(done.stdout)
    assert document["against"] == "before.json"
    assert [row["ratio"] for row in document["figures"]] == [2.99, 1.0]
    assert not any(row["same_size"] for row in document["figures"])


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[1]", b"3", b"null", b"not json", b"\xff\xfe", b'{"benchmark": 1}',
     b"[" * 100_000, b'{"benchmark": "x", "spread": 3}',
     b'{"benchmark": "x", "records": 1, "machine": []}',
     b'{"benchmark": "x", "records": 1, "spread": {"ms": 3}}'],
)  # fmt: skip
def test_a_file_that_holds_no_results_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "results.json"
    file.write_bytes(content)
    with pytest.raises(against.Unreadable, match=r"results\.json"):
        against.read(file)


def test_numbers_keep_what_means_something() -> None:
    assert [tidy(value) for value in (1234567.0, 12.3456, 0.00012345, 3, 0.0)] == [
        1_235_000, 12.35, 0.0001234, 3, 0.0,
    ]  # fmt: skip


def test_a_percentile_of_too_few_is_none() -> None:
    ordered = [float(n) for n in range(1000)]
    assert percentile(ordered, 0.5) == 500
    assert percentile(ordered, 0.99) == 990
    assert percentile(ordered, 0.999) == 999
    assert percentile(ordered[:500], 0.999) is None
    assert percentile(ordered[:50], 0.99) is None
