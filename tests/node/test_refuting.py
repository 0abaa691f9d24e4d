"""Refuting from a real store: heads of a part that was lost, and heads by keys that came later."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import builders
import pytest
import trio
from accusing import head_note

from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.config import load_config
from tallystick.node.home import create_home
from tallystick.node.importing.drafts import Draft
from tallystick.node.refuting import refute
from tallystick.node.store.disk import Store
from tallystick.protocol.errors import ProofError
from tallystick.protocol.heads import Head, cosign_head
from tallystick.protocol.keyring import make_rotation
from tallystick.protocol.pairing import PeerIdentity
from tallystick.protocol.records import Epoch, Rotation
from tallystick.protocol.refutation import parse_refutation, verify_refutation

BETA = builders.identity("beta.example")
NOW_US = builders.COSIGNED_AT_SECONDS * 1_000_000 - 60_000_000  # a minute before


@dataclass
class Home:
    """Acme's open books with one channel, and beta's signatures at hand."""

    books: Books
    channel: Channel

    async def record(self, name: str) -> None:
        await self.channel.emit_paused([Draft(name, "tokens", "s", 1, 1)])

    async def cosign(self) -> Head:
        """Beta co-signs acme's log as it is."""
        own = self.channel.own
        head = own.head(own.durable_size, own.root_at(own.durable_size))
        cosignature = cosign_head(head, BETA.cosigner, builders.COSIGNED_AT_SECONDS)
        self.channel.take_cosignature(head.size, cosignature)
        await self.channel.store.commit(lambda txn: None)
        return head


@asynccontextmanager
async def _home(folder: Path) -> AsyncIterator[Home]:
    made = create_home(folder / "acme", "acme.example", b"a" * 32)
    ids = made.path / "ids"
    ids.mkdir()
    config = load_config(made.config_path)
    books = Books(config, made.identity(), Store(made.store_path), ids, lambda: NOW_US)
    peer = PeerIdentity(
        BETA.name, BETA.log_key, BETA.cosigner_key, BETA.transport_key, b"", "192.0.2.1:1"
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(books.store.run)
        key = await books.founding.propose(builders.make_terms(books.identity, BETA), peer)
        await books.founding.open(key, bytes(64))
        channel, _ = books.load_channel(key)
        channel.go_live()
        await channel.found().wait()
        yield Home(books, channel)
        nursery.cancel_scope.cancel()
    books.close()


def _holds(data: bytes) -> bool:
    return all(check.ok for check in verify_refutation(data))


async def test_a_head_of_the_lost_part_is_answered_by_the_epoch(tmp_path: Path) -> None:
    async with _home(tmp_path) as home:
        own = home.channel.own
        await home.record("kept")
        lost = head_note(Head(own.head(0, b"").origin, 5, b"\x05" * 32), home.books.identity)
        dated = head_note(Head(own.head(0, b"").origin, 5, b"\x05" * 32), home.books.identity, BETA)
        await home.cosign()
        with pytest.raises(ProofError, match="the accusation is true"):
            refute(home.books, lost)
        epoch = Epoch(1, 1, bytes(32), 0, b"", "the disk burnt", NOW_US + 1)
        await home.channel.append_paused(epoch)
        await home.cosign()
        made = refute(home.books, lost)
        assert _holds(made)
        parsed = parse_refutation(made)
        assert parsed.loss is not None
        assert (parsed.loss.index, [noted.data for noted in parsed.answered]) == (2, [lost])
        with pytest.raises(ProofError, match="the accusation is true"):
            refute(home.books, dated)


async def test_keys_that_came_later_are_in_the_answer(tmp_path: Path) -> None:
    async with _home(tmp_path) as home:
        channel, identity = home.channel, home.books.identity
        await home.record("one")
        first = await home.cosign()
        later = identity.signer("log", 1)
        now = channel.now_recorded_at()
        unsigned = Rotation("provider", "log", 1, bytes(later.verify_key), now, bytes(64), b"", now)
        await channel.append_paused(make_rotation(channel.terms, unsigned, identity.log, later))
        await home.record("two")
        await home.cosign()
        made = refute(home.books, head_note(first, identity))
        assert _holds(made)
        assert len(parse_refutation(made).accused.rotations) == 1
