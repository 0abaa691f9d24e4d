"""A primary that is killed under load sends its standby what it missed, and no more."""

from __future__ import annotations

import threading
from pathlib import Path

import nodes
import pytest
import standbys
from tollgate import Tollgate

ROWS = 60_000
SECONDS = 120


def _import(party: nodes.Party, file: Path, *, check: bool = True) -> None:
    party.tally("import", str(file), check=check)


def _usage(file: Path, first: int, count: int) -> Path:
    lines = [
        f"2026-01-05T00:00:{number % 60:02}Z,id-{number},s{number % 7},{number % 1000}\n"
        for number in range(first, first + count)
    ]
    file.write_text("at,id,subject,context-tokens\n" + "".join(lines))
    return file


def _in_step(standby: nodes.Party) -> bool:
    document = standby.json("standby")
    return bool(document["in_step"] and document["complete"])


@pytest.mark.parametrize("wait", [False, True])
def test_a_primary_that_was_killed_under_load_sends_what_was_missed(
    tmp_path: Path, wait: bool
) -> None:
    settings = standbys.WAIT.format(seconds=0) if wait else standbys.SERVE
    with nodes.channel(tmp_path) as (acme, _):
        acme.stop()
        acme.configure(settings)
        acme.start()
        gate = Tollgate(acme.address)
        (tmp_path / "second").mkdir()
        standby = standbys.Standby(tmp_path / "second", acme, address=gate.address)
        standby.follow()
        try:
            _import(acme, _usage(tmp_path / "a.csv", 0, ROWS))
            nodes.wait_until(lambda: standbys.in_step(acme, standby), SECONDS)
            store = (acme.home / "store" / "data.mdb").stat().st_size
            load = _usage(tmp_path / "b.csv", ROWS, ROWS)
            before = (acme.home / "store" / "data.mdb").stat().st_mtime_ns
            importing = threading.Thread(target=_import, args=(acme, load), kwargs={"check": False})
            importing.start()
            nodes.wait_until(
                lambda: (acme.home / "store" / "data.mdb").stat().st_mtime_ns != before, SECONDS
            )
            acme.kill()
            importing.join()
            gate.inward = 0
            acme.start()
            nodes.wait_until(lambda: _in_step(standby), SECONDS)
            nodes.wait_until(lambda: standbys.in_step(acme, standby), SECONDS)
            print(f"{gate.inward=} {store=}")
        finally:
            standby.kill()
            gate.close()
