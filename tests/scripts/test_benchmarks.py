"""Each benchmark measures what it says: its figures are there and can be true. Nothing is timed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nodes
import pytest
import trio
from benchmarks import against, latency, limits, load, showing
from benchmarks.catalog import ORDER, catalog
from benchmarks.figures import flat
from benchmarks.homes import Homes, NoRoom, _even, log_size
from benchmarks.progress import Progress

from tallystick.node.importing.drafts import Draft
from tallystick.protocol.records import Delta, encode_record

Measure = Callable[..., dict[str, Any]]
SCRIPTS = Path(nodes.__file__).parent
RECORDS = 300


def _positive(result: dict[str, Any], *names: str) -> None:
    found = dict(flat(result))
    for name in names:
        assert found[name] > 0, name


def test_every_benchmark_is_found_and_in_order() -> None:
    known = list(catalog())
    assert known == list(ORDER)


def test_a_record_has_about_180_bytes() -> None:
    draft: Draft = load.draft(7)
    at = draft.occurred_at
    delta = Delta(draft.id, draft.meter, draft.subject, draft.quantity, at, at, None)
    assert 170 < len(encode_record(delta)) < 190


def test_throughput_prints_one_json_object_with_machine_limits_and_spread(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--json", "--records", str(RECORDS)]
    done = subprocess.run(
        [*command, "throughput"], capture_output=True, text=True, check=True, cwd=SCRIPTS
    )
    result = json.loads(done.stdout)
    assert (result["benchmark"], result["records"]) == ("throughput", RECORDS)
    _positive(result, "seconds", "deltas_per_second", "cpu_seconds.provider", "ratios.of_sha256")
    _positive(result, *(f"limits.{name}" for name in limits.EXCHANGE))
    _positive(result, "memory_mb.provider.peak", "machine.cores", "machine.memory_mb")
    spread = result["spread"]["deltas_per_second"]
    assert spread["min"] <= spread["median"] <= spread["max"]
    assert spread["repeats"] == 5
    assert len(result["machine"]["load_before"]) == len(result["machine"]["load_after"]) == 3
    assert {"cpu", "python", "disk", "versions", "commit"} <= set(result["machine"])


def test_stages_add_up_and_stand_beside_what_nodes_take(measure: Measure) -> None:
    result = measure("stages", RECORDS)
    for side, stages in result["stages_us"].items():
        _positive(stages, "decode", "check", "ids", "chain", "tree", "balances", "store")
        total = stages.pop("sum")
        sent = result["stages_us"]["provider"]["send"] if side == "consumer" else 0
        assert total == pytest.approx(sum(stages.values()) - sent, rel=0.01)
        assert result["ratios"]["of_stages"][side] == pytest.approx(
            result["cpu_us_per_delta"][side] / total, rel=0.01
        )
        same = ("decode", "check", "encode", "ids", "chain", "tree", "balances")
        fresh = result["in_a_row_us"][side] - sum(stages.get(name, 0) for name in same)
        assert result["fresh_us"][side] == pytest.approx(fresh, abs=0.05)
        assert result["ratios"]["of_stages_fresh"][side] == pytest.approx(
            result["cpu_us_per_delta"][side] / (total + fresh), rel=0.02
        )


def test_latency_counts_every_delta_at_every_rate(measure: Measure) -> None:
    result = measure("latency", 40)
    for rate, count in ((1, 3), (10, 30), (100, 40), (1000, 40)):
        offered = result["offered"][str(rate)]
        assert offered["deltas"] == count
        for kind in ("durable", "cosigned"):
            assert 0 < offered[kind]["p50_ms"] <= offered[kind]["max_ms"]
            # Of so few there is no thousandth, and none is made up.
            assert offered[kind]["p999_ms"] is None
    assert 0 < result["alone"]["durable"]["p50_ms"] <= result["alone"]["cosigned"]["p50_ms"]
    assert result["p50_ms"] == result["alone"]["cosigned"]["p50_ms"]
    _positive(result, "limits.fsync_4k_p50_ms", "limits.tls_round_trip_ms", "fsync_p50_ms")


def test_deltas_that_are_due_while_the_node_stands_still_are_late(
    pair: tuple[nodes.Party, nodes.Party], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that waited for the node before it sent more would have one late delta, or few."""
    acme, first, stopped_at = pair[0], 10**9, 20
    assert acme.process is not None
    pid, send = acme.process.pid, latency._send

    async def send_or_stop(asker: Any, watch: Any, taken: Any, n: int, due: float) -> None:
        if n == first + stopped_at:
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(0.6, os.kill, (pid, signal.SIGCONT)).start()
        await send(asker, watch, taken, n, due)

    monkeypatch.setattr(latency, "_send", send_or_stop)
    taken = trio.run(latency._offered, acme, first, [0.01] * 200)
    assert len(taken.durable) == len(taken.cosigned) == 200
    # Of those due in the first half of the pause each took at least the other half.
    assert sum(ms >= 300 for ms in taken.durable) >= 25
    assert sum(ms >= 300 for ms in taken.cosigned) >= 25


def test_derive_proof_and_disk_share_homes(measure: Measure) -> None:
    derived = measure("derive", RECORDS)
    assert derived["lines"] == 50
    _positive(derived, "verb_seconds", "open_cpu_ms", "derive_cpu_ms", "from_records_per_second")
    proved = measure("proof", RECORDS)
    assert 500 < proved["bytes"] < 3000
    _positive(proved, "p50_ms", "p50_cpu_ms")
    disk = measure("disk", RECORDS)
    assert disk["deltas"] >= RECORDS
    assert disk["bytes_per_delta"] > disk["record_bytes"] > 150
    _positive(disk, "consumer_bytes_per_delta")


def test_start_up_says_what_a_start_takes_and_holds(measure: Measure) -> None:
    result = measure("start-up", RECORDS)
    for kind in ("after_stop", "after_kill"):
        _positive(result, *(f"{kind}.{name}" for name in ("ready_ms", "cpu_ms", "own_mb")))
        assert result[kind]["resident_mb"] > result[kind]["own_mb"]


def test_catch_up_gets_all_and_says_what_both_hold(measure: Measure) -> None:
    result = measure("catch-up", RECORDS)
    _positive(result, "records_per_second")
    for name in ("provider", "consumer"):
        memory = result["memory_mb"][name]
        assert 0 < memory["own_before"] <= memory["own_peak"]
        assert memory["own_peak"] < memory["resident_peak"]


def test_audit_verifies_a_whole_log(measure: Measure) -> None:
    result = measure("audit", RECORDS)
    _positive(result, "seconds", "records_per_second", "cpu_us_per_record", "peak_mb")
    assert result["bundle_bytes"] > RECORDS * 10


def test_compare_and_import_and_reconcile(measure: Measure) -> None:
    compared = measure("compare", RECORDS)
    _positive(compared, "seconds", "rows_per_second", "peak_mb")
    imported = measure("import", RECORDS)
    _positive(imported, "deltas_per_second", "importer_peak_mb", "memory_mb.consumer.peak")
    reconciled = measure("reconcile", 50)
    assert list(reconciled["differences"]) == ["10"]
    _positive(reconciled, "differences.10.cells", "differences.10.bytes")


def test_http_measures_every_way_in(measure: Measure) -> None:
    result = measure("http", 1000)
    ways = ("single", "single_16_at_once", "batch", "cloudevents_batch", "stream")
    for way in (*ways, "client_batcher", "direct"):
        _positive(result, f"{way}.deltas_per_second")


def test_homes_that_were_not_finished_are_built_further(homes: Homes, homes_folder: Path) -> None:
    homes.at(RECORDS // 2)
    unfinished, finished = (homes_folder / f"plain-{n}" for n in (RECORDS // 2, 2 * RECORDS))
    unfinished.rename(finished)
    pair = homes.at(2 * RECORDS)
    assert pair.deltas == log_size(pair.acme) - 1 == 2 * RECORDS
    assert pair.beta.json("status")["channels"][0]["theirs"]["size"] == 2 * RECORDS + 1


def test_age_compares_two_sizes_and_keeps_its_homes(measure: Measure, homes: Homes) -> None:
    before = [homes.at(size).deltas for size in (RECORDS, 2 * RECORDS)]
    result = measure("age", 2 * RECORDS)
    after = [result[size]["deltas"] for size in ("small", "large")]
    assert [homes.at(size).deltas for size in (RECORDS, 2 * RECORDS)] == after
    # A quarter of the small log is emitted, and once more while the peer is away.
    assert [new - old for new, old in zip(after, before, strict=True)] == [RECORDS // 4 * 2] * 2
    for size in ("small", "large"):
        figures = result[size]
        assert figures["disk"]["bytes_per_delta_provider"] > figures["disk"]["record_bytes"]
        _positive(figures, "emit.per_second", "dedupe_in_a_row.per_second", "derive.cpu_ms")
        _positive(figures, "dedupe_scattered.per_second", "catch_up.per_second", "proof.cpu_ms")
        assert len(figures["build_tenths"]) in (1, 2)
        _positive(
            figures,
            "build.per_second",
            "start_up.ready_ms",
            "start_up.own_mb",
            "catch_up.own_peak_mb_consumer",
        )
    # A ratio says how many times dearer the large log is, of speeds as well.
    speeds = [result[size]["emit"]["per_second"] for size in ("small", "large")]
    ratio = result["ratios"]["emit"]["per_second"]
    assert ratio == pytest.approx(speeds[0] / speeds[1], rel=1e-3)
    sizes = [result[size]["proof"]["bytes"] for size in ("small", "large")]
    assert result["ratios"]["proof"]["bytes"] == pytest.approx(sizes[1] / sizes[0], rel=1e-3)


def test_a_home_is_built_in_pieces_that_are_nearly_equal() -> None:
    for deltas in (1, 499_999, 500_001, 1_000_000, 1_234_567, 99_999_999):
        size = _even(deltas)
        last = deltas % size or size
        assert 0 < size <= max(deltas, 1)
        assert last > size * 0.99 or deltas <= size


def test_homes_that_do_not_fit_are_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.homes.BYTES_A_DELTA", 2**50)
    with pytest.raises(NoRoom, match="--keep"):
        Homes(tmp_path / "new", Progress(quiet=True)).at(10)
    assert not (tmp_path / "new").exists()


def test_a_result_is_shown_in_80_columns(
    measure: Measure, capsys: pytest.CaptureFixture[str]
) -> None:
    showing.show(measure("disk", RECORDS))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("disk (300 records)")
    assert any(line.startswith("bytes_per_delta ") for line in lines)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "there is no benchmark 'nothing'"),
        (["--records", "0", "disk"], "--records takes 1 or more"),
        (["--against", "missing.json", "disk"], "missing.json cannot be read"),
    ],
)
def test_what_cannot_be_measured_is_said(arguments: list[str], said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=SCRIPTS)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert against.__name__ not in done.stderr
