"""Backups: a consistent copy of a home while its node runs, and a home made of one.

A backup is a folder: the home's files, the store as one snapshot had it, and `manifest.json`, which
says what is in it down to the bytes. Nothing in it needs this code: the store is an LMDB file. The
id index is left out, for it follows from the records; what is kept of reconciliation sessions is in
it, for it follows from nothing. A home that is made of a backup holds what was true then, so it is
marked: every channel is in doubt until its peer has spoken.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from tallystick.node.books import RESTORED
from tallystick.node.doctor.anew import forget_derived, make_anew
from tallystick.node.doctor.child import examine_apart
from tallystick.node.doctor.structure import walk_snapshot
from tallystick.node.errors import ArchiveError, HomeError, StoreError
from tallystick.node.files import sync, whole_folder
from tallystick.node.founding import decode_channel
from tallystick.node.home import Home, open_home, whole_home
from tallystick.node.reconciling.disclosing import SUFFIX as NOTE_SUFFIX
from tallystick.node.reconciling.kept import FOLDER as SESSIONS
from tallystick.node.segments.reading import configured
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import ChannelRow, HeadRow, LogRow, index_key, log_key
from tallystick.node.store.source import kept_from
from tallystick.node.webhooks.endpoints import FILE as ENDPOINTS_FILE
from tallystick.protocol.errors import InputError, TallyError
from tallystick.protocol.keys import SEED_SIZE, Identity
from tallystick.protocol.merkle import EMPTY_ROOT
from tallystick.protocol.records import Terms, decode_record

BACKUP_FORMAT = 1
MANIFEST = "manifest.json"
STORE_FILE = "store/data.mdb"
_OF_THE_PROCESS = ("lock", "socket")
_FOUNDED = ("open", "halted")
_CHUNK = 1 << 20
_decode_log = msgspec.msgpack.Decoder(LogRow).decode
_decode_head = msgspec.msgpack.Decoder(HeadRow).decode


class FileEntry(msgspec.Struct, frozen=True):
    """A file of a backup: its size in bytes and its SHA-256 in hex."""

    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What `manifest.json` says; `channels` is for people and their scripts."""

    format: int
    party: str
    made_at: str
    version: str
    files: dict[str, FileEntry]
    channels: list[dict[str, Any]]

    @property
    def has_seed(self) -> bool:
        """Whether the seed is in the backup."""
        return any(_is_seed(name) for name in self.files)


def _is_seed(name: str) -> bool:
    return name == "seed" or name.startswith("seed.")


def _is_secret(name: str) -> bool:
    """Whether a file is left out with the seed: webhooks are signed with what is in theirs."""
    return _is_seed(name) or name.startswith(ENDPOINTS_FILE)


def make_backup(home: Home, target: Path, *, with_seed: bool) -> Manifest:
    """Copy a home to a new folder, whole or not at all; its node may run and is not disturbed."""
    target = target.absolute()
    if target.exists() or target.is_symlink():
        raise HomeError(f"there is something in {target} already", "Name a folder that is new")
    try:
        with whole_folder(target) as made:
            return _fill(home, made, with_seed=with_seed)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror}") from None


def _fill(home: Home, made: Path, *, with_seed: bool) -> Manifest:
    (made / "store").mkdir(mode=0o700)
    # Before the store: what is gone by the time that it is copied is in a log there.
    _copy_sessions(home, made, f"[0-9a-f]*{NOTE_SUFFIX}")
    _copy_store(home.store_path, made / "store")
    _copy_sessions(home, made, "[0-9a-f]*/[!.]*")
    for file in sorted(home.path.iterdir()):
        if file.name in _OF_THE_PROCESS or file.name.startswith("."):  # or half written
            continue
        wanted = file.is_file() and not file.is_symlink()
        if wanted and (with_seed or not _is_secret(file.name)):
            _copy(file, made / file.name)
    store = Store(made / "store", read_only=True)
    try:
        channels = _describe(store)
    finally:
        store.close()
    (made / "store" / "lock.mdb").unlink(missing_ok=True)
    files = {name: _entry(made / name) for name in _files(made)}
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    manifest = Manifest(BACKUP_FORMAT, home.name, now, version("tallystick"), files, channels)
    text = json.dumps(msgspec.to_builtins(manifest), indent=2, ensure_ascii=False) + "\n"
    (made / MANIFEST).write_text(text, "utf-8")
    for file in (made / name for name in _files(made)):
        file.chmod(0o600)
        sync(file)
    _sync_folders(made)
    return manifest


def _copy_sessions(home: Home, made: Path, pattern: str) -> None:
    """Copy what is kept of reconciliation sessions; links are not followed."""
    folder = home.path / SESSIONS
    for file in sorted(folder.glob(pattern)):
        links = any(path.is_symlink() for path in (folder, file.parent, file))
        if links or not file.is_file():
            continue
        target = made / file.relative_to(home.path)
        _make_parents(made, target)
        with suppress(FileNotFoundError):  # a note goes when its session ends
            _copy(file, target)


def _make_parents(made: Path, target: Path) -> None:
    """The folders of a file that is going to be in `made`, for their owner only."""
    for folder in reversed(target.relative_to(made).parents[:-1]):
        (made / folder).mkdir(mode=0o700, exist_ok=True)


def _sync_folders(made: Path) -> None:
    for path in made.rglob("*"):
        if path.is_dir():
            sync(path)


def _copy_store(store: Path, target: Path) -> None:
    """One snapshot of the store, without the space that is free in it."""
    faults = walk_snapshot(store).faults
    if faults:
        raise StoreError(f"the store is damaged: {faults[0]}", "Run: tally doctor")
    try:
        env = lmdb.open(str(store), readonly=True, max_readers=512)
        try:
            env.copy(str(target), compact=True)
        finally:
            env.close()
    except lmdb.Error as error:
        raise StoreError(f"the store cannot be copied: {error}", "Free some space") from None


def _copy(source: Path, target: Path) -> str:
    """Copy a file for its owner only, durably; its SHA-256 in hex, as it was read."""
    digest = hashlib.sha256()
    with source.open("rb") as opened:
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as written:
            while chunk := opened.read(_CHUNK):
                digest.update(chunk)
                written.write(chunk)
            written.flush()
            os.fsync(written.fileno())
    return digest.hexdigest()


def _entry(file: Path) -> FileEntry:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return FileEntry(file.stat().st_size, digest)


def _files(folder: Path) -> list[str]:
    """The files in a folder and below, by their paths in it."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir())
    return [path.relative_to(folder).as_posix() for path in found]


def _founded(txn: Txn) -> list[tuple[bytes, ChannelRow]]:
    rows = ((key, decode_channel(value)) for key, value in txn.scan("channels", b"", b"\xff" * 33))
    return [(key, row) for key, row in rows if row.state in _FOUNDED]


def _describe(store: Store) -> list[dict[str, Any]]:
    with store.read() as txn:
        return [
            {
                "channel": key.hex(),
                "peer": row.peer,
                "own": _describe_log(txn, 2 * row.number),
                "theirs": _describe_log(txn, 2 * row.number + 1),
            }
            for key, row in _founded(txn)
        ]


def _describe_log(txn: Txn, number: int) -> dict[str, Any]:
    """A log's size, and size and root of its newest signed head."""
    value = txn.get("logs", log_key(number))
    row = _decode_log(value) if value else None
    signed = row.signed_size if row else 0
    head = txn.get("heads", index_key(number, signed)) if signed else None
    root = _decode_head(head).root if head else EMPTY_ROOT
    return {
        "size": row.size if row else 0,
        "signed": {"size": signed, "root": root.hex()},
        "in_archive_alone": kept_from(txn, number),
    }


# Restore


def read_manifest(folder: Path) -> Manifest:
    """A backup's manifest; `InputError` if the folder is none, or another version made it."""
    file = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(file.read_bytes(), type=Manifest)
    except OSError as error:
        raise InputError(
            f"{file} cannot be read: {error.strerror}", "Name the folder that tally backup made"
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{file} is damaged: {error}", "Use another backup") from None
    if manifest.format != BACKUP_FORMAT:
        raise InputError(
            f"{file} has format {manifest.format}, this tally knows {BACKUP_FORMAT}",
            "Use the version of tally that made it, or a newer one",
        )
    return manifest


def restore_backup(folder: Path, path: Path, seed_file: Path | None) -> Manifest:
    """Make a home of a backup, whole or not at all, with every channel in doubt.

    `InputError` if anything in the backup is not as its manifest says or as its records give.
    """
    manifest = read_manifest(folder)
    _check_names(folder, manifest)
    if manifest.has_seed and seed_file is not None:
        raise InputError("the backup has a seed of its own", "Leave out --seed-file")
    if not manifest.has_seed and seed_file is None:
        raise InputError("the backup was made without its seed", "Give it: --seed-file FILE")
    with whole_home(path.absolute()) as made:
        (made / "store").mkdir(mode=0o700)
        for name, entry in manifest.files.items():
            _make_parents(made, made / name)
            if _copy(folder / name, made / name) != entry.sha256:
                raise InputError(f"{folder / name} is damaged", "Use another backup")
        if seed_file is not None:
            _take_seed(seed_file, made / "seed")
        home = open_home(made)
        if home.name != manifest.party:
            raise InputError(f"the backup is of {home.name}, its manifest of {manifest.party}")
        _doubt(home)
        _sync_folders(made)
    return manifest


def _check_names(folder: Path, manifest: Manifest) -> None:
    there = {name for name in _files(folder) if name != MANIFEST}
    wanted = set(manifest.files)
    if STORE_FILE not in wanted or any(".." in Path(name).parts for name in wanted):
        raise InputError(f"{folder / MANIFEST} is not of a backup", "Use another backup")
    for name in sorted(wanted - there):
        raise InputError(f"{folder / name} is missing", "Use another backup")
    for name in sorted(there - wanted):
        raise InputError(f"{folder / name} is not of this backup", "Take it away, and look why")


def _take_seed(source: Path, target: Path) -> None:
    try:
        _copy(source, target)
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror}") from None


def _doubt(home: Home) -> None:
    """Mark the store as restored, make anew what was left out, and check everything."""
    faults = walk_snapshot(home.store_path).faults
    if faults:
        raise InputError(f"the backup's store is damaged: {faults[0]}", "Use another backup")
    store = Store(home.store_path)
    store.segments.location = configured(home.path)
    try:
        with store.read() as txn:
            rows = _founded(txn)
        channels = []
        for key, row in rows:
            terms = decode_record(row.terms)
            assert isinstance(terms, Terms)
            channels.append((row.number, key, terms))
        _check_seed(home, [terms for _, _, terms in channels])

        def job(txn: Txn) -> None:
            txn.put("meta", RESTORED, b"")
            for number, _, _ in channels:
                forget_derived(txn, 2 * number)
                forget_derived(txn, 2 * number + 1)

        store.commit_now(job)
        make_anew(store, home.path / "ids", home.name, channels)
    except ArchiveError as error:
        raise ArchiveError(
            f"records of this home are in its archive alone: {error.message}",
            "Make the archive reachable where [archive] in the backup's config.toml says",
        ) from None
    except TallyError as error:
        raise InputError(f"the backup is damaged: {error.message}", "Use another backup") from None
    finally:
        store.close()
    for check in examine_apart(home.store_path, home.path / "ids", home.name):
        # What is in the store as well can be sealed again.
        if not check.ok and not check.name.endswith(": segments"):
            raise InputError(
                f"the backup does not hold what it should: {check.name}: {check.detail}",
                "Use another backup",
            )


def _check_seed(home: Home, terms: list[Terms]) -> None:
    """A seed that is not locked must be the one whose keys the channels' terms name."""
    try:
        seed = bytes.fromhex((home.path / "seed").read_text("ascii").strip())
    except (OSError, ValueError):
        return  # in another form: the node asks for what opens it
    if len(seed) != SEED_SIZE:
        raise InputError("the seed file does not hold a seed")
    identity = Identity.from_seed(home.name, seed)
    for one in terms:
        own = one.provider if one.provider.name == home.name else one.consumer
        identity.signer_of("log", own.log_key)
