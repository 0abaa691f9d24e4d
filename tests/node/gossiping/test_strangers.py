"""A conflict that strangers carry, not knowing whose it is, until it convicts somebody."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import hurried
import msgspec
import nodes
import trio
from hurried import emit, kinds, metric, of, said, until

from tallystick.node.books import Books
from tallystick.node.gossiping.pseudonyms import Pseudonyms
from tallystick.node.home import open_home
from tallystick.protocol.heads import sign_head
from tallystick.protocol.items import Carried, Item, make_conflict

OTHER_ROOT = b"\7" * 32


@dataclass(frozen=True)
class Lie:
    """What acme says of its log at one size to beta, and the other thing it says to strangers."""

    told: bytes  # the root that beta has
    size: int
    signature: bytes  # of the other head
    item: Item


def test_a_conflict_that_strangers_carry_convicts_at_who_it_concerns(tmp_path: Path) -> None:
    """Acme deals with beta. It shows gamma, who does not know beta, another head of that log. From
    gamma a way leads to beta past delta, who knows neither acme nor of the channel; eve sits
    beside delta, listens, and lies.
    """
    with hurried.running(tmp_path, "acme", "beta", "gamma", "delta", "eve") as parties:
        acme, beta, gamma, delta, eve = parties
        channel = hurried.found(acme, beta)
        hurried.pair((acme, gamma), (gamma, delta), (delta, beta), (eve, delta))
        emit(acme, beta, "one")
        emit(acme, beta, "two")
        eve.stop()
        lie = _lie(acme, channel)

        seen = trio.run(_play, parties, lie)

        # Beta, whom it concerns, opened it: its channel is halted, and anybody can verify why.
        (digest,) = of(beta, acme)["evidence"]
        assert of(beta, acme)["state"] == "halted"
        assert "gossip showed another history of a log" in of(beta, acme)["reason"]
        assert "tally evidence" in said(beta)
        found = [e for e in beta.json("events")["events"] if e["kind"] == "evidence.found"]
        assert [(e["data"]["accused"], e["data"]["digest"]) for e in found] == [
            ("acme.example", digest)
        ]
        (listed,) = beta.json("evidence")["evidence"]
        assert (listed["accused"], listed["kind"]) == ("acme.example", "author")
        file = tmp_path / "acme.evidence"
        beta.tally("evidence", "export", digest[:16], "-o", str(file))
        assert "acme.example" in beta.tally("verify", str(file)).stdout
        assert metric(beta, "gossip_judged_total", result="evidence") == 1

        # Acme's own node is told by its peer, verifies it by itself, and stops.
        acme.start()
        until(lambda: of(acme, beta)["evidence"] == [digest])
        until(lambda: of(acme, beta)["state"] == "halted")
        assert kinds(acme).count("evidence.found") == 1

        # Strangers know that somebody contradicts himself, and no more.
        for stranger in (gamma, delta):
            assert metric(stranger, "gossip_conflicts") == 1
            assert metric(stranger, "gossip_judged_total", result="evidence") == 0
            assert stranger.json("evidence")["evidence"] == []
            assert "evidence.found" not in kinds(stranger)
            assert hurried.status(stranger)["channels"] == []
        ids = [channel.encode(), bytes.fromhex(channel)]
        heads = [lie.told, OTHER_ROOT, lie.signature]
        assert hurried.mentions(gamma, b"beta.example", *ids, *heads) == []
        assert hurried.mentions(delta, b"acme.example", *ids, *heads) == []
        names = [b"acme", b"beta", b"gamma"]
        assert [secret for secret in (*names, *ids, *heads) if secret in seen] == []


async def _play(parties: list[nodes.Party], lie: Lie) -> bytes:
    """Eve lies to delta, then acme to gamma; all that eve was sent until beta knows."""
    acme, beta, gamma, delta, eve = parties

    def refused(party: nodes.Party, reason: str) -> float:
        return metric(party, "gossip_refused_total", reason=reason)

    async with hurried.onlooking(delta, eve) as onlooker:
        await onlooker.until(lambda: _told(onlooker, lie))
        true = _told(onlooker, lie)[0]
        # Who only relays cannot make a conflict of what others signed.
        forged = msgspec.structs.replace(true, commitment=bytes(32))
        await onlooker.tell(conflicts=[make_conflict(true, forged)])
        await onlooker.until(lambda: refused(delta, "signature") == 1)
        assert "passed on what nobody signed" in delta.log.read_text()
        # Nor is eve believed for a while, even if what it says next is true.
        await onlooker.tell(conflicts=[make_conflict(true, lie.item)])
        await onlooker.until(lambda: refused(delta, "barred") == 1)
        await onlooker.until(lambda: metric(delta, "gossip_conflicts") == 0)

        await trio.to_thread.run_sync(acme.stop)
        async with hurried.onlooking(gamma, acme) as liar:
            await liar.until(lambda: _told(liar, lie))
            await liar.tell([Carried(0, lie.item)])
            await onlooker.until(lambda: of(beta, acme)["state"] == "halted")
        await onlooker.until(lambda: lie.item.pseudonym in _conflicts(onlooker))
        # What eve made up went no further: beta would have found it false, and blamed delta.
        await onlooker.until(lambda: metric(beta, "gossip_conflicts") == 1)
        await onlooker.until(lambda: refused(beta, "signature") == 0)
        return onlooker.bytes_of_items()


def _told(onlooker: hurried.Onlooker, lie: Lie) -> list[Item]:
    """What an onlooker was sent of the log that the lie is about, at its size."""
    about = lie.item.pseudonym, lie.item.rank
    return [c.item for c in onlooker.items if (c.item.pseudonym, c.item.rank) == about]


def _conflicts(onlooker: hurried.Onlooker) -> set[bytes]:
    return {conflict.first.pseudonym for conflict in onlooker.conflicts}


def _lie(acme: nodes.Party, channel: str) -> Lie:
    """Another head of acme's log, signed by acme, of the size of its newest one."""
    books = Books.open(open_home(acme.home), read_only=True)
    try:
        key = bytes.fromhex(channel)
        own = books.channels[key][0].own
        size = own.cosigned_size
        pseudonyms = Pseudonyms(books)
        behind = pseudonyms.publishing(key)
        assert behind is not None
        signature = sign_head(own.head(size, OTHER_ROOT), books.identity.signer("log"))
        veil = pseudonyms.veil(behind)
        item = veil.make(books.identity.transport, size, OTHER_ROOT, signature)
        return Lie(own.root_at(size), size, signature, item)
    finally:
        books.close()
