"""A store of an older version, whose batches were stored whole, however long."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import sealed

from tallystick.node.doctor.child import examine_apart
from tallystick.node.home import Home
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import (
    FORMAT,
    LogRow,
    encode_row,
    index_key,
    index_of,
    log_key,
)
from tallystick.protocol.records import batch_count, join_batches

_decode_log = msgspec.msgpack.Decoder(LogRow).decode


def _as_before(txn: Txn, log: int) -> None:
    """Join what belongs to one head."""
    rows = list(txn.scan("batches", log_key(log), log_key(log + 1)))
    heads = {index_of(key) for key in txn.keys("heads") if key[:4] == log_key(log)}
    before = sum(len(value) for _, value in rows)
    after = 0
    parts: list[bytes] = []
    begin = 0
    for key, value in rows:
        txn.delete("batches", key)
        parts.append(value)
        end = index_of(key) + batch_count(value)
        if end in heads:
            joined = join_batches(end - begin, parts)
            txn.put("batches", index_key(log, begin), joined)
            after += len(joined)
            begin, parts = end, []
    assert not parts
    row = _decode_log(txn.get("logs", log_key(log)) or b"")
    row.held_bytes -= before - after
    txn.put("logs", log_key(log), encode_row(row))


@pytest.fixture
def older(long_homes: tuple[Home, Home], tmp_path: Path) -> Home:
    home = sealed.copied(long_homes[0], tmp_path / "older", f"{tmp_path}/archive")
    store = Store(home.store_path)

    def job(txn: Txn) -> None:
        for log in (0, 1):
            _as_before(txn, log)
        txn.put("meta", b"format", b"2")

    store.commit_now(job)
    with store.read() as txn:
        rows = txn.scan("batches", log_key(0), log_key(1))
        assert max(batch_count(value) for _, value in rows) == 8000
    store.close()
    return home


def test_it_says_the_same(older: Home, long_homes: tuple[Home, Home]) -> None:
    checks = examine_apart(older.store_path, older.path / "ids", older.name)
    assert [check for check in checks if not check.ok] == []
    assert sealed.answers(older) == sealed.answers(long_homes[0])


def test_its_format_is_ours_once_it_is_opened_to_write(older: Home) -> None:
    for read_only, said in ((True, b"2"), (False, FORMAT), (True, FORMAT)):
        with sealed.opened(older, read_only=read_only) as books, books.store.read() as txn:
            assert txn.get("meta", b"format") == said


def test_it_is_sealed_and_dropped(older: Home, long_homes: tuple[Home, Home]) -> None:
    wanted = sealed.answers(long_homes[0])
    done = sealed.seal(older, drop=True)
    assert done["faults"] == []
    assert sealed.answers(older) == wanted
    checks = examine_apart(older.store_path, older.path / "ids", older.name)
    assert [check for check in checks if not check.ok] == []


def test_a_batch_for_the_peer_ends_at_a_head(older: Home, long_homes: tuple[Home, Home]) -> None:
    found = []
    for home in (older, long_homes[0]):
        with sealed.opened(home) as books:
            [(channel, _)] = books.channels.values()
            size = channel.own.durable_size
            found.append(
                [channel.own.batch_from(start, size) for start in (0, 1, 5, 4097, 8000, 70_000)]
            )
    assert found[0] == found[1]
