"""Homes that were put back, unnoticed by themselves, meet their own signatures through others."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import hurried
import nodes
import pytest
import trio
from attacker import Attacker
from hurried import emit, kinds, metric, of, said, until


def test_a_third_party_shows_what_was_lost_and_nothing_is_signed_over_it(tmp_path: Path) -> None:
    with hurried.running(tmp_path, "acme", "beta", "gamma", "eve") as (acme, beta, gamma, eve):
        channel = hurried.found(acme, beta)
        hurried.found(acme, gamma)
        hurried.pair((eve, gamma))
        eve.stop()
        emit(acme, beta, "old")
        acme.stop()
        old = _store(acme).read_bytes()
        acme.start()
        for number in range(3):
            emit(acme, beta, f"new-{number}")
        hurried.until_told(gamma, eve, hurried.newest(acme, channel))
        acme.kill()
        beta.stop()
        _put_back(acme, old)
        until(lambda: of(acme, beta)["shown"]["own"] is not None)

        status = of(acme, beta)
        assert (status["shown"]["own"], status["own"]["size"]) == (5, 2)
        assert status["state"] == "confirming"
        assert "this home is older than it was" in said(acme)
        assert kinds(acme).count("rollback.shown") == 1
        until(lambda: of(acme, gamma)["state"] == "open")
        emit(acme, beta, "meanwhile", wait=False)  # is durable, and waits
        assert of(acme, beta)["own"]["cosigned"] == 2

        refused = trio.run(_agree_with_a_liar, acme, beta)
        assert "gossip shows 5 records of our log; beta.example has 0 of them and says" in refused
        assert (of(acme, beta)["state"], of(acme, beta)["own"]["cosigned"]) == ("confirming", 2)

        beta.start()
        until(lambda: of(acme, beta)["own"]["cosigned"] == 6)
        until(lambda: of(acme, beta)["shown"]["own"] is None)
        _agree_on_everything(acme, beta)


@pytest.mark.parametrize("gossips", [True, False])
def test_both_parties_put_back_hear_of_it_and_go_on_when_people_agree(
    tmp_path: Path, *, gossips: bool
) -> None:
    """Gamma alone, whom acme knows and beta does not, has heard of what both have lost. Beta hears
    of it through acme, also if it does not gossip itself.
    """
    with hurried.running(tmp_path, "acme", "beta", "gamma", "eve") as (acme, beta, gamma, eve):
        channel = hurried.found(acme, beta)
        hurried.pair((acme, gamma), (eve, gamma))
        eve.stop()
        emit(acme, beta, "kept")
        for party in (acme, beta):
            party.stop()
        old = [_store(party).read_bytes() for party in (acme, beta)]
        if not gossips:
            beta.configure(hurried.CONFIG + "[gossip]\nenabled = false\n")
        for party in (acme, beta):
            party.start()
        for number in range(3):
            emit(acme, beta, f"lost-{number}")
        hurried.until_told(gamma, eve, hurried.newest(acme, channel))
        for party in (acme, beta):
            party.kill()
        _put_back(acme, old[0])
        _put_back(beta, old[1])

        # Both hear of it, and neither can return what the other one lost.
        until(lambda: of(acme, beta)["shown"]["own"] == 5)
        until(lambda: of(beta, acme)["shown"]["theirs"] == 5)
        for party in (acme, beta):
            assert "this home is older than it was" in said(party)
            assert kinds(party).count("rollback.shown") == 1
            assert metric(party, "gossip_judged_total", result="rollback") >= 1
            assert metric(party, "channel_doubt") == 1
        until(lambda: of(acme, beta)["connected"])
        emit(acme, beta, "meanwhile", wait=False)
        assert of(acme, beta)["state"] == "confirming"
        assert of(beta, acme)["theirs"]["size"] == 2

        # People at one side are not enough.
        _agree(acme)
        until(lambda: of(acme, beta)["connected"])
        assert of(acme, beta)["state"] == of(beta, acme)["state"] == "confirming"
        _agree(beta)
        until(lambda: of(acme, beta)["own"]["cosigned"] == 4)  # terms, kept, epoch, meanwhile
        for party, peer in ((acme, beta), (beta, acme)):
            until(lambda party=party, peer=peer: of(party, peer)["state"] == "open")
            until(lambda party=party: metric(party, "channel_doubt") == 0)
        _agree_on_everything(acme, beta)

        # What was lost is still about: it stops nobody again, and is not held against anybody.
        acme.stop()
        acme.start()
        until(lambda: metric(acme, "gossip_judged_total", result="lost") >= 1)
        emit(acme, beta, "after")
        _agree_on_everything(acme, beta)


async def _agree_with_a_liar(acme: nodes.Party, beta: nodes.Party) -> str:
    """What people are told who would go on with a peer that says it has nothing and lost none."""
    liar = Attacker(acme, beta)
    verb = partial(acme.tally, "recover", "--channel", beta.name, "--agree", check=False)
    async with liar.line(*liar.logs):
        with trio.fail_after(hurried.PATIENCE_SECONDS):
            while "has not said yet" in (heard := (await trio.to_thread.run_sync(verb)).stderr):
                await trio.sleep(0.1)
    return " ".join(heard.split())


def _agree(party: nodes.Party) -> None:
    """People say so as soon as the peer is there."""
    until(lambda: party.tally("recover", "--agree", check=False).returncode == 0)


def _agree_on_everything(acme: nodes.Party, beta: nodes.Party) -> None:
    """Both have the channel open, nothing against each other, and the same numbers."""
    for party, peer in ((acme, beta), (beta, acme)):
        status = of(party, peer)
        assert (status["state"], status["evidence"]) == ("open", [])
        assert status["shown"] == {"own": None, "theirs": None}
    digest = acme.json("derive", "--channel", beta.name)["digest"]
    assert digest == beta.json("derive", "--channel", acme.name)["digest"]


def _store(party: nodes.Party) -> Path:
    return next(party.home.rglob("data.mdb"))


def _put_back(party: nodes.Party, old: bytes) -> None:
    """In place: neither the file nor the folder is another one, so the home does not know."""
    _store(party).write_bytes(old)
    party.start()
