"""Two copies of a home that never meet: nodes of strangers carry the word of each to the other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hurried
import nodes
import trio
from hurried import emit, kinds, metric, of, said, until


def test_copies_that_only_gossip_joins_both_stop_and_people_choose_one(tmp_path: Path) -> None:
    """One copy reaches beta alone and the other one gamma alone; between these two is delta, a
    stranger to acme, and no shorter way.
    """
    with hurried.running(tmp_path, "acme", "beta", "gamma", "delta", "eve") as parties:
        acme, beta, gamma, delta, eve = parties
        channels = [hurried.found(acme, beta), hurried.found(acme, gamma)]
        hurried.pair((beta, delta), (gamma, delta), (eve, delta))
        for peer in (beta, gamma):
            emit(acme, peer, "before")
        known = gamma.address
        eve.stop()
        with _apart(acme, beta, gamma) as copy:

            async def watch() -> bytes:
                async with hurried.onlooking(delta, eve) as onlooker:
                    await onlooker.until(lambda: _stopped(acme) and _stopped(copy))
                    await onlooker.until(lambda: len(onlooker.items) > 1)
                    return onlooker.bytes_of_items()

            seen = trio.run(watch)
            for party in (acme, copy):
                assert "STOPPED" in said(party)
                assert "tally recover --only-copy" in said(party)
                assert kinds(party).count("copy.found") == 1
                assert metric(party, "copy_found") == 1

            # Each records what comes, durably, and signs nothing of it.
            for party, peer in ((acme, beta), (copy, gamma)):
                emit(party, peer, "meanwhile", wait=False)
                now = of(party, peer)
                assert (now["connected"], now["state"]) == (False, "confirming")
                assert now["lag_records"] == 1

        # People go on with one. What the other one signed comes back from its peer.
        gamma.stop()
        gamma.start("--listen", known)
        acme.tally("recover", "--only-copy")
        for peer in (beta, gamma):
            until(lambda peer=peer: of(acme, peer)["state"] == "open")
            emit(acme, peer, "after")
        assert not _stopped(acme)
        assert of(beta, acme)["theirs"]["cosigned"] == 4  # the terms, before, meanwhile, after
        assert of(gamma, acme)["theirs"]["cosigned"] == 4  # the terms, before, there, after
        for party, peer in ((acme, beta), (acme, gamma), (beta, acme), (gamma, acme)):
            assert (of(party, peer)["state"], of(party, peer)["evidence"]) == ("open", [])

        # Who carried all that learnt of no acme and of no channel.
        ids = [id.encode() for id in channels] + [bytes.fromhex(id) for id in channels]
        assert hurried.mentions(delta, b"acme", *ids) == []
        assert [secret for secret in (b"acme", *ids) if secret in seen] == []
        assert metric(delta, "copy_found") == metric(delta, "gossip_conflicts") == 0


@contextmanager
def _apart(acme: nodes.Party, beta: nodes.Party, gamma: nodes.Party) -> Iterator[nodes.Party]:
    """A copy of acme's home that runs beside it: neither can reach the other one's peer, which
    listens elsewhere than it knows, and dials the copy that it knows.
    """
    for party in (acme, beta, gamma):
        party.stop()
    elsewhere = acme.home.parent / "elsewhere"
    elsewhere.mkdir()
    copy = nodes.Party(elsewhere, acme.name, hurried.CODE)
    shutil.copytree(acme.home, copy.home)
    try:
        copy.start("--listen", f"127.0.0.1:{hurried.free_port()}")
        gamma.start()
        until(lambda: of(copy, gamma)["state"] == "open")
        emit(copy, gamma, "there")
        for party in (copy, gamma):
            party.stop()
        for party in (beta, gamma):
            party.start("--listen", f"127.0.0.1:{hurried.free_port()}")
        acme.start()
        until(lambda: of(acme, beta)["connected"])
        copy.start("--listen", copy.address)
        yield copy
    finally:
        copy.stop()


def _stopped(party: nodes.Party) -> bool:
    return hurried.status(party)["stopped"] is not None
