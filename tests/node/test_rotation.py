"""Keys change between two real nodes while usage is recorded, and nothing is lost or parted."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nodes
import pytest
import trio

from tallystick.node.books import Books
from tallystick.node.home import open_home
from tallystick.node.pins import Pins
from tallystick.node.rpc import RpcClient
from tallystick.protocol.keys import parse_vkey
from tallystick.protocol.proof import parse_proof, verify_proof
from tallystick.protocol.records import Job
from tallystick.protocol.verify import verify_bundle

Pair = tuple[nodes.Party, nodes.Party]
JOBS: tuple[Job, ...] = ("log", "cosigner", "transport")


@pytest.fixture(scope="module")
def rotating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two nodes whose keys change all the time."""
    with nodes.channel(tmp_path_factory.mktemp("rotating")) as parties:
        yield parties


def emit(party: nodes.Party, name: str, hour: int = 10) -> None:
    """Record one delta and wait until the peer has co-signed it."""
    party.tally(
        "emit", "context-tokens", "5", "--subject", "s", "--id", name,
        "--at", f"2026-01-05T{hour:02}:00:00Z", "--wait",
    )  # fmt: skip


def rotate(party: nodes.Party, job: Job, overlap_seconds: int) -> list[dict[str, Any]]:
    """Change a key with any overlap, also one that is over at once."""

    async def ask() -> Any:
        async with RpcClient.connect(open_home(party.home)) as client:
            return await client.call(
                "rotate", channel=None, job=job, overlap_seconds=overlap_seconds
            )

    done: list[dict[str, Any]] = trio.run(ask)
    return done


def settled(party: nodes.Party) -> bool:
    """Whether the peer has repeated all of a party's keys."""
    waiting: list[str] = party.json("vkey")["waiting"]
    return not waiting


def connected(party: nodes.Party) -> bool:
    """Whether a party's node is connected and signs."""
    state = party.json("status")["channels"][0]
    return bool(state["connected"]) and state["state"] == "open"


def test_each_key_changes_under_running_emits(rotating: Pair, tmp_path: Path) -> None:
    acme, beta = rotating
    emit(acme, "before", 8)
    acme.tally("checkpoint", "2026-01-05T08", "--force")
    usage = tmp_path / "usage.csv"
    rows = [f"2026-01-05 10:{n // 60 % 60:02}:{n % 60:02},u{n},1" for n in range(20_000)]
    usage.write_text("\n".join(["time,id,q", *rows]) + "\n")
    (tmp_path / "map.toml").write_text(
        'time = { column = "time" }\nid = { column = "id" }\nsubject = { value = "s" }\n'
        '[[meter]]\nmeter = "context-tokens"\nquantity = { column = "q" }\n'
    )
    load = ("import", str(usage), "--map", str(tmp_path / "map.toml"), "--wait")
    importing = threading.Thread(target=acme.tally, args=load)
    importing.start()
    for party in (acme, beta):
        for job in JOBS:
            (done,) = party.json("rotate-key", job)["rotations"]
            assert done["number"] == 1
    importing.join()
    for party in rotating:
        nodes.wait_until(lambda: settled(party))  # noqa: B023
    acme.tally("checkpoint", "2026-01-05T10", "--force")
    assert acme.json("derive") == beta.json("derive")
    lines = acme.json("derive", "--period", "2026-01-05T10")["lines"]
    assert [line["payable"] for line in lines] == ["20000"]
    for period, level in (("2026-01-05T08", "--full"), ("2026-01-05T10", "")):
        files = [tmp_path / f"{party.name}.tally" for party in rotating]
        for party, file in zip(rotating, files, strict=True):
            party.tally("bundle", period, "-o", str(file), *level.split())
        assert files[0].read_bytes() == files[1].read_bytes()
        with files[0].open("rb") as file:
            checks = verify_bundle(file)
        assert all(check.ok for check in checks) and len(checks) == (10 if level else 6)


def test_proofs_are_by_the_keys_that_vkey_shows(rotating: Pair, tmp_path: Path) -> None:
    acme, beta = rotating
    emit(acme, "proved", 11)
    keys, theirs = acme.json("vkey"), beta.json("vkey")
    assert keys["log"] == theirs["peer_log"] and keys["cosigner"] == theirs["peer_cosigner"]
    assert len(keys["earlier"]["log"]) == len(keys["earlier"]["peer_cosigner"]) == 1
    assert keys["earlier"]["log"][0]["until"] > time.time() * 1e6
    acme.tally("prove", "proved", "-o", str(tmp_path))
    proof = parse_proof((tmp_path / "proved.tlog-proof").read_bytes())
    leaf = (tmp_path / "proved.leaf").read_bytes()
    verify_proof(proof, leaf, parse_vkey(keys["log"]), parse_vkey(keys["peer_cosigner"]))
    shown = acme.tally("vkey").stdout
    assert keys["earlier"]["log"][0]["vkey"] in shown and "until " in shown
    assert "transport key 1" in acme.tally("log", "--theirs", "--from", "0").stdout


def test_a_power_cut_leaves_the_old_keys_or_the_new(rotating: Pair) -> None:
    acme, beta = rotating
    for job, wait_seconds in (("log", 0.4), ("cosigner", 0.7)):
        before = acme.json("vkey")[job]
        asking = subprocess.Popen(
            acme.command("rotate-key", job), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(wait_seconds)
        acme.kill()
        asking.wait()
        acme.start()
        emit(acme, f"after-cut-{job}", 12)
        nodes.wait_until(lambda: settled(acme))
        keys = acme.json("vkey")
        assert keys[job] == beta.json("vkey")[f"peer_{job}"]
        assert keys[job] == before or keys["earlier"][job][0]["vkey"] == before
    assert acme.json("derive") == beta.json("derive")


def test_a_peer_that_was_away_over_the_whole_overlap_comes_back(rotating: Pair) -> None:
    acme, beta = rotating
    beta.stop()
    for job in JOBS:
        assert [one["repeated"] for one in rotate(acme, job, 0)] == [False]
    (again,) = rotate(acme, "log", 600)  # the overlap before is over, so it may be asked again
    assert not again["repeated"]
    refused = acme.tally("rotate-key", "log", check=False)
    assert refused.returncode == 2
    assert "is under way: beta.example has not repeated" in " ".join(refused.stderr.split())
    acme.tally("emit", "context-tokens", "5", "--subject", "s", "--id", "alone")
    acme.stop()
    acme.start()
    beta.start()
    nodes.wait_until(lambda: settled(acme))
    emit(acme, "together", 13)
    assert acme.json("derive") == beta.json("derive")
    for party in (beta, acme, beta):  # whoever starts again, and whoever dials
        party.stop()
        party.start()
        nodes.wait_until(lambda: connected(acme) and connected(beta))
    # The first key's overlap of days lasts; the second's is over, and both know the third.
    assert shown_and_accepted(acme, beta) == (2, True)


def shown_and_accepted(owner: nodes.Party, peer: nodes.Party) -> tuple[int, bool]:
    """How many transport keys of an owner its peer accepts, and whether it is the one shown."""
    ours = Books.open(open_home(owner.home), read_only=True)
    theirs = Books.open(open_home(peer.home), read_only=True)
    try:
        shown = bytes(Pins(ours).own_key(ours.peers[peer.name]).verify_key)
        accepted = [pin.key for pin in Pins(theirs).accepted(theirs.peers[owner.name])]
        assert Pins(theirs).newest(theirs.peers[owner.name]).key == shown
        return len(accepted), shown in accepted
    finally:
        ours.close()
        theirs.close()


def test_a_peer_that_took_the_key_accepts_the_old_one_until_both_know(rotating: Pair) -> None:
    acme, beta = rotating
    before = shown_and_accepted(beta, acme)
    beta.json("rotate-key", "transport")
    nodes.wait_until(lambda: settled(beta))
    assert shown_and_accepted(beta, acme) == (before[0] + 1, True)  # within the overlap: both


def test_a_channel_that_is_founded_later_comes_to_the_same_keys(rotating: Pair) -> None:
    acme, beta = rotating
    first = acme.json("channels")["channels"][0]["channel"]
    new = nodes.found(beta, acme, nodes.TERMS.replace('"hour"', '"day"'))
    for party in rotating:
        nodes.wait_until(lambda: not party.json("vkey", "--channel", new)["waiting"])  # noqa: B023
        keys = [parse_vkey(party.json("vkey", "--channel", c)["log"]).key for c in (first, new)]
        assert keys[0] == keys[1]
    (done,) = acme.json("rotate-key", "cosigner", "--channel", new[:8])["rotations"]
    assert done["channel"] == new and done["repeated"]
    keys = [acme.json("vkey", "--channel", c)["cosigner"] for c in (first, new)]
    assert keys[0] != keys[1]
    refused = acme.tally("rotate-key", "transport", "--channel", new[:8], check=False)
    assert (refused.returncode, "one transport key" in refused.stderr) == (2, True)


def test_a_party_that_lost_its_seed_comes_back_with_consent(rotating: Pair, tmp_path: Path) -> None:
    acme, beta = rotating
    old = [row["channel"] for row in beta.json("channels")["channels"]]
    emitted = beta.json("derive", "--channel", old[0])
    acme.stop()
    fresh = nodes.Party(tmp_path, acme.name)
    fresh.tally("init", "--name", acme.name)
    fresh.start()
    refused = fresh.tally("join", beta.json("invite")["code"], check=False)
    assert "another node is paired as acme.example" in " ".join(refused.stderr.split())
    unasked = beta.tally("invite", "--replace", acme.name, check=False)
    assert (unasked.returncode, "nobody is there" in unasked.stderr) == (2, True)
    assert beta.tally("invite", "--replace", "gamma.example", "--yes", check=False).returncode == 2
    asked = beta.tally("invite", "--replace", acme.name, "--yes")
    words = beta.json("peers")["peers"][0]["words"]
    assert words in asked.stderr
    fresh.tally("join", asked.stdout.strip())
    assert beta.json("peers")["peers"][0]["words"] == fresh.json("peers")["peers"][0]["words"]
    assert beta.json("peers")["peers"][0]["words"] != words
    for row in beta.json("channels")["channels"]:
        assert row["state"] == "halted" and "new keys by a new pairing" in row["reason"]
    new = nodes.found(beta, fresh)
    emit(fresh, "fresh-start", 14)
    assert fresh.json("derive") == beta.json("derive")  # nobody had to say which channel
    assert beta.json("derive", "--channel", old[0]) == emitted
    file = tmp_path / "old.tally"
    beta.tally("bundle", "2026-01-05T10", "-o", str(file), "--channel", old[0])
    assert beta.json("verify", str(file))["ok"]
    beta.stop()
    beta.start()
    emit(fresh, "after-restart", 14)
    assert {row["channel"] for row in beta.json("channels")["channels"]} == {*old, new}
    acme.start()  # the old home still runs somewhere: it is let in no more
    acme.stop()
    assert not any(row["connected"] for row in acme.json("status")["channels"])
    fresh.stop()
