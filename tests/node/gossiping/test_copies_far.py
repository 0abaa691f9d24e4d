"""Two copies of a home that never meet: nodes of strangers carry the word of each to the other."""

from __future__ import annotations

import shutil
from pathlib import Path

import hurried
import nodes
import trio
from hurried import emit, kinds, of, until


def test_copies_that_only_gossip_joins_stop_and_people_choose_one(tmp_path: Path) -> None:
    """Acme's home is there twice. One copy reaches beta alone and the other one gamma alone;
    between these two is delta, a stranger to acme, and no shorter way.
    """
    with hurried.running(tmp_path, "acme", "beta", "gamma", "delta", "eve") as parties:
        acme, beta, gamma, delta, eve = parties
        hurried.found(acme, beta)
        hurried.found(acme, gamma)
        hurried.pair((beta, delta), (gamma, delta), (eve, delta))
        for peer in (beta, gamma):
            emit(acme, peer, "before", "--wait")
        eve.stop()
        for party in (acme, beta, gamma):
            party.stop()
        old_port = gamma.address.rpartition(":")[2]
        (tmp_path / "elsewhere").mkdir()
        copy = nodes.Party(tmp_path / "elsewhere", acme.name, hurried.CODE)
        shutil.copytree(acme.home, copy.home)
        try:
            # Gamma learns where the copy listens. From then on neither copy knows the other's peer:
            # it listens elsewhere, and dials the copy that it knows.
            copy.start("--listen", f"127.0.0.1:{hurried.free_port()}")
            gamma.start()
            until(lambda: of(copy, gamma)["state"] == "open")
            copy.stop()
            gamma.stop()
            for party in (beta, gamma):
                party.start("--listen", f"127.0.0.1:{hurried.free_port()}")
            acme.start()
            until(lambda: of(acme, beta)["connected"])
            copy.start("--listen", copy.address)

            async def watch() -> hurried.Onlooker:
                async with hurried.onlooking(delta, eve) as onlooker:
                    await onlooker.until(lambda: stopped(acme) and stopped(copy))
                    return onlooker

            onlooker = trio.run(watch)
        finally:
            copy.stop()
        del old_port, onlooker


def stopped(party: nodes.Party) -> bool:
    return party.json("status")["stopped"] is not None
