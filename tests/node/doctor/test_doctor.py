"""The doctor: a sound store passes, whatever does not follow is named, and mending makes it fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import builders
import homes
import msgspec
import pytest

from tallystick.node.doctor.child import examine_apart
from tallystick.node.doctor.examination import AnyStore, examine
from tallystick.node.doctor.findings import Check
from tallystick.node.doctor.mending import mend
from tallystick.node.founding import decode_channel
from tallystick.node.home import Home, open_home
from tallystick.node.importing.drafts import Draft
from tallystick.node.quotas import counted_bytes
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import (
    ChannelRow,
    CheckpointRow,
    HeadRow,
    LogRow,
    encode_row,
    index_key,
    log_key,
    pack_tally,
    tile_key,
    unpack_tally,
)
from tallystick.protocol.heads import Head, sign_head
from tallystick.protocol.keys import origin
from tallystick.protocol.log import LogState, append, fold_facts
from tallystick.protocol.merkle import Frontier
from tallystick.protocol.records import (
    Delta,
    Dispute,
    batch_bytes,
    batch_count,
    decode_batch,
    encode_record,
)
from tallystick.protocol.statement import decode_line
from tallystick.protocol.terms import channel_id

OWN, PEER = 0, 1  # log numbers
CHANNEL = channel_id(builders.make_terms(*(builders.identity(name) for name in homes.NAMES)))
Spoil = Callable[[Txn], None]


@pytest.fixture
def home(busy: tuple[Home, Home], tmp_path: Path) -> Home:
    """A copy of the provider's home of a busy channel."""
    shutil.copytree(busy[0].path, tmp_path / "home")
    return open_home(tmp_path / "home")


def _examine(home: Home) -> list[Check]:
    store = AnyStore(home.store_path, read_only=True)
    try:
        return examine(store, home.path / "ids", home.name).checks
    finally:
        store.close()


def _failing(home: Home) -> dict[str, str]:
    """What does not hold: details by names, without the channel's id."""
    failing = {check.name: check.detail for check in _examine(home) if check.ok is False}
    channel = f"{CHANNEL.hex()[:8]}"
    return {name.removeprefix(channel).lstrip(": "): said for name, said in failing.items()}


def _write(home: Home, *spoils: Spoil) -> None:
    store = AnyStore(home.store_path)
    store.commit_now(*spoils)
    store.close()


def _mend(home: Home) -> list[str]:
    return mend(home.store_path, home.path / "ids", home.name, home.path / "damaged" / "now")


def _batches(home: Home, log: int) -> list[tuple[bytes, bytes]]:
    store = Store(home.store_path, read_only=True)
    with store.read() as txn:
        rows = list(txn.scan("batches", log_key(log), log_key(log + 1)))
    store.close()
    return rows


def _doubt(home: Home) -> int:
    store = Store(home.store_path, read_only=True)
    with store.read() as txn:
        rows = [decode_channel(value) for _, value in txn.scan("channels", b"", b"\xff" * 33)]
    store.close()
    return rows[0].doubt


def _flip(table: str, key: bytes) -> Spoil:
    """Flip a byte in the middle of a value."""

    def spoil(txn: Txn) -> None:
        stored = bytearray(txn.raw(table, key))
        stored[len(stored) // 2] ^= 0x10
        txn.put_raw(table, key, bytes(stored))

    return spoil


async def test_a_period_that_carries_a_dispute_of_what_nobody_touched_since_is_sound(
    tmp_path: Path,
) -> None:
    async with homes.founded(tmp_path) as (a, b):
        drafts = [Draft("t1", "tokens", "s", 100, builders.OCTOBER_US)]
        for side in (a, b):
            await side.channel.emit(drafts)
        await homes.close(a, b, "2026-10")
        await b.channel.append_own(
            Dispute("2026-10", "tokens", "s", 30, "quantity", "too much", (), 0)
        )
        await homes.close(a, b, "2026-11")
        (line,) = a.closer.open_lines()
        assert (line.payable, line.disputed) == ("0", "30")
        assert [decode_line(data).payable for data in a.closer.rows[1].lines] == ["-30"]
    assert _failing(a.home) == _failing(b.home) == {}


def test_a_sound_store_passes_and_nothing_in_it_changes(home: Home) -> None:
    before = (home.store_path / "data.mdb").read_bytes()
    checks = examine_apart(home.store_path, home.path / "ids", home.name)
    assert {check.ok for check in checks} == {True}
    assert len(checks) == 27
    assert (home.store_path / "data.mdb").read_bytes() == before
    assert _mend(home) == []


def _first(txn: Txn, table: str, log: int = OWN) -> tuple[bytes, bytes]:
    return next(txn.scan(table, log_key(log), log_key(log + 1)))


def _change_tile(txn: Txn) -> None:
    value = txn.get("tiles", tile_key(OWN, 1, 1))
    assert value is not None
    txn.put("tiles", tile_key(OWN, 1, 1), bytes(32) + value[32:])


def _change_facts(txn: Txn) -> None:
    row = msgspec.msgpack.decode(txn.get("logs", log_key(OWN)) or b"", type=LogRow)
    facts = msgspec.structs.replace(row.facts, recorded_at=1)
    txn.put("logs", log_key(OWN), encode_row(msgspec.structs.replace(row, facts=facts)))


def _change_sizes(txn: Txn) -> None:
    row = msgspec.msgpack.decode(txn.get("logs", log_key(PEER)) or b"", type=LogRow)
    txn.put("logs", log_key(PEER), encode_row(msgspec.structs.replace(row, cosigned_size=2)))


def _change_line(txn: Txn) -> None:
    key, value = _first(txn, "lines")
    tally = unpack_tally(value)
    tally.total += 1
    txn.put("lines", key, pack_tally(tally))


def _lose_line(txn: Txn) -> None:
    txn.delete("lines", _first(txn, "lines", PEER)[0])


def _more_lines(txn: Txn) -> None:
    key, value = _first(txn, "lines")
    txn.put("lines", key + b"x", value)


def _lose_correction(txn: Txn) -> None:
    txn.delete("corrections", _first(txn, "corrections")[0])


def _lose_tile(txn: Txn) -> None:
    txn.delete("tiles", tile_key(PEER, 1, 0))


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (_change_tile, "acme.example: tiles"),
        (_lose_tile, "beta.example: tiles"),
        (_change_facts, "acme.example: state"),
        (_change_sizes, "beta.example: state"),
        (_change_line, "acme.example: balances"),
        (_more_lines, "acme.example: balances"),
        (_lose_line, "beta.example: balances"),
        (_lose_correction, "acme.example: corrections"),
        (lambda txn: txn.put("meta", b"x", b""), "rows"),
        (lambda txn: txn.put("tiles", tile_key(9, 1, 0), bytes(64)), "orphans"),
        (lambda txn: txn.put("batches", b"x", b"y"), "orphans"),
        (lambda txn: txn.put("invites", bytes(16), b"y"), "rows"),
    ],
)
def test_what_does_not_follow_from_the_records_is_named_and_made_anew(
    home: Home, spoil: Spoil, named: str
) -> None:
    sizes = [len(_batches(home, log)) for log in (OWN, PEER)]
    _write(home, spoil)
    assert list(_failing(home)) == [named]
    assert _mend(home)
    assert _failing(home) == {}
    assert [len(_batches(home, log)) for log in (OWN, PEER)] == sizes
    assert _doubt(home) == 0


def test_every_delta_must_be_found_by_its_id(home: Home) -> None:
    for file in (home.path / "ids").iterdir():
        data = bytearray(file.read_bytes())
        data[len(data) // 3] ^= 1
        file.write_bytes(data)
    assert set(_failing(home)) == {"acme.example: id index", "beta.example: id index"}
    assert _mend(home)
    assert _failing(home) == {}
    for file in (home.path / "ids").iterdir():
        file.unlink()
    assert set(_failing(home)) == {"acme.example: id index", "beta.example: id index"}
    assert _mend(home)
    assert _failing(home) == {}


def test_a_changed_checkpoint_is_named(home: Home) -> None:
    key = index_key(0, 1)

    def spoil(txn: Txn) -> None:
        row = msgspec.msgpack.decode(txn.get("checkpoints", key) or b"", type=CheckpointRow)
        txn.put("checkpoints", key, encode_row(msgspec.structs.replace(row, lines=row.lines[1:])))

    _write(home, spoil)
    assert list(_failing(home)) == ["checkpoints"]


def test_a_head_whose_signature_does_not_hold_is_named(home: Home) -> None:
    batches = _batches(home, PEER)
    size = int.from_bytes(batches[20][0][4:], "big")

    def spoil(txn: Txn) -> None:
        value = txn.get("heads", index_key(PEER, size)) or b""
        row = msgspec.msgpack.decode(value, type=HeadRow)
        txn.put("heads", index_key(PEER, size), encode_row(HeadRow(row.root, bytes(64), b"")))

    _write(home, spoil)
    failing = _failing(home)
    assert failing["beta.example: signatures"].startswith(f"head of size {size}: ")


@pytest.mark.parametrize("log", [OWN, PEER])
@pytest.mark.parametrize("table", ["batches", "heads"])
def test_a_damaged_log_is_cut_back_to_its_last_sound_head(home: Home, log: int, table: str) -> None:
    batches = _batches(home, log)
    first = int.from_bytes(batches[30][0][4:], "big")
    _write(home, _flip(table, index_key(log, first)))
    name = ("acme.example", "beta.example")[log]
    failing = _failing(home)
    assert "sums" in failing
    bad = first if table == "batches" else int.from_bytes(batches[29][0][4:], "big")
    said = failing[f"{name}: records"]
    assert said.startswith(f"record {bad}: ")
    assert f"heads from size {bad + batch_count(batches[30 if bad == first else 29][1])} on" in said
    assert "checkpoints 2026-10, 2026-11" in said
    sentences = _mend(home)
    assert any(f"cut back to {bad} records" in sentence for sentence in sentences)
    assert _failing(home) == {}
    assert _doubt(home) == 1
    left = _batches(home, log)
    assert sum(batch_count(value) for _, value in left) == bad
    aside = (home.path / "damaged" / "now" / "rows.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in aside]
    assert len([row for row in rows if row["table"] == "batches"]) == len(batches) - len(left)
    assert len([row for row in rows if row["table"] == "checkpoints"]) == 2
    store = Store(home.store_path, read_only=True)
    with store.read() as txn:
        kept = [decode_batch(value)[0] for _, value in txn.scan("aside", b"", b"\xff" * 12)]
    store.close()
    unreadable = table == "batches"
    assert len(kept) == (len(batches) - len(left) - unreadable if log == OWN else 0)


def test_an_invalid_record_is_named_though_all_its_signatures_hold(home: Home) -> None:
    """The peer's log ends with a delta that the terms do not let it record."""
    author = builders.identity("beta.example")
    delta = Delta("d", "gpu-hours", "s", 1, builders.DECEMBER_US, homes.NOW_US, None)
    size = 0

    def spoil(txn: Txn) -> None:
        nonlocal size
        row = msgspec.msgpack.decode(txn.get("logs", log_key(PEER)) or b"", type=LogRow)
        size = row.size
        state = LogState(row.last_leaf, Frontier.from_bytes(size, row.frontier), row.facts)
        parts = [encode_record(delta)]
        after = append(state, parts, fold_facts(row.facts, size, [delta])).state
        root = after.frontier.root()
        head = Head(origin(author.name, CHANNEL), after.size, root)
        signed = encode_row(HeadRow(root, sign_head(head, author.log), b""))
        txn.put("batches", index_key(PEER, size), batch_bytes(parts))
        txn.put("heads", index_key(PEER, size + 1), signed)
        frontier = after.frontier.to_bytes()
        held = row.held_bytes + counted_bytes(len(batch_bytes(parts)), 1, 1)
        cosigned = row.cosigned_size
        new = LogRow(size + 1, after.last_leaf, frontier, after.facts, size + 1, cosigned, held)
        txn.put("logs", log_key(PEER), encode_row(new))

    _write(home, spoil)
    failing = _failing(home)
    assert list(failing) == ["beta.example: validity"]
    assert failing["beta.example: validity"].startswith(f"record {size}: the consumer does not")


def test_a_log_that_lost_its_end_is_in_doubt(home: Home) -> None:
    """Whatever is left fits together; that there was more is only in the log's row."""
    [*_, (last, value)] = _batches(home, PEER)
    size = int.from_bytes(last[4:], "big")

    def lose(txn: Txn) -> None:
        txn.delete("batches", last)
        txn.delete("heads", index_key(PEER, size + batch_count(value)))

    _write(home, lose)
    assert _failing(home)["beta.example: state"].startswith("its size is not")
    _mend(home)
    assert _failing(home) == {}
    assert _doubt(home) == 1
    assert len(_batches(home, PEER)) > 30


def test_a_lost_row_of_a_log_puts_its_channel_in_doubt(home: Home) -> None:
    _write(home, _flip("logs", log_key(OWN)))
    assert set(_failing(home)) == {"sums", "acme.example: state"}
    before = _batches(home, OWN)
    _mend(home)
    assert _failing(home) == {}
    assert _doubt(home) == 1
    assert _batches(home, OWN) == before[:-1]  # the tail that nobody signed waits aside


def test_the_end_of_the_reading_process_is_a_finding(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr("tallystick.node.doctor.child._MAIN", dying)
    [check] = examine_apart(home.store_path, home.path / "ids", home.name)
    assert (check.ok, "SIGSEGV" in check.detail) == (False, True)
    monkeypatch.setattr("tallystick.node.doctor.child._MAIN", "raise MemoryError('too much')")
    [check] = examine_apart(home.store_path, home.path / "ids", home.name)
    assert (check.ok, check.detail.endswith("MemoryError: too much")) == (False, True)


@pytest.mark.parametrize("log", [OWN, PEER])
def test_a_log_that_is_damaged_from_its_beginning_is_cut_to_nothing(home: Home, log: int) -> None:
    _write(home, _flip("batches", index_key(log, 0)))
    assert any("cut back to 0 records" in sentence for sentence in _mend(home))
    assert _failing(home) == {}
    assert (_batches(home, log), _doubt(home)) == ([], 1)


@pytest.mark.parametrize("key", [b"format", b"fingerprints", b"place", b"port"])
def test_settings_that_are_damaged_are_made_anew(home: Home, key: bytes) -> None:
    def port(txn: Txn) -> None:
        txn.put("meta", b"port", b"7450")

    _write(home, port, _flip("meta", key))
    assert "sums" in _failing(home)
    assert _mend(home)
    assert _failing(home) == {}


def test_a_channels_row_comes_back_from_its_log(home: Home) -> None:
    store = Store(home.store_path, read_only=True)
    with store.read() as txn:
        [(key, before)] = txn.scan("channels", b"", b"\xff" * 33)
    store.close()
    _write(home, _flip("channels", key))
    assert set(_failing(home)) == {"sums", "channels"}
    assert _mend(home)
    assert _failing(home) == {}
    store = Store(home.store_path, read_only=True)
    with store.read() as txn:
        row = decode_channel(txn.get("channels", key) or b"")
    store.close()
    expected: ChannelRow = decode_channel(before)
    assert row == msgspec.structs.replace(expected, doubt=1)


def test_a_lost_peer_is_said(home: Home) -> None:
    _write(home, _flip("peers", b"beta.example"))
    _mend(home)
    assert "its peer beta.example is not paired" in _failing(home)["channels"]


def test_damaged_pages_are_saved_from(home: Home) -> None:
    file = home.store_path / "data.mdb"
    data = bytearray(file.read_bytes())
    leaves = [at for at in range(2 * 4096, len(data), 4096) if data[at + 10] == 2]
    records = [at for at in leaves if b"tokens" in data[at : at + 4096]]  # the peer has them, too
    data[records[0] + 14] ^= 0x40
    file.write_bytes(data)
    checks = examine_apart(home.store_path, home.path / "ids", home.name)
    assert [check.ok for check in checks] == [False]
    assert checks[0].detail.startswith("page ")
    assert _mend(home)
    assert (home.path / "damaged" / "now" / "data.mdb").read_bytes() == bytes(data)
    again = examine_apart(home.store_path, home.path / "ids", home.name)
    assert [check for check in again if check.ok is False] == []
