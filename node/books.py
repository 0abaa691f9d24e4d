"""What a home holds, opened for reading or for running: identity, store, peers, channels.

The command line's queries use it straight from the store, whether a node runs or not; the node
itself is built on the same object, so both see the same lines.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import msgspec

from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.config import Config, load_config
from tallystick.node.errands import Errands
from tallystick.node.errors import PairingError, StoreError
from tallystick.node.feed.rows import forget_feed, go_on
from tallystick.node.founding import Founding, decode_channel
from tallystick.node.home import Home
from tallystick.node.news import News
from tallystick.node.openings import Openings
from tallystick.node.quotas import MEBIBYTE
from tallystick.node.requests import Turns
from tallystick.node.standby.marks import GENERATION, MIRRORED
from tallystick.node.store.changed import LINE
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import ChannelRow, encode_row
from tallystick.protocol.errors import InputError, UnknownName
from tallystick.protocol.keys import Identity
from tallystick.protocol.pairing import (
    PeerIdentity,
    StoredInvite,
    decode_identity,
    encode_identity,
)

OPEN_TRIES = 4
# The keys in the table `meta` of where peers, HTTP, and heads to be witnessed come in.
Door = Literal["port", "http-port", "witness-port"]
WITNESS_DOUBT = b"witness-doubt"  # in the table `meta`: what we saw as a witness may be old
RESTORED = b"restored"  # in the table `meta`: the store was put here by a restore
TAKEN_OVER = b"taken over"  # its value where it was not an old copy, but a standby's

_IDENTITY = ("name", "log_key", "cosigner_key", "transport_key")
_decode_invite = msgspec.msgpack.Decoder(StoredInvite).decode


def clock_us() -> int:
    """Microseconds since the Unix epoch."""
    return time.time_ns() // 1000


class Roster(dict[str, PeerIdentity]):
    """The paired peers by name; `changed` are those put in or out since somebody took note."""

    def __init__(self, peers: Mapping[str, PeerIdentity]) -> None:
        super().__init__(peers)
        self.changed = set(peers)

    def __setitem__(self, name: str, peer: PeerIdentity) -> None:
        self.changed.add(name)
        super().__setitem__(name, peer)

    def __delitem__(self, name: str) -> None:
        self.changed.add(name)
        super().__delitem__(name)


class Books:
    """An open home. With `read_only` nothing is written and a running node is not disturbed."""

    def __init__(
        self,
        config: Config,
        identity: Identity,
        store: Store,
        index_folder: Path,
        clock_us: Callable[[], int],
        *,
        lazy: bool = False,
    ) -> None:
        self.config = config
        self.identity = identity
        self.store = store
        self.index_folder = index_folder
        self.clock_us = clock_us
        self.archive = config.archive.location
        self.store.segments.location = self.archive
        read_only = store.read_only
        self.seed = self._seed(read_only)
        if not read_only:
            self._doubt_copies()
        self.generation = self._generation()
        self.news = News()
        self.errands = Errands()
        self.turns = Turns()
        self.founding = Founding(self.store, self.identity, self.news)
        with self.store.read() as txn:
            scan = txn.scan("peers", b"", b"\xff" * 254)
            self.peers = Roster({key.decode(): decode_identity(value) for key, value in scan})
        self.paired_anew: set[str] = set()  # while this process runs
        self.turning: set[str] = set()  # peers between whom and us somebody changed a key
        founded = [k for k, row in self.founding.rows.items() if row.state in ("open", "halted")]
        self.channels: MutableMapping[bytes, tuple[Channel, Closer]] = {}
        if lazy:
            self.channels = Openings(founded, self._open_late)
            return
        try:
            for channel in founded:
                self.load_channel(channel)
            if not read_only:
                self._remove_leftovers()
        except BaseException:
            self._close_indexes()
            raise

    @classmethod
    def open(
        cls,
        home: Home,
        *,
        read_only: bool,
        identity: Identity | None = None,
        lazy: bool = False,
    ) -> Books:
        """The books of a home; with the identity that its seed was unlocked to, if it was. With
        `lazy`, who only reads opens channels one by one, when they are looked at.
        """
        config = load_config(home.config_path)
        identity = identity or home.identity()
        folder = home.path / "ids"
        if not read_only:
            folder.mkdir(mode=0o700, exist_ok=True)
        if not read_only:
            return cls(config, identity, Store(home.store_path), folder, clock_us)
        for _ in range(OPEN_TRIES - 1):
            with suppress(StoreError):
                return cls._look(config, identity, home.store_path, folder, lazy=lazy)
            # The running node may have merged an index file away while we looked: look again.
            time.sleep(0.05)
        return cls._look(config, identity, home.store_path, folder, lazy=lazy)

    @classmethod
    def _look(
        cls, config: Config, identity: Identity, store_path: Path, folder: Path, *, lazy: bool
    ) -> Books:
        store = Store(store_path, read_only=True)
        try:
            return cls(config, identity, store, folder, clock_us, lazy=lazy)
        except StoreError:
            store.close()
            raise

    def _doubt_copies(self) -> None:
        """If this store was copied here, what we signed last is not certain in any channel."""
        place = self.store.place()
        with self.store.read() as txn:
            before = txn.get("meta", b"place")
            marked = txn.get("meta", RESTORED)
            known = before is not None or marked is not None
            rows = list(txn.scan("channels", b"", b"\xff" * 33)) if known else []
        if before == place and marked is None:
            return

        def job(txn: Txn) -> None:
            for key, value in rows:
                row = decode_channel(value)
                txn.put("channels", key, encode_row(msgspec.structs.replace(row, doubt=1)))
            txn.put("meta", b"place", place)
            for name in (RESTORED, LINE, MIRRORED):
                txn.delete("meta", name)
            # As a witness we may have co-signed later heads than this store says.
            if next(txn.scan("seen", b"", b"\xff" * 33), None) is not None:
                txn.put("meta", WITNESS_DOUBT, b"")
            if marked == TAKEN_OVER:
                go_on(txn, self.clock_us())
            else:
                forget_feed(txn)

        self.store.commit_now(job)

    def _generation(self) -> int:
        """How new this home's node is among those of its party; 0 if none ever took over."""
        with self.store.read() as txn:
            return int(txn.get("meta", GENERATION) or 0)

    def _seed(self, read_only: bool) -> int:
        """The seed of the ids' fingerprints: drawn once a home, so nobody can aim at it."""
        with self.store.read() as txn:
            found = txn.get("meta", b"fingerprints")
        if found is None and not read_only:
            found = secrets.token_bytes(8)
            value = found
            self.store.commit_now(lambda txn: txn.put("meta", b"fingerprints", value))
        return int.from_bytes(found or b"", "big")

    def _remove_leftovers(self) -> None:
        """Delete index files that a crash left behind: the store's rows name those that count."""
        logs = [log for c, _ in self.channels.values() for log in (c.own, c.peer)]
        kept = {row.file for log in logs for row in log.index.rows()}
        for path in Path(self.index_folder).glob("*.run"):
            if path.name not in kept:
                path.unlink()

    def load_channel(self, channel: bytes) -> tuple[Channel, Closer]:
        """Open a founded channel."""
        opened = self._open_channel(self.store, self.founding.rows[channel])
        self.channels[channel] = opened
        self.note_keys(opened[0])
        return opened

    def _open_late(self, channel: bytes) -> tuple[Channel, Closer]:
        """Open a channel that is looked at; if its index files were merged away since the store
        was opened, by the store of now, unless something of then was read already.
        """
        for _ in range(OPEN_TRIES - 1):
            with suppress(StoreError):
                return self._open_channel(self.store, self.founding.rows[channel])
            if self._opened():
                break
            time.sleep(0.05)
            path = self.store.path
            self.store.close()
            self.store = Store(path, read_only=True)
            self.store.segments.location = self.archive
            self.founding = Founding(self.store, self.identity, self.news)
        return self._open_channel(self.store, self.founding.rows[channel])

    def _opened(self) -> list[tuple[Channel, Closer]]:
        if isinstance(self.channels, Openings):
            return self.channels.opened()
        return list(self.channels.values())

    def note_keys(self, channel: Channel) -> None:
        """Note whether anybody changed a key in a channel."""
        if channel.own.state.facts.keys or channel.peer.state.facts.keys:
            self.turning.add(channel.peer_keys.name)

    def concerned(self) -> set[int]:
        """The numbers of the channels that have closes, matters, or declarations to open."""
        with self.store.read() as txn:
            logs = {log for table in ("closes", "matters") for log in txn.prefixes(table)}
            return {log // 2 for log in logs} | set(txn.prefixes("declarations"))

    def _open_channel(self, store: Store, row: ChannelRow) -> tuple[Channel, Closer]:
        found = Channel(
            store,
            self.index_folder,
            self.seed,
            self.identity,
            row,
            self.clock_us,
            self.errands,
            self.news,
            self.turns,
        )
        found.quota_bytes = self.config.quotas.log_mebibytes * MEBIBYTE
        agree = self.config.checkpoints.early == "agree"
        return found, Closer(found, agree_early=agree, clock_us=self.clock_us)

    @contextmanager
    def at_a_moment(self, channel: bytes) -> Iterator[tuple[Channel, Closer]]:
        """An open channel as the disk has it now, for reading: on a thread of its own, while the
        node goes on.
        """
        row = self.founding.rows[channel]
        store, opened = self._load_moment(row)
        try:
            yield opened
        finally:
            for log in (opened[0].own, opened[0].peer):
                log.index.close()
            store.close()

    def _load_moment(self, row: ChannelRow) -> tuple[Store, tuple[Channel, Closer]]:
        for tries_left in reversed(range(OPEN_TRIES)):
            store = self.store.moment()
            try:
                return store, self._open_channel(store, row)
            except BaseException as error:
                store.close()
                # An index file may have been merged away while we looked: look again.
                if not isinstance(error, StoreError) or not tries_left:
                    raise
                time.sleep(0.05)
        raise AssertionError

    def pairing_book(self) -> Invites:
        """Where invites and peers are kept."""
        return Invites(self)

    async def learn_address(self, name: str, address: str) -> None:
        """Keep where a peer says that it listens now."""
        peer = self.peers[name]
        if address and address != peer.address:
            changed = msgspec.structs.replace(peer, address=address)
            await self.store.commit(lambda txn: put_peer(txn, changed))
            self.peers[name] = changed

    def last_port(self, door: Door = "port") -> int:
        """The port on which this node listened last; 0 before the first time."""
        with self.store.read() as txn:
            return int(txn.get("meta", door.encode()) or 0)

    async def remember_port(self, port: int, door: Door = "port") -> None:
        """Keep the port for the next start, if the disk takes it."""
        with suppress(StoreError):
            await self.store.commit(lambda txn: txn.put("meta", door.encode(), str(port).encode()))

    def peer(self, name: str) -> PeerIdentity:
        """A paired peer by name."""
        if name not in self.peers:
            known = ", ".join(sorted(self.peers)) or "none yet"
            raise UnknownName(
                f"no peer is called {name!r}", f"Peers: {known}; pair with tally invite and join"
            )
        return self.peers[name]

    def select(self, selector: str | None, states: tuple[str, ...] = ("open", "halted")) -> bytes:
        """The channel of a selector: a prefix of its id, its peer's name, or the only one."""
        with suppress(ValueError):  # by its whole id, however many there are
            whole = bytes.fromhex(selector or "")
            if whole in self.founding.rows and self.founding.rows[whole].state in states:
                return whole
        rows = {key: row for key, row in self.founding.rows.items() if row.state in states}
        begun = (selector or "").lower()
        named = {key: row for key, row in rows.items() if begun and key.hex().startswith(begun)}
        if selector:
            rows = named or {key: row for key, row in rows.items() if row.peer == selector}
        if len(rows) > 1 and not named:
            # A channel under keys that were replaced gives way to the one that follows it.
            current = {
                key: row
                for key, row in rows.items()
                if row.peer not in self.peers
                or not self.founding.is_past(key, self.peers[row.peer])
            }
            rows = current or rows
        if len(rows) == 1:
            return next(iter(rows))
        listed = ", ".join(f"{key.hex()[:8]} ({row.peer})" for key, row in rows.items())
        if not rows:
            what = f"no channel matches {selector!r}" if selector else "there is no channel yet"
            raise UnknownName(what, "See: tally channels")
        raise InputError(
            f"{'several channels match' if selector else 'there are several channels'}: {listed}",
            "Choose one with --channel and the beginning of its id, or its peer's name",
        )

    def close(self) -> None:
        """Close all files."""
        self._close_indexes()
        self.store.close()

    def _close_indexes(self) -> None:
        for channel, _ in self._opened():
            channel.own.index.close()
            channel.peer.index.close()


def put_peer(txn: Txn, peer: PeerIdentity) -> None:
    """Store a peer."""
    txn.put("peers", peer.name.encode(), encode_identity(peer))


class Invites:
    """The pairing book on the store."""

    def __init__(self, books: Books) -> None:
        self._books = books

    async def add(self, invite: StoredInvite) -> None:
        """Keep a new invite durably."""
        value = encode_row(invite)
        await self._books.store.commit(lambda txn: txn.put("invites", invite.id, value))

    async def find_invite(self, id: bytes) -> StoredInvite | None:
        """The invite of an id."""
        with self._books.store.read() as txn:
            value = txn.get("invites", id)
        return _decode_invite(value) if value else None

    def knows_other(self, peer: PeerIdentity, replacing: str = "") -> bool:
        """Whether a party of that name with other keys, or its keys by another name, is paired.

        The one whose keys are to be replaced does not count.
        """
        for known in self._books.peers.values():
            if known.name == replacing:
                continue
            same = [getattr(known, field) == getattr(peer, field) for field in _IDENTITY]
            if any(same) and not all(same):
                return True
        return False

    async def redeem(self, invite: StoredInvite, peer: PeerIdentity) -> None:
        """Store the peer and that it used the invite, in one transaction; what there is under
        keys that it replaces ends in the same.
        """
        used = msgspec.structs.replace(invite, used_by=peer.transport_key)

        def keep(txn: Txn) -> None:
            txn.put("invites", invite.id, encode_row(used))
            put_peer(txn, peer)

        # Known at once, so that two invites cannot pair two nodes by one name.
        before = self._books.peers.get(peer.name)
        self._books.peers[peer.name] = peer
        if before is not None:
            self._books.paired_anew.add(peer.name)
        try:
            await self._books.founding.replace_keys(peer, keep)
        except StoreError:
            del self._books.peers[peer.name]
            if before is not None:
                self._books.peers[peer.name] = before
            raise

    async def remember(self, peer: PeerIdentity) -> None:
        """Store a peer that we joined; `PairingError` if another one has its name."""
        if self.knows_other(peer):
            raise PairingError(
                f"another node is paired as {peer.name}, or with one of its keys",
                "Nothing was changed",
            )
        await self._books.store.commit(lambda txn: put_peer(txn, peer))
