"""A home that was put back, unnoticed by itself, meets its own signature through another peer."""

from __future__ import annotations

import shutil
import time
import urllib.request
from pathlib import Path
from typing import Any

import nodes
from scrapes import Scrape

NAMES = ("acme.example", "beta.example", "gamma.example")


def test_a_third_party_shows_what_was_lost_and_nothing_is_signed_over_it(tmp_path: Path) -> None:
    with nodes.running(tmp_path, NAMES) as (acme, beta, gamma):
        for one, other in ((acme, beta), (acme, gamma)):
            nodes.pair(one, other)
            terms = nodes.TERMS.replace(NAMES[0], one.name).replace(NAMES[1], other.name)
            nodes.found(one, other, terms)

        def emit(id: str, *options: str) -> None:
            options = (*options, "--channel", beta.name)
            acme.tally("emit", "context-tokens", "1", "--subject", "s", "--id", id, *options)

        emit("old", "--wait")
        acme.stop()
        acme.configure("[metrics]\nopen = true\n")
        store = next(acme.home.rglob("data.mdb"))
        shutil.copy(store, tmp_path / "old.mdb")
        acme.start()
        nodes.wait_until(lambda: _of(acme, gamma)["state"] == "open")
        nodes.wait_until(lambda: _sent(acme) >= 4)  # about both channels' logs
        before = _sent(acme)
        for number in range(3):
            emit(f"new-{number}", "--wait")
        nodes.wait_until(lambda: _sent(acme) > before)
        # Growth goes out ten seconds after the last news, to one neighbour first and to the others
        # up to six seconds later: which, nobody can see.
        time.sleep(30)
        acme.kill()
        beta.stop()
        # In place: neither the file nor the folder is another one.
        store.write_bytes((tmp_path / "old.mdb").read_bytes())
        acme.start()
        nodes.wait_until(lambda: _of(acme, beta)["shown"]["own"] is not None)

        status = _of(acme, beta)
        assert status["shown"]["own"] > status["own"]["size"] == 2
        assert status["state"] == "confirming"
        shown = acme.tally("status").stdout
        assert "this home is older than it was" in " ".join(shown.split())
        assert all(len(line) <= 80 for line in shown.splitlines())
        kinds = [event["kind"] for event in acme.json("events")["events"]]
        assert kinds.count("rollback.shown") == 1
        assert _of(acme, gamma)["state"] == "open"
        emit("meanwhile")  # is durable, and waits

        beta.start()
        nodes.wait_until(lambda: _of(acme, beta)["own"]["cosigned"] == 6)
        nodes.wait_until(lambda: _of(acme, beta)["shown"]["own"] is None)
        status = _of(acme, beta)
        assert (status["state"], status["evidence"]) == ("open", [])
        assert (
            acme.json("derive", "--channel", beta.name)["digest"] == (beta.json("derive")["digest"])
        )


def _sent(party: nodes.Party) -> float:
    """How many items its node has passed on."""
    with urllib.request.urlopen(party.json("status")["http"] + "/metrics") as answer:
        scraped = Scrape(answer.read().decode())
    return scraped.value("gossip_sent_total", what="items")


def _of(party: nodes.Party, peer: nodes.Party) -> Any:
    found = [c for c in party.json("status")["channels"] if c["peer"] == peer.name]
    return found[0]
