"""A halt is not forgotten: by a crash, as who asked goes away, by what was under way."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any, cast

import accusing as made
import homes
import trio

from tallystick.node import accusing
from tallystick.node.config import Quotas
from tallystick.node.errors import PeerUnreachable
from tallystick.node.founding import Founding
from tallystick.node.link import Link
from tallystick.node.peering import Peering
from tallystick.node.quotas import Allowance
from tallystick.protocol.messages import Append, Holding
from tallystick.protocol.pairing import PeerIdentity
from tallystick.protocol.records import batch_bytes
from tallystick.protocol.session import Rewriting
from tallystick.protocol.states import Connection


async def _unreachable(peer: PeerIdentity) -> Any:
    raise PeerUnreachable(peer.name)


def _state_on_disk(side: homes.Side) -> str:
    return Founding(side.books.store, side.books.identity).rows[side.channel.id].state


class _Unread:
    """A stream whose other end reads nothing."""

    async def send(self, data: bytes) -> None:
        await trio.sleep_forever()

    def send_nowait(self, data: bytes) -> bool:
        return False


def _link(peering: Peering, nursery: trio.Nursery) -> Link:
    """A link that heard the peer's hello."""
    allowance = Allowance(Quotas(), trio.current_time())
    link = Link(peering, cast(Any, _Unread()), *homes.NAMES, allowance, dialled=False)
    link.session.state, link._admitted = Connection.LIVE, True
    link._nursery = nursery
    return link


async def test_it_is_kept_though_who_asked_went_away(tmp_path: Path) -> None:
    async with homes.alone(tmp_path) as side:
        with trio.CancelScope() as link:
            link.cancel()
            await side.books.founding.halt(side.channel.id, "a breach")
        assert side.books.founding.rows[side.channel.id].state == "halted"
        assert _state_on_disk(side) == "halted"


async def test_evidence_on_the_disk_halts_its_channel_in_the_same_moment(tmp_path: Path) -> None:
    async with homes.alone(tmp_path) as side:
        await accusing.keep(side.channel, made.author_evidence())
        assert len(accusing.kept(side.channel)) == 1
        assert _state_on_disk(side) == "halted"


async def test_a_channel_that_halts_while_a_link_opens_it_is_not_spoken_of(tmp_path: Path) -> None:
    async with homes.alone(tmp_path) as side, trio.open_nursery() as nursery:
        peering = Peering(side.books, _unreachable, Random(1))
        peering._nursery = nursery
        link = peering.links[homes.NAMES[1]] = _link(peering, nursery)
        async with trio.open_nursery() as opening:
            side.channel.peer._in_flight.append(cast(Any, None))  # it waits for the disk
            opening.start_soon(link.open_channel, side.channel, side.closer)
            await trio.sleep(0)
            await peering.convicted(side.channel, "evidence")
            side.channel.peer._in_flight.clear()
        assert side.books.founding.rows[side.channel.id].state == "halted"
        assert side.channel.id not in link._channels
        nursery.cancel_scope.cancel()


async def test_nothing_is_signed_in_a_channel_that_halts_while_the_peer_confirms_it(
    tmp_path: Path,
) -> None:
    async with homes.alone(tmp_path) as side, trio.open_nursery() as nursery:
        side.channel.live = False
        peering = Peering(side.books, _unreachable, Random(1))
        peering._nursery = nursery
        link = peering.links[homes.NAMES[1]] = _link(peering, nursery)
        await link.open_channel(side.channel, side.closer)
        message = Holding(side.channel.id, 0, 0, 0, bytes(32), b"", b"")
        async with trio.open_nursery() as confirming:
            side.channel.own._in_flight.append(cast(Any, None))  # it waits for the disk
            confirming.start_soon(link._handle_in_channel, message)
            await trio.sleep(0)
            await peering.convicted(side.channel, "evidence")
            side.channel.own._in_flight.clear()
        assert not side.channel.live
        nursery.cancel_scope.cancel()


async def test_a_channel_that_was_opened_as_the_power_went_gets_its_terms(tmp_path: Path) -> None:
    async with homes.alone(tmp_path, with_terms=False) as side, trio.open_nursery() as nursery:
        assert side.channel.own.durable_size == 0
        Peering(side.books, _unreachable, Random(1)).start(nursery)
        await side.books.store.commit(lambda txn: None)
        assert side.channel.own.record(0) == side.channel.terms
        nursery.cancel_scope.cancel()


async def test_a_rewriting_of_what_a_quota_kept_out_is_a_breach_without_evidence(
    tmp_path: Path,
) -> None:
    async with homes.alone(tmp_path) as side:
        append = Append(side.channel.id, 5, batch_bytes([side.channel.row.terms]), bytes(64))
        breach = Rewriting(append, 9)
        assert await accusing.rewriting(side.channel, breach) is breach
