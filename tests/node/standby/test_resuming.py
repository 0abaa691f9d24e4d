"""A primary that is killed sends its standby what it missed, and no more."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import nodes
import pytest
import standbys
from tollgate import Tollgate

from tallystick.node.store.disk import Store

BEFORE, MORE = 90_000, 30_000  # deltas
SECONDS = 120
UNDER_WAY_BYTES = 50_000  # of the second import, when it is killed at the earliest
MAP = """\
id = { column = "id" }
time = { column = "at" }
subject = { column = "subject" }
[[meter]]
meter = "context-tokens"
quantity = { column = "tokens" }
"""


def _import(party: nodes.Party, first: int, stop: int, *options: str, check: bool = True) -> None:
    folder = party.home.parent
    (folder / "map.toml").write_text(MAP)
    file = folder / f"{first}.csv"
    lines = [
        f"id-{number},2026-01-05T00:00:{number % 60:02}Z,s{number % 7},{number % 1000}\n"
        for number in range(first, stop)
    ]
    file.write_text("id,at,subject,tokens\n" + "".join(lines))
    party.tally("import", str(file), "--map", str(folder / "map.toml"), *options, check=check)


def _is_in_step(standby: nodes.Party) -> bool:
    return bool(standby.json("standby")["in_step"])


def _held(party: nodes.Party) -> list[str]:
    """The moments of its store that a node holds: with one, no page is used again for as long."""
    assert party.process is not None
    store = Store(party.home / "store", read_only=True)
    try:
        lines = [line.split() for line in store._env.readers().splitlines()]
    finally:
        store.close()
    of_node = [line for line in lines if line[0] == str(party.process.pid)]
    assert of_node
    return [line[2] for line in of_node if line[2] != "-"]


@pytest.mark.parametrize("away", [False, True])
def test_a_primary_that_was_killed_under_load_sends_what_was_missed(
    tmp_path: Path, away: bool
) -> None:
    with nodes.channel(tmp_path) as (acme, _):
        acme.stop()
        acme.configure(standbys.SERVE if away else standbys.WAIT.format(seconds=0))
        acme.start()
        gate = Tollgate(acme.address)
        (tmp_path / "second").mkdir()
        standby = standbys.Standby(tmp_path / "second", acme, address=gate.address)
        standby.follow()
        try:
            _import(acme, 0, BEFORE, "--wait")
            nodes.wait_until(lambda: standbys.in_step(acme, standby), SECONDS)
            whole = gate.passed
            if away:
                standby.kill()
                _import(acme, BEFORE, BEFORE + MORE)
                acme.kill()
            else:
                load = Thread(target=lambda: _import(acme, BEFORE, BEFORE + MORE, check=False))
                load.start()
                nodes.wait_until(lambda: gate.passed > whole + UNDER_WAY_BYTES, SECONDS)
                acme.kill()
                load.join()
            before = gate.passed
            acme.start()
            if away:
                standby.follow()
            nodes.wait_until(lambda: _is_in_step(standby), SECONDS)
            nodes.wait_until(lambda: standbys.in_step(acme, standby), SECONDS)
            assert not _held(acme)
            assert (UNDER_WAY_BYTES if away else 0) < gate.passed - before < whole // 2
        finally:
            standby.kill()
            gate.close()
