"""Keys change between two real nodes while usage is recorded, and nothing is lost or parted."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import nodes
import pytest
import trio

from tallystick.node import queries
from tallystick.node.books import Books
from tallystick.node.home import open_home
from tallystick.node.importing.drafts import Draft
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


def ask(party: nodes.Party, method: str, **params: object) -> Any:
    """What the command line asks of a running node, without its process."""

    async def call() -> Any:
        async with RpcClient.connect(open_home(party.home)) as client:
            return await client.call(method, **params)

    return trio.run(call)


@contextmanager
def opened(party: nodes.Party) -> Iterator[Books]:
    """A party's books, beside its node."""
    books = Books.open(open_home(party.home), read_only=True)
    try:
        yield books
    finally:
        books.close()


def emit(party: nodes.Party, name: str, hour: int = 10) -> None:
    """Record one delta and wait until the peer has co-signed it."""
    at_us = (1_767_571_200 + 3600 * hour) * 1_000_000  # 2026-01-05
    drafts = msgspec.msgpack.encode([Draft(name, "context-tokens", "s", 5, at_us)])
    size = ask(party, "emit", channel=None, drafts=drafts)["size"]
    ask(party, "wait", channel=None, size=size, seconds=nodes.START_SECONDS)


def rotate(party: nodes.Party, job: Job, overlap_seconds: int) -> list[dict[str, Any]]:
    """Change a key with any overlap, also one that is over at once."""
    done: list[dict[str, Any]] = ask(
        party, "rotate", channel=None, job=job, overlap_seconds=overlap_seconds
    )
    return done


def vkeys(party: nodes.Party, channel: str | None = None) -> dict[str, Any]:
    """What `tally vkey` says."""
    with opened(party) as books:
        return queries.vkeys(books.channels[books.select(channel)][0])


def derived(party: nodes.Party, channel: str | None = None) -> dict[str, Any]:
    """What `tally derive` says, but for statuses: a repeated key may wait to be co-signed."""
    with opened(party) as books:
        found = queries.derive(*books.channels[books.select(channel)])
    for line in found["lines"]:
        del line["status"]
    return found


def settled(party: nodes.Party) -> bool:
    """Whether the peer has repeated all of a party's keys."""
    return not vkeys(party)["waiting"]


def connected(party: nodes.Party) -> bool:
    """Whether a party's node is connected and signs."""
    (channel,) = ask(party, "live")["channels"].values()
    return bool(channel["connected"] and channel["confirmed"])


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
    assert derived(acme) == derived(beta)
    lines = [line for line in derived(acme)["lines"] if line["period"] == "2026-01-05T10"]
    assert [line["payable"] for line in lines] == ["20000"]
    for period, level in (("2026-01-05T08", "--full"), ("2026-01-05T10", "")):
        files = [tmp_path / f"{party.name}.tally" for party in rotating]
        for party, file in zip(rotating, files, strict=True):
            party.tally("bundle", period, "-o", str(file), *level.split())
        assert files[0].read_bytes() == files[1].read_bytes()
        with files[0].open("rb") as file:
            checks = verify_bundle(file)
        assert all(check.ok for check in checks) and len(checks) == (12 if level else 7)


def test_proofs_are_by_the_keys_that_vkey_shows(rotating: Pair, tmp_path: Path) -> None:
    acme, beta = rotating
    emit(acme, "proved", 11)
    keys, theirs = acme.json("vkey"), vkeys(beta)
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
        before = vkeys(acme)[job]
        asking = subprocess.Popen(
            acme.command("rotate-key", job), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(wait_seconds)
        acme.kill()
        asking.wait()
        acme.start()
        emit(acme, f"after-cut-{job}", 12)
        nodes.wait_until(lambda: settled(acme))
        keys = vkeys(acme)
        assert keys[job] == vkeys(beta)[f"peer_{job}"]
        assert keys[job] == before or keys["earlier"][job][0]["vkey"] == before
    assert derived(acme) == derived(beta)


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
    acme.stop()
    acme.start()
    beta.start()
    nodes.wait_until(lambda: settled(acme))
    emit(acme, "together", 13)
    assert derived(acme) == derived(beta)
    for party in (beta, acme, beta):  # whoever starts again, and whoever dials
        party.stop()
        party.start()
        nodes.wait_until(lambda: connected(acme) and connected(beta))
    # The first key's overlap of days lasts; the second's is over, and both know the third.
    assert shown_and_accepted(acme, beta) == (2, True)


def shown_and_accepted(owner: nodes.Party, peer: nodes.Party) -> tuple[int, bool]:
    """How many transport keys of an owner its peer accepts, and whether it is the one shown."""
    with opened(owner) as ours, opened(peer) as theirs:
        shown = bytes(Pins(ours).own_key(ours.peers[peer.name]).verify_key)
        accepted = [pin.key for pin in Pins(theirs).accepted(theirs.peers[owner.name])]
        assert Pins(theirs).newest(theirs.peers[owner.name]).key == shown
        return len(accepted), shown in accepted


def test_a_peer_that_took_the_key_accepts_the_old_one_until_both_know(rotating: Pair) -> None:
    acme, beta = rotating
    before = shown_and_accepted(beta, acme)
    rotate(beta, "transport", 600)
    nodes.wait_until(lambda: settled(beta))
    assert shown_and_accepted(beta, acme) == (before[0] + 1, True)  # within the overlap: both


def test_a_channel_that_is_founded_later_comes_to_the_same_keys(rotating: Pair) -> None:
    acme, beta = rotating
    with opened(acme) as books:
        first = books.select(None).hex()
    new = nodes.found(beta, acme, nodes.TERMS.replace('"hour"', '"day"'))
    for party in rotating:
        nodes.wait_until(lambda: not vkeys(party, new)["waiting"])  # noqa: B023
        keys = [parse_vkey(vkeys(party, channel)["log"]).key for channel in (first, new)]
        assert keys[0] == keys[1]
    (done,) = acme.json("rotate-key", "cosigner", "--channel", new[:8])["rotations"]
    assert done["channel"] == new and done["repeated"]
    keys = [vkeys(acme, channel)["cosigner"] for channel in (first, new)]
    assert keys[0] != keys[1]
    refused = acme.tally("rotate-key", "transport", "--channel", new[:8], check=False)
    assert (refused.returncode, "one transport key" in refused.stderr) == (2, True)


def test_a_party_that_lost_its_seed_comes_back_with_consent(rotating: Pair, tmp_path: Path) -> None:
    acme, beta = rotating
    with opened(beta) as books:
        hourly = {k.hex(): c.terms.calendar == "hour" for k, (c, _) in books.channels.items()}
        old = sorted(hourly, key=lambda key: not hourly[key])
    emitted = derived(beta, old[0])
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
    assert (
        words
        != beta.json("peers")["peers"][0]["words"]
        == (fresh.json("peers")["peers"][0]["words"])
    )
    with opened(beta) as books:
        for row in books.founding.rows.values():
            assert row.state == "halted" and "new keys by a new pairing" in row.reason
    new = nodes.found(beta, fresh)
    emit(fresh, "fresh-start", 14)
    assert derived(fresh) == derived(beta)  # nobody had to say which channel
    assert derived(beta, old[0]) == emitted
    file = tmp_path / "old.tally"
    beta.tally("bundle", "2026-01-05T10", "-o", str(file), "--channel", old[0])
    with file.open("rb") as bundle:
        assert all(check.ok for check in verify_bundle(bundle))
    beta.stop()
    beta.start()
    emit(fresh, "after-restart", 14)
    with opened(beta) as books:
        assert {key.hex() for key in books.founding.rows} == {*old, new}
    acme.start()  # the old home still runs somewhere: it is let in no more
    assert not any(channel["connected"] for channel in ask(acme, "live")["channels"].values())
    acme.stop()
    fresh.stop()
