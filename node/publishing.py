"""A log of ours as files that any client of tiled logs reads (c2sp.org/tlog-tiles).

Tiles of hashes, bundles of entries (an entry is a leaf's data: the hash before it and the record),
and last the checkpoint: the newest co-signed head with all lines on it. What is there stays,
so that publishing again writes only what is new.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tallystick.node.errors import StoreError
from tallystick.node.files import write_whole
from tallystick.node.logs import ChannelLog
from tallystick.node.proving import signed_head
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import tile_key
from tallystick.node.store.source import stored_parts
from tallystick.node.store.tiles import TILE
from tallystick.protocol.errors import FormatError, InputError
from tallystick.protocol.heads import Head, parse_head
from tallystick.protocol.merkle import HASH_SIZE, chain_leaves
from tallystick.protocol.notes import NOTE_BYTES_MAX, parse_note

ENTRY_BYTES_MAX = 2**16 - 1
LEVELS_MAX = 8  # 256^8 leaves are more than a size can say
PUBLIC = 0o644


@dataclass(frozen=True, slots=True)
class Published:
    """What a folder holds now: a log up to a size; how many files are new."""

    origin: str
    size: int
    files: int


def publish(log: ChannelLog, folder: Path) -> Published:
    """Write what a folder lacks of a log, up to its newest co-signed head."""
    size = log.cosigned_size
    with log.store.read() as txn:
        note = signed_head(log, txn, size, witnessed=True)
    head = parse_head(parse_note(note).text)
    _check_folder(log, folder, head)
    files = _write_leaves(log, folder, size) + _write_levels(log, folder, size)
    _write(folder / "checkpoint", note)
    for path in _full_beside_partial(folder, size):
        shutil.rmtree(path, ignore_errors=True)
    return Published(head.origin, size, files)


def tile_path(level: str, number: int, width: int = TILE) -> str:
    """Where a tile is: its number in groups of three digits; `level` may be `entries`."""
    digits = [f"{number % 1000:03d}"]
    while number := number // 1000:
        digits.insert(0, f"x{number % 1000:03d}")
    part = "" if width == TILE else f".p/{width}"
    return f"tile/{level}/{'/'.join(digits)}{part}"


def _check_folder(log: ChannelLog, folder: Path, head: Head) -> None:
    """`InputError` unless the folder is empty, or holds an earlier state of this very log."""
    file = folder / "checkpoint"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            if any(folder.iterdir()) and not (folder / "tile").exists():
                raise InputError(f"{folder} has other files in it", "Give a folder of its own")
            return
        with file.open("rb") as opened:
            before = parse_head(parse_note(opened.read(NOTE_BYTES_MAX + 1)).text)
    except OSError as error:
        raise StoreError(f"{folder} cannot be used: {error.strerror}") from None
    except FormatError as error:
        raise InputError(f"{file} is no checkpoint: {error.message}") from None
    if before.origin != head.origin:
        raise InputError(f"{folder} holds the log {before.origin}", "Give another folder")
    if before.size > head.size or (before.size and log.root_at(before.size) != before.root):
        raise InputError(
            f"{folder} holds {before.size} records of another history of this log",
            "See tally status and tally recover before you publish anything",
        )


def _write_leaves(log: ChannelLog, folder: Path, size: int) -> int:
    """Write the tiles of leaf hashes and the bundles of entries."""
    files = 0
    for number in range((size + TILE - 1) // TILE):
        width = min(size - number * TILE, TILE)
        hashes = folder / tile_path("0", number, width)
        entries = folder / tile_path("entries", number, width)
        if hashes.exists() and entries.exists():
            continue
        with log.store.read() as txn:
            previous = log.channel_id
            if number:
                row = txn.get("tiles", tile_key(log.number, 1, number - 1))
                assert row is not None, "every tile below a durable size is there"
                previous = row[HASH_SIZE:]
            start = number * TILE
            parts = list(stored_parts(txn, log.number, start, start + width))
        leaves = chain_leaves(previous, parts)
        _write(entries, _bundle(start, [previous, *leaves], parts))
        _write(hashes, b"".join(leaves))
        files += 2
    return files


def _bundle(start: int, before: list[bytes], parts: list[bytes]) -> bytes:
    made = []
    for at, (previous, part) in enumerate(zip(before, parts, strict=False), start):
        entry = previous + part
        if len(entry) > ENTRY_BYTES_MAX:
            raise InputError(
                f"record {at} has {len(part)} bytes, more than an entry of this layout may have",
                "This log cannot be published so; prove single records with tally prove",
            )
        made.append(len(entry).to_bytes(2, "big") + entry)
    return b"".join(made)


def _write_levels(log: ChannelLog, folder: Path, size: int) -> int:
    """Write the tiles above the leaves, from the roots that the store has of full tiles below."""
    files = 0
    for level in range(1, LEVELS_MAX):
        count = size >> (8 * level)
        for number in range((count + TILE - 1) // TILE):
            width = min(count - number * TILE, TILE)
            path = folder / tile_path(str(level), number, width)
            if not path.exists():
                with log.store.read() as txn:
                    _write(path, _roots(txn, log.number, level, number * TILE, width))
                files += 1
    return files


def _roots(txn: Txn, log: int, level: int, first: int, count: int) -> bytes:
    rows = [txn.get("tiles", tile_key(log, level, first + n)) for n in range(count)]
    return b"".join(row[:HASH_SIZE] for row in rows if row is not None)


def _full_beside_partial(folder: Path, size: int) -> list[Path]:
    """The folders of partial tiles whose full tile is there: each level's last one."""
    found = []
    for level in ("0", "entries", *map(str, range(1, LEVELS_MAX))):
        count = size >> (8 * int(level)) if level.isdigit() else size
        path = folder / tile_path(level, max(count // TILE - 1, 0))
        if path.exists():
            found.append(path.with_name(f"{path.name}.p"))
    return found


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{path.parent} cannot be made: {error.strerror}") from None
    write_whole(path, data, PUBLIC)
