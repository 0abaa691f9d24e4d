"""Reading records back from segments, for whoever finds that the store has them no more.

A row group is read at once, checked against the leaf hashes that the store kept (`tiles`), and a
few of them are kept at hand. Nothing of a group is believed whose chain does not lead from the one
leaf hash to the other. Safe on several threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tallystick.node.config import load_config
from tallystick.node.errors import ArchiveError
from tallystick.node.segments import GROUP, SEGMENT
from tallystick.node.store.keyspace import SegmentRow, index_key, tile_key
from tallystick.protocol.errors import InputError
from tallystick.protocol.merkle import HASH_SIZE, TILE_HEIGHT, chain_leaves

if TYPE_CHECKING:
    from tallystick.node.importing.drafts import Draft
    from tallystick.node.logs import ChannelLog
    from tallystick.node.segments.archive import Archive
    from tallystick.node.store.disk import Txn

ARCHIVE_KEY = b"archive"  # in the table `meta`: where the archive was when something was sealed
TILE = 1 << TILE_HEIGHT
KEPT_BYTES_MAX = 32 * 1024 * 1024
PART_BYTES = 40  # what a record takes in memory beside its bytes

decode_segment = msgspec.msgpack.Decoder(SegmentRow).decode


def configured(home: Path) -> str:
    """Where a home's configuration says that its archive is; empty if it does not."""
    try:
        return load_config(home / "config.toml").archive.location
    except InputError:
        return ""  # a mistake in it is for the node to name


class Segments:
    """The segments of a store, and the archive that holds them.

    `location` says where that is; while it is empty, the store's own note of it counts. pyarrow and
    fsspec are loaded when a segment is read, and not before: most nodes never do.
    """

    def __init__(self) -> None:
        self.location = ""
        self._archive: Archive | None = None
        self._lock = threading.Lock()
        self._groups: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()
        self._bytes = 0

    def archive(self, txn: Txn) -> Archive:
        """The archive; `ArchiveError` if nothing says where it is."""
        from tallystick.node.segments.archive import Archive

        location = self.location or (txn.get("meta", ARCHIVE_KEY) or b"").decode()
        if not location:
            raise ArchiveError(
                "nothing says where the archive of this home is",
                "Set location in [archive] of config.toml",
            )
        with self._lock:
            if self._archive is None or self._archive.location != location:
                self._archive = Archive(location)
            return self._archive

    def parts(self, txn: Txn, log: int, start: int, stop: int) -> list[bytes]:
        """The bytes of a log's records from index `start` up to `stop`, all of them in segments."""
        found: list[bytes] = []
        for number in range(start // GROUP, -(-stop // GROUP)):
            first = number * GROUP
            group = self.group(txn, log, number)
            found += group[max(start - first, 0) : stop - first]
        return found

    def missing(self, log: int, indexes: Iterable[int]) -> set[int]:
        """The numbers of the row groups of these records that are not at hand."""
        wanted = {index // GROUP for index in indexes}
        with self._lock:
            return {number for number in wanted if (log, number) not in self._groups}

    def group(self, txn: Txn, log: int, number: int) -> list[bytes]:
        """The bytes of the records of a row group, counted from the log's beginning."""
        with self._lock:
            found = self._groups.get((log, number))
            if found is not None:
                self._groups.move_to_end((log, number))
                return found
        parts = self._read(txn, log, number)
        with self._lock:
            if (log, number) not in self._groups:
                self._groups[log, number] = parts
                self._bytes += _size(parts)
            while self._bytes > KEPT_BYTES_MAX and len(self._groups) > 1:
                self._bytes -= _size(self._groups.popitem(last=False)[1])
        return parts

    def _read(self, txn: Txn, log: int, number: int) -> list[bytes]:
        from tallystick.node.segments.files import altered

        first = number * GROUP // SEGMENT * SEGMENT
        value = txn.get("segments", index_key(log, first))
        if value is None:
            raise ArchiveError(
                f"record {number * GROUP} of log {log} is neither in the store nor in a segment",
                "Stop the node and run: tally doctor",
            )
        row = decode_segment(value)
        with self.archive(txn).segment(row.channel, row.role, first) as segment:
            parts = segment.group(number - first // GROUP)
            name = segment.name
        tile = number * GROUP // TILE
        before = row.channel if not tile else _last_leaf(txn, log, tile - 1)
        if chain_leaves(before, parts)[-1] != _last_leaf(txn, log, tile + GROUP // TILE - 1):
            raise altered(name, "its records are not those that were sealed")
        return parts


def _last_leaf(txn: Txn, log: int, tile: int) -> bytes:
    """The hash of the last leaf of a tile of 256, as the store kept it."""
    value = txn.get("tiles", tile_key(log, 1, tile))
    if value is None:
        raise ArchiveError(
            f"tile {tile} of log {log} is not in the store, so its segment cannot be checked",
            "Stop the node and run: tally doctor",
        )
    return value[HASH_SIZE:]


def _size(parts: list[bytes]) -> int:
    return sum(map(len, parts)) + PART_BYTES * len(parts)


async def have_at_hand(log: ChannelLog, indexes: Iterable[int]) -> None:
    """Read what is in segments alone of these records of a log, off the trio thread, so that it is
    in memory when they are looked up.
    """
    wanted = [index for index in indexes if index < log.dropped]
    if not wanted:
        return

    def fetch(number: int) -> None:
        with log.store.read() as txn:
            txn.segments.group(txn, log.number, number)

    for number in sorted(log.store.segments.missing(log.number, wanted)):
        await log.store.off_thread(fetch, number)


async def have_repeated_at_hand(log: ChannelLog, drafts: Iterable[Draft]) -> None:
    """The same for the records that these drafts may repeat."""
    known = log.known(log.fingerprints([(draft.meter, draft.id) for draft in drafts]))
    await have_at_hand(log, [index for indexes in known.values() for index in indexes])
