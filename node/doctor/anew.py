"""Balances and id index made anew, for a store that comes without them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tallystick.node.logs import ChannelLog
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import COVERED_NOTHING, DerivedRow, encode_row, log_key
from tallystick.protocol.derive import Folder
from tallystick.protocol.records import Role, Terms


def forget_derived(txn: Txn, log: int) -> None:
    """Say that a log's balances and index are wrong and must be made anew."""
    txn.put("derived", log_key(log), encode_row(DerivedRow(COVERED_NOTHING, [])))


def make_anew(
    store: Store, index_folder: Path, party: str, channels: Iterable[tuple[int, bytes, Terms]]
) -> None:
    """Make them for both logs of each channel (number, id, terms) where they were forgotten."""
    index_folder.mkdir(mode=0o700, exist_ok=True)
    with store.read() as txn:
        seed = int.from_bytes(txn.get("meta", b"fingerprints") or b"", "big")
    for number, channel_id, terms in channels:
        for log in (2 * number, 2 * number + 1):
            role, ours = role_of_log(terms, party, log), log % 2 == 0
            opened = ChannelLog(store, index_folder, seed, log, Folder(terms), role, ours)
            opened.load(channel_id)
            opened.index.close()


def role_of_log(terms: Terms, party: str, log: int) -> Role:
    """The role of a log's author; even numbers are the party's own logs."""
    return "provider" if (log % 2 == 0) == (terms.provider.name == party) else "consumer"
