"""Evidence travels to the other party of its channel, is verified there, and halts the channel."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import homes
import nodes
import pytest
import trio
from impostor import Impostor

from tallystick.node import accusing
from tallystick.node.channel import Channel
from tallystick.node.gossiping.spreading import FILES_A_MINUTE, Spreading
from tallystick.node.link import Link
from tallystick.protocol.blinding import OpenedHead
from tallystick.protocol.errors import PeerBreach
from tallystick.protocol.heads import sign_head
from tallystick.protocol.messages import Accusation
from tallystick.protocol.records import Delta

AT_US = 1_790_000_000_000_000


async def test_evidence_that_is_none_ends_the_session_and_changes_nothing(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (acme, beta):
        data = await _evidence(acme, beta)
        convicted: list[str] = []

        async def convict(channel: Channel, reason: str) -> None:
            convicted.append(reason)

        spreading = Spreading(beta.books, {}, convict)
        link = cast(Link, SimpleNamespace(peer=acme.books.identity.name))
        place = data.index(b"\nprefix ") + 10
        other = b"A" if data[place : place + 1] != b"A" else b"B"
        bad = [b"\0", data[: len(data) // 2], data[:place] + other + data[place + 1 :]]
        for file in bad:
            with pytest.raises(PeerBreach) as raised:
                await spreading.hear(link, Accusation(file))
            assert raised.value.code == "bad-evidence"
        # What convicts somebody in a channel of others is none of our business.
        opened = beta.books.channels.pop(beta.channel.id)
        await spreading.hear(link, Accusation(data))
        beta.books.channels[beta.channel.id] = opened
        # Nor is a peer a party of a channel with another one.
        elsewhere = cast(Link, SimpleNamespace(peer="gamma.example"))
        await spreading.hear(elsewhere, Accusation(data))
        assert not convicted
        assert not accusing.kept(beta.channel)

        await spreading.hear(link, Accusation(data))
        assert len(convicted) == 1
        await spreading.hear(link, Accusation(data))  # again
        assert len(convicted) == len(accusing.kept(beta.channel)) == 1
        assert accusing.kept(beta.channel)[0].data == data
        stored = beta.books.founding.rows[beta.channel.id]
        assert stored.state == "open"  # it is the owner who halts it in memory


async def test_a_flood_of_evidence_is_not_looked_at(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (acme, beta):

        async def convict(channel: Channel, reason: str) -> None:
            raise AssertionError(reason)

        spreading = Spreading(beta.books, {}, convict)
        link = cast(Link, SimpleNamespace(peer=acme.books.identity.name))
        breaches = 0
        for number in range(100):
            try:
                await spreading.hear(link, Accusation(b"%d" % number))
            except PeerBreach:
                breaches += 1
        assert breaches == FILES_A_MINUTE


async def _evidence(acme: homes.Side, beta: homes.Side) -> bytes:
    """What acme keeps of beta, which signed another head of its log."""
    peer = acme.channel.peer
    root = bytes(32)
    signature = sign_head(peer.head(1, root), beta.books.identity.log)
    found = await accusing.shown_head(acme.channel, peer, OpenedHead(1, root, signature, b""))
    return found[0].data


def test_both_parties_keep_what_one_of_them_found(tmp_path: Path) -> None:
    with nodes.channel(tmp_path) as (acme, beta):
        for number in range(2):
            deltas = ("context-tokens", "1", "--subject", "s", "--id", f"d-{number}", "--wait")
            acme.tally("emit", *deltas)
        beta.tally("emit", "generated-tokens", "1", "--subject", "s", "--id", "x", check=False)
        beta.stop()
        impostor = Impostor(acme, beta)
        delta = Delta("other", "context-tokens", "s", 2, AT_US, AT_US, None)
        head, batch = impostor.rewritten(0, delta)
        signature = sign_head(head, impostor.identity.log)
        append = impostor.append(0, batch, signature)
        trio.run(impostor.talk, impostor.hello(), impostor.holding(), append)
        (digest,) = _channel(acme)["evidence"]

        beta.start()
        nodes.wait_until(lambda: _channel(beta)["evidence"] == [digest])
        nodes.wait_until(lambda: _channel(beta)["state"] == "halted")
        assert "evidence" in _channel(beta)["reason"]
        events = [e for e in beta.json("events")["events"] if e["kind"] == "evidence.found"]
        assert [event["data"]["accused"] for event in events] == ["beta.example"]


def _channel(party: nodes.Party) -> Any:
    return party.json("status")["channels"][0]
