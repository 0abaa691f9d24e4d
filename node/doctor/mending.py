"""Mending: rows that follow from records are made anew, and a torn log goes back to a sound head.

What cannot be right is taken out and written to files first, as it was on the disk. A log that is
damaged itself is cut back to the newest signed head before that, and its channel is in doubt until
the peer has spoken: it returns our records and appends its own again. Batches of our own log from
behind the cut that are readable are recorded again then, if the peer did not have them.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tallystick.node.books import RESTORED, WITNESS_DOUBT
from tallystick.node.doctor.anew import forget_derived, make_anew, role_of_log
from tallystick.node.doctor.balances import read_checkpoints
from tallystick.node.doctor.examination import AnyStore, examine
from tallystick.node.doctor.findings import Damaged, Findings, LogFindings
from tallystick.node.doctor.logs import LogExamination
from tallystick.node.doctor.salvage import salvage
from tallystick.node.doctor.sealed import put_back
from tallystick.node.doctor.structure import walk_snapshot
from tallystick.node.doctor.tables import name_row, value_of
from tallystick.node.errors import ArchiveError, StoreError
from tallystick.node.feed.rows import FEED_TABLES, STATE, forget_feed
from tallystick.node.founding import decode_channel
from tallystick.node.rebuilding import free_number
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import (
    FORMAT,
    ChannelRow,
    HeadRow,
    encode_row,
    index_key,
    index_of,
    log_key,
)
from tallystick.node.store.matters import FOLLOWING
from tallystick.protocol.errors import FormatError
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.records import Role, batch_bytes, decode_batch, encode_record

_REMADE = ("tiles", "corrections", "logs", "derived", "lines", *FOLLOWING)


def mend(path: Path, index_folder: Path, party: str, aside: Path) -> list[str]:
    """Mend a store that nobody else uses; what was done, in sentences.

    `aside` is a folder, made if anything is set aside. `StoreError` if nothing can be read.
    """
    said: list[str] = []
    if walk_snapshot(path).faults:
        said += salvage(path, aside)
    store = AnyStore(path)
    try:
        findings = examine(store, index_folder, party)
        unreadable = [log.unreadable for log in findings.logs if log.unreadable]
        if unreadable:
            raise ArchiveError(
                f"the store was not mended: {unreadable[0]}",
                "Records that are in the archive alone are needed; put the file back first",
            )
        if not findings.ok:
            said += _Mending(store, index_folder, party, aside, findings).run()
    finally:
        store.close()
    return said


class _Mending:
    def __init__(
        self, store: Store, index_folder: Path, party: str, aside: Path, findings: Findings
    ) -> None:
        self._store, self._index_folder, self._party = store, index_folder, party
        self._folder = aside
        self._findings = findings
        self._said: list[str] = []

    def run(self) -> list[str]:
        with self._store.read() as txn:
            rows = [*self._findings.damaged, *self._beyond(txn)]
        away = list({(row.table, row.key): row for row in reversed(rows)}.values())
        if away:
            file = set_aside(self._folder, away)
            self._said.append(f"{len(away)} rows were set aside in {file}")
        self._store.commit_now(lambda txn: self._rewrite(txn, away))
        logs = [log for log in self._findings.logs if log.number % 2 == 0]
        channels = [(log.number // 2, log.channel_id, log.terms) for log in logs]
        make_anew(self._store, self._index_folder, self._party, channels)
        return self._said

    def _beyond(self, txn: Txn) -> Iterator[Damaged]:
        """What a cut takes out of the logs, and the checkpoints that count it."""
        for log in self._findings.logs:
            if log.torn:
                for table in ("batches", "heads"):
                    start, stop = log_key(log.number), log_key(log.number + 1)
                    for key, stored in txn.stored(table, start, stop):
                        if self._is_beyond(log, table, key, stored):
                            yield Damaged(table, key, stored, "behind the last sound head")
        for number in {log.number // 2 for log in self._findings.logs}:
            rows, faults = read_checkpoints(txn, number)
            kept = sum(self._counted(number, row) for row in rows)
            if faults or kept < len(rows):
                start, stop = index_key(number, kept), log_key(number + 1)
                for key, stored in txn.stored("checkpoints", start, stop):
                    yield Damaged("checkpoints", key, stored, "it counts what is not here")

    def _is_beyond(self, log: LogFindings, table: str, key: bytes, stored: bytes) -> bool:
        if len(key) != 12:
            return True
        if table == "heads":
            return index_of(key) > log.sound
        value = value_of(table, key, stored)
        count = int.from_bytes(value[1:5], "big") if value else 1
        return index_of(key) + count > log.sound

    def _counted(self, number: int, row: Any) -> bool:
        """Whether both logs have what a checkpoint counts."""
        for log in self._findings.logs:
            left = log.sound if log.torn else log.size
            if log.number // 2 == number and row.size_of(self._role(log)) > left:
                return False
        return True

    def _role(self, log: LogFindings) -> Role:
        return role_of_log(log.terms, self._party, log.number)

    # One transaction

    def _rewrite(self, txn: Txn, away: list[Damaged]) -> None:
        for row in away:
            txn.delete(row.table, row.key)
        seed_lost = self._settings(txn)
        if any(row.table in FEED_TABLES or row.key == STATE for row in away):
            forget_feed(txn)  # else it would tell again what a lost row said was told
        if any(row.table == "seen" for row in away):
            txn.put("meta", WITNESS_DOUBT, b"")  # a witness that forgot could sign a second history
        for log in self._findings.logs:
            if log.torn:
                self._keep(txn, log, away)
                put_back(txn, log, self._role(log))
                self._say_cut(log)
            if log.torn or log.remake or seed_lost or self._damaged(log, away):
                self._remake(txn, log)
        for log in self._findings.logs:
            channel = txn.get("channels", log.channel_id)
            if channel is None:
                self._restore_channel(txn, log)
            elif log.torn:
                doubted = msgspec.structs.replace(decode_channel(channel), doubt=1)
                txn.put("channels", log.channel_id, encode_row(doubted))

    def _damaged(self, log: LogFindings, away: list[Damaged]) -> bool:
        tables = (*_REMADE, "checkpoints")
        return any(
            row.table in tables
            and int.from_bytes(row.key[:4], "big")
            == (log.number // 2 if row.table == "checkpoints" else log.number)
            for row in away
        )

    def _settings(self, txn: Txn) -> bool:
        """Settings that are gone; whether the seed of the index is among them."""
        txn.put("meta", b"format", FORMAT)
        if txn.get("meta", b"place") is None:
            txn.put("meta", b"place", b"unknown")
            txn.put("meta", RESTORED, b"")
        if txn.get("meta", b"fingerprints") is None:
            txn.put("meta", b"fingerprints", secrets.token_bytes(8))
            return True
        return False

    def _keep(self, txn: Txn, log: LogFindings, away: list[Damaged]) -> None:
        """Of the batches behind a cut keep what is readable: ours to be recorded again."""
        ours = log.number % 2 == 0
        for row in away:
            if row.table != "batches" or row.key[:4] != log_key(log.number):
                continue
            value = value_of("batches", row.key, row.stored)
            first = index_of(row.key) if len(row.key) == 12 else -1
            try:
                parts = decode_batch(value)[1] if value and first >= 0 else []
            except FormatError:
                continue
            before = max(log.sound - first, 0)
            if before and parts:
                txn.put("batches", row.key, batch_bytes(parts[:before]))
            if ours and parts[before:]:
                key = index_key(log.number, free_number(txn, "aside", log.number))
                txn.put("aside", key, batch_bytes(parts[before:]))

    def _say_cut(self, log: LogFindings) -> None:
        whose = "our log" if log.number % 2 == 0 else "the peer's log"
        self._said.append(
            f"{whose} in channel {log.channel_id.hex()[:8]} was cut back to {log.sound} records,"
            " the newest sound head; the peer has the rest and sends it when the node runs"
        )

    def _remake(self, txn: Txn, log: LogFindings) -> None:
        """Make the rows of a log anew that follow from its records."""
        start, stop = log_key(log.number), log_key(log.number + 1)
        for table in _REMADE:
            for key, _ in list(txn.stored(table, start, stop)):
                txn.delete(table, key)
        again = LogExamination(
            txn, log.channel_id, log.terms, log.number, self._role(log), set(), None
        )
        again.read()
        ring = Keyring(log.terms, again.seen.state.facts.keys)
        again.judge((ring, ring), "")
        txn.put("logs", start, encode_row(again.row()))
        for table, rows in (
            ("tiles", again.seen.tiles),
            ("corrections", again.seen.corrections),
            *again.seen.following.items(),
        ):
            for key, value in rows.items():
                txn.put(table, key, value)
        forget_derived(txn, log.number)
        self._said.append(
            f"log {log.number}: tree, corrections, matters, balances and id index were made anew"
        )

    def _restore_channel(self, txn: Txn, log: LogFindings) -> None:
        """A channel's row from its terms: in doubt, and open even if it was halted."""
        parties = (log.terms.provider.name, log.terms.consumer.name)
        peer = parties[1] if parties[0] == self._party else parties[0]
        number = log.number // 2
        head = txn.get("heads", index_key(2 * number + 1, 1))
        signature = msgspec.msgpack.decode(head, type=HeadRow).signature if head else b""
        row = ChannelRow(number, encode_record(log.terms), peer, "open", signature, "", 1)
        txn.put("channels", log.channel_id, encode_row(row))
        self._said.append(f"the row of channel {log.channel_id.hex()[:8]} was made anew")


def set_aside(folder: Path, rows: list[Damaged]) -> Path:
    """Write rows as they were on the disk to a new file, durably: JSON Lines, bytes in hex."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / "rows.jsonl"
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        with os.fdopen(handle, "w") as opened:
            for row in rows:
                document = {
                    "table": row.table,
                    "key": row.key.hex(),
                    "stored": row.stored.hex(),
                    "row": name_row(row.table, row.key),
                    "why": row.why,
                }
                opened.write(json.dumps(document) + "\n")
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror}", "Free some space") from None
    return file
