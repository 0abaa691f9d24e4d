"""tally audit of homes on disk: in one process, in two, on a cluster that is there; and spoilt."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tallystick.node.doctor.examination import AnyStore
from tallystick.node.home import Home, open_home
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import (
    CheckpointRow,
    HeadRow,
    encode_row,
    log_key,
    pack_tally,
    unpack_tally,
)
from tallystick.protocol.records import batch_bytes, decode_batch, encode_record

_MAIN = "from tallystick.node.cli import main; main()"
OWN, PEER = 0, 1  # log numbers
Spoil = Callable[[Txn], None]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A verb in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", _MAIN, *arguments], capture_output=True, text=True, cwd="/"
    )


def audit(home: Home, *arguments: str) -> dict[str, Any]:
    """The document of an audit."""
    out = run("--home", str(home.path), "audit", "--json", *arguments)
    document: dict[str, Any] = json.loads(out.stdout)
    assert out.returncode == (0 if document.get("ok") else 1), out.stderr
    return document


def failing(document: dict[str, Any]) -> dict[str, str]:
    """What does not hold and was reached."""
    return {
        check["name"]: check["detail"]
        for check in document["checks"]
        if not check["ok"] and not check["detail"].startswith("not reached")
    }


def test_both_homes_hold_and_fit_in_80_columns(busy: tuple[Home, Home]) -> None:
    for home in busy:
        done = run("--home", str(home.path), "audit")
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert lines[-1] == "every check holds"
        assert [line[:2].strip() for line in lines if line[3:5] == "ok"] == [
            str(n) for n in range(1, 12)
        ]
        assert all(len(line) <= 80 for line in lines)


def test_two_processes_find_what_one_finds(busy: tuple[Home, Home]) -> None:
    assert audit(busy[0], "--workers", "2") == audit(busy[0], "--workers", "0")


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
def test_workers_begin_with_all_that_they_need() -> None:
    code = (
        "from tallystick.node.auditing.pools import local_pool\n"
        'asked = \'"tallystick.node.auditing.work" in __import__("sys").modules\'\n'
        "with local_pool(1) as pool:\n"
        "    print([*pool.results(pool.submit(eval, [asked]))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[(0, True)]\n", done.stderr


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """A Dask scheduler and a worker, as people start them; the scheduler's address."""
    where = folder / "scheduler.json"
    common = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    dask = [sys.executable, "-m", "dask"]
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    worker = [*dask, "worker", "--nthreads", "1", "--no-dashboard", "--no-nanny"]
    at = ["--scheduler-file", str(where)]
    started = [subprocess.Popen([*scheduler, *at], **common)]  # type: ignore[call-overload]
    try:
        while not where.exists():
            assert started[0].poll() is None
        started.append(subprocess.Popen([*worker, *at], **common))  # type: ignore[call-overload]
        yield json.loads(where.read_text())["address"]
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def test_a_cluster_that_is_there_finds_the_same(busy: tuple[Home, Home], tmp_path: Path) -> None:
    with cluster(tmp_path) as address:
        assert audit(busy[0], "--scheduler", address) == audit(busy[0])


def audit_error(home: Home, *arguments: str) -> str:
    """What an audit that is not made says."""
    done = run("--home", str(home.path), "audit", *arguments)
    assert done.returncode in (2, 3)
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def test_what_cannot_be_audited_is_said(busy: tuple[Home, Home], tmp_path: Path) -> None:
    home = busy[0]
    both = audit_error(home, "--workers", "2", "--scheduler", "tcp://127.0.0.1:1")
    assert "give --workers or --scheduler, not both" in both
    gone = audit_error(home, "--scheduler", "tcp://127.0.0.1:1")
    assert "the scheduler tcp://127.0.0.1:1 cannot be reached, or has no worker" in gone
    assert "there is no channel in" in audit_error(home, "--archive", str(tmp_path))
    assert "no channel matches 'gamma'" in audit_error(home, "--channel", "gamma")
    odd = audit_error(home, "--archive", "nonsense://x")
    assert "cannot be used" in odd


def test_help_and_the_node_load_no_dask() -> None:
    code = (
        "import sys, tallystick.node.node, tallystick.node.cli, tallystick.node.cli.auditing\n"
        "import tallystick.node.auditing.checks\n"
        "sys.exit(', '.join({'dask', 'distributed'} & set(sys.modules)) or None)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# Spoilt homes


@pytest.fixture
def spoilt(busy: tuple[Home, Home], tmp_path: Path) -> Callable[[Spoil], dict[str, str]]:
    """What an audit of a copy of the provider's home says once something was changed in it."""

    def change(spoil: Spoil) -> dict[str, str]:
        shutil.copytree(busy[0].path, tmp_path / "home")
        home = open_home(tmp_path / "home")
        store = AnyStore(home.store_path)
        store.commit_now(spoil)
        store.close()
        return failing(audit(home))

    return change


Spoilt = Callable[[Spoil], dict[str, str]]


def rewrite(txn: Txn, log: int, place: int, change: Callable[[list[bytes]], None]) -> None:
    """Change the records of a batch."""
    key, value = list(txn.scan("batches", log_key(log), log_key(log + 1)))[place]
    _, parts = decode_batch(value)
    change(parts)
    txn.put("batches", key, batch_bytes(parts))


def test_a_bit_that_flipped_is_named(spoilt: Spoilt) -> None:
    def spoil(txn: Txn) -> None:
        key, stored = list(txn.stored("batches", log_key(OWN), log_key(OWN + 1)))[2]
        flipped = stored[:40] + bytes([stored[40] ^ 1]) + stored[41:]
        txn.put_raw("batches", key, flipped)

    said = spoilt(spoil)
    assert list(said) == ["records"]
    assert said["records"].startswith("in the provider's log, record ")
    assert "the store is damaged: table batches" in said["records"]


def test_a_record_with_another_quantity_has_another_root(spoilt: Spoilt) -> None:
    def more(parts: list[bytes]) -> None:
        record = decode_batch(batch_bytes(parts))[0][1]
        changed = msgspec.structs.replace(record, quantity=10_000)
        parts[1] = encode_record(changed)

    said = spoilt(lambda txn: rewrite(txn, OWN, 3, more))
    assert said["heads"].startswith("the provider's records give")
    assert "derivation" in said


def test_a_missing_batch_is_missed(spoilt: Spoilt) -> None:
    def spoil(txn: Txn) -> None:
        key, _ = list(txn.scan("batches", log_key(PEER), log_key(PEER + 1)))[1]
        txn.delete("batches", key)

    said = spoilt(spoil)
    assert "the log ends after" in said["records"] or "record" in said["records"]
    assert said["records"].startswith("in the consumer's log, ")


def test_a_wrong_balance_is_named(spoilt: Spoilt) -> None:
    def spoil(txn: Txn) -> None:
        rows = list(txn.scan("lines", log_key(OWN), log_key(OWN + 1)))
        key, value = rows[-1]
        tally = unpack_tally(value)
        tally.total += 5
        txn.put("lines", key, pack_tally(tally))

    said = spoilt(spoil)
    assert list(said) == ["balances"]


def test_a_changed_statement_is_named(spoilt: Spoilt) -> None:
    def spoil(txn: Txn) -> None:
        key, value = next(txn.scan("checkpoints", log_key(0), log_key(1)))
        row = msgspec.msgpack.decode(value, type=CheckpointRow)
        txn.put("checkpoints", key, encode_row(msgspec.structs.replace(row, lines=row.lines[1:])))

    said = spoilt(spoil)
    assert said["closed"].startswith(
        "2026-10: the 14 lines that are kept do not have the statement's root that both"
    )


def test_a_forged_cosignature_is_named(spoilt: Spoilt) -> None:
    def spoil(txn: Txn) -> None:
        for key, value in list(txn.scan("heads", log_key(OWN), log_key(OWN + 1))):
            row = msgspec.msgpack.decode(value, type=HeadRow)
            if row.cosignature:
                forged = bytes(8) + bytes(64)
                txn.put("heads", key, encode_row(HeadRow(row.root, row.signature, forged)))

    said = spoilt(spoil)
    assert "its co-signature does not hold" in said["signatures"]


def test_a_running_node_is_not_in_the_way(busy: tuple[Home, Home], tmp_path: Path) -> None:
    shutil.copytree(busy[0].path, tmp_path / "home")
    home = open_home(tmp_path / "home")
    node = subprocess.Popen(
        [sys.executable, "-c", _MAIN, "--home", str(home.path), "run", "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert node.stdout is not None
        assert node.stdout.readline().startswith("ready ")
        assert audit(home, "--workers", "1")["ok"]
    finally:
        node.terminate()
        node.communicate()
