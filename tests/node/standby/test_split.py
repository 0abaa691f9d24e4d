"""A node that is cut off from its standby, and lives: it goes on alone or stands still, and is
shut out when the standby takes over.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import disks
import nodes
import pytest
import standbys

STOP_SECONDS = 60


@pytest.fixture
def three(tmp_path: Path) -> Iterator[tuple[nodes.Party, standbys.Standby, nodes.Party]]:
    """A node that waits a second for its standby, that standby in step, and their peer."""
    with nodes.channel(tmp_path) as (acme, beta):
        acme.stop()
        acme.configure(standbys.WAIT.format(seconds=1))
        acme.start()
        folder = tmp_path / "second"
        folder.mkdir()
        standby = standbys.Standby(folder, acme)
        standby.follow()
        nodes.wait_until(lambda: acme.json("standby")["in_step"])
        try:
            yield acme, standby, beta
        finally:
            standby.kill()


def _refused(party: nodes.Party, *arguments: str) -> str:
    done = party.tally(*arguments, check=False)
    assert done.returncode == 2
    return " ".join(done.stderr.split())


def _emit(party: nodes.Party, name: str, *options: str) -> None:
    party.tally("emit", "context-tokens", "1", "--subject", "s", "--id", name, *options)


def test_a_node_that_goes_on_alone_says_so_and_waits_again(
    three: tuple[nodes.Party, standbys.Standby, nodes.Party],
) -> None:
    acme, standby, _ = three
    _emit(acme, "both")
    assert "context-tokens/both" in standby.tally("show", "both").stdout
    standby.kill()
    _emit(acme, "alone")
    assert acme.json("standby")["alone"]
    assert "on this machine alone" in " ".join(acme.tally("status").stdout.split())
    standby.follow()
    nodes.wait_until(lambda: not acme.json("standby")["alone"])
    assert "context-tokens/alone" in standby.tally("show", "alone").stdout
    kinds = [event["kind"] for event in acme.json("events")["events"]]
    told = [kind for kind in kinds if kind.startswith("standby")]
    assert told[-2:] == ["standby.alone", "standby.back"]


def test_what_the_peer_has_comes_back_and_the_node_that_lives_is_shut_out(
    three: tuple[nodes.Party, standbys.Standby, nodes.Party],
) -> None:
    acme, standby, beta = three
    _emit(acme, "before", "--wait")
    standby.kill()
    for number in range(3):
        _emit(acme, f"alone-{number}", "--wait")
    answer = standby.json("promote", "--yes")
    assert not answer["primary_stopped"]
    assert acme.process is not None and acme.process.poll() is None
    standby.start()
    assert acme.process.wait(STOP_SECONDS) == 2
    nodes.wait_until(lambda: standby.json("status")["channels"][0]["state"] == "open")
    for name in ("before", "alone-0", "alone-1", "alone-2"):
        assert f"context-tokens/{name}" in standby.tally("show", name).stdout
    _emit(standby, "after", "--wait")
    derived = [party.json("derive") for party in (standby, beta)]
    assert derived[0]["digest"] == derived[1]["digest"]
    assert derived[0]["lines"][0]["deltas"] == 5
    assert beta.json("evidence")["evidence"] == standby.json("evidence")["evidence"] == []
    assert "took over" in acme.tally("run", check=False).stderr
    assert acme.json("standby")["role"] == "superseded"


def test_a_standby_without_room_to_take_over_follows_its_primary_again(
    three: tuple[nodes.Party, standbys.Standby, nodes.Party],
) -> None:
    acme, standby, beta = three
    _emit(acme, "before", "--wait")
    acme.kill()
    nodes.wait_until(lambda: not standby.json("standby")["connected"])
    assert standby.process is not None
    with disks.full_for(standby.process.pid):
        done = standby.tally("promote", "--yes", check=False)
    assert (done.returncode, "cannot be written" in done.stderr) == (3, True)
    acme.start()
    nodes.wait_until(lambda: acme.json("standby")["in_step"])
    _emit(acme, "since", "--wait")
    assert "context-tokens/since" in standby.tally("show", "since").stdout
    acme.kill()
    standby.promote()
    _emit(standby, "after", "--wait")
    assert standby.json("derive")["digest"] == beta.json("derive")["digest"]


def test_only_a_standby_is_promoted_and_a_claim_begins_a_generation(tmp_path: Path) -> None:
    with nodes.running(tmp_path, ["acme.example"]) as (acme,):
        assert "is no standby's" in _refused(acme, "promote", "--yes")
        assert "in use by process" in _refused(acme, "promote", "--claim", "--yes")
        (tmp_path / "second").mkdir()
        empty = standbys.Standby(tmp_path / "second", acme)
        assert "never had everything" in _refused(empty, "promote", "--yes")
        acme.stop()
        first = acme.json("promote", "--claim")["generation"]
        assert acme.json("promote", "--claim")["generation"] > first
        acme.start()
