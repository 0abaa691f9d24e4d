"""Two copies of one party's home that run at once, as real processes, notice each other."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import nodes
import pytest


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[nodes.Party, ...]]:
    """Acme and beta with a channel, and a copy of acme's home that does not run yet."""
    folder = tmp_path_factory.mktemp("copies")
    with nodes.channel(folder) as (acme, beta):
        emit(acme, "before")
        acme.stop()
        (folder / "elsewhere").mkdir()
        copy = nodes.Party(folder / "elsewhere", acme.name)
        shutil.copytree(acme.home, copy.home)
        acme.start()
        try:
            yield acme, beta, copy
        finally:
            copy.stop()


def emit(party: nodes.Party, id: str) -> None:
    party.tally("emit", "context-tokens", "1", "--subject", "s", "--id", id, "--wait")


def stopped(party: nodes.Party) -> bool:
    return party.json("status")["stopped"] is not None


def test_copies_stop_before_either_signs_and_people_choose_one(
    pair: tuple[nodes.Party, ...],
) -> None:
    acme, beta, copy = pair
    emit(acme, "first")
    copy.start()
    nodes.wait_until(lambda: stopped(acme) and stopped(copy))

    # Each records what comes, and signs nothing of it.
    for party, id in ((acme, "kept-here"), (copy, "kept-there")):
        party.tally("emit", "context-tokens", "1", "--subject", "s", "--id", id)
        channel = party.json("status")["channels"][0]
        assert (channel["connected"], channel["state"]) == (False, "confirming")
    assert beta.json("status")["channels"][0]["theirs"]["size"] == 3

    # It is said where people and programs look, also after a restart.
    shown = acme.tally("status").stdout
    assert "STOPPED" in shown
    assert "tally recover --only-copy" in " ".join(shown.split())
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "copy.found" in [event["kind"] for event in acme.json("events")["events"]]
    acme.stop()
    acme.start()
    assert stopped(acme)

    # People stop one for good and go on with the other.
    copy.stop()
    acme.tally("recover", "--only-copy")
    nodes.wait_until(lambda: acme.json("status")["channels"][0]["state"] == "open")
    emit(acme, "after")
    assert not stopped(acme)
    status = beta.json("status")["channels"][0]
    assert (status["state"], status["evidence"]) == ("open", [])
    assert status["theirs"]["cosigned"] == 5  # the terms and four deltas

    # The other one, started after all, stays stopped. If people go on with it too, both stop.
    copy.start()
    emit(acme, "beside")
    assert stopped(copy)
    assert not stopped(acme)
    copy.tally("recover", "--only-copy")
    nodes.wait_until(lambda: stopped(acme) and stopped(copy))
    assert beta.json("status")["channels"][0]["evidence"] == []


def test_a_decision_that_is_not_asked_for(tmp_path: Path) -> None:
    with nodes.running(tmp_path, ("acme.example",)) as (acme,):
        done = acme.tally("recover", "--only-copy", check=False)
        assert done.returncode == 2
        assert "no other copy of this home was heard of" in done.stderr


def test_a_process_that_does_not_answer_gives_way_and_a_copy_that_wakes_stops(
    tmp_path: Path,
) -> None:
    """A machine that hangs must not block the restart of its node elsewhere; when it wakes up
    after all, both know.
    """
    with nodes.channel(tmp_path) as (acme, beta):
        emit(acme, "before")
        acme.stop()
        (tmp_path / "elsewhere").mkdir()
        copy = nodes.Party(tmp_path / "elsewhere", acme.name)
        shutil.copytree(acme.home, copy.home)
        acme.start()
        nodes.wait_until(lambda: acme.json("status")["channels"][0]["state"] == "open")
        assert acme.process is not None
        os.kill(acme.process.pid, signal.SIGSTOP)
        try:
            copy.start()
            nodes.wait_until(lambda: copy.json("status")["channels"][0]["state"] == "open")
            emit(copy, "after")
            os.kill(acme.process.pid, signal.SIGCONT)
            nodes.wait_until(lambda: stopped(acme))
            status = beta.json("status")["channels"][0]
            assert (status["theirs"]["size"], status["evidence"]) == (3, [])
        finally:
            copy.stop()
            os.kill(acme.process.pid, signal.SIGCONT)
