"""Real kills while records leave the store: each is in the store or in a proven segment after."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nodes
import sealed

from tallystick.node.doctor.child import examine_apart
from tallystick.node.home import Home
from tallystick.protocol.records import encode_record

KILLS, CHANGES, TURNS_MAX = 8, 14, 60


def _names(archive: Path) -> list[str]:
    """What is in an archive, also half-written files."""
    return sorted(str(path) for path in archive.rglob("*"))


def _kill_at(home: Home, archive: Path, change: int) -> bool:
    """Seal and drop in a process that is killed at the n-th change of the archive or the store;
    False if it ended before.
    """
    command = [sys.executable, "-c", nodes.MAIN, "--home", str(home.path), "seal", "--drop"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    store = home.store_path / "data.mdb"
    seen = (_names(archive), store.stat().st_mtime_ns)
    changes = 0
    while process.poll() is None:
        now = (_names(archive), store.stat().st_mtime_ns)
        changes += now != seen
        seen = now
        if changes >= change:
            process.kill()
            process.wait()
            return True
    return False


def _all_records(home: Home) -> list[bytes]:
    with sealed.opened(home) as books:
        [(channel, _)] = books.channels.values()
        log = channel.own
        return [
            encode_record(record) for _, part in log.records(0, log.durable_size) for record in part
        ]


def _kept_from(home: Home) -> int:
    with sealed.opened(home) as books:
        [(channel, _)] = books.channels.values()
        return channel.own.dropped


def test_no_kill_loses_a_record(long_homes: tuple[Home, Home], tmp_path: Path) -> None:
    wanted = _all_records(long_homes[0])
    seen = set()
    killed = 0
    # Some must fall between a segment and its dropping: a busy machine needs more tries for it.
    for turn in range(TURNS_MAX):
        if killed >= KILLS and len(seen) > 1:
            break
        change = turn % CHANGES + 1
        folder = tmp_path / str(change)
        home = sealed.copied(long_homes[0], folder, f"{folder}/archive")
        killed += _kill_at(home, folder / "archive", change)
        seen.add(_kept_from(home))
        assert _all_records(home) == wanted
        done = sealed.seal(home, drop=True)  # and it goes on from there
        assert done["faults"] == []
        assert _all_records(home) == wanted
        if change % 5 == 0:
            checks = examine_apart(home.store_path, home.path / "ids", home.name)
            assert [check for check in checks if not check.ok] == []
        shutil.rmtree(folder)
    assert killed >= KILLS
    assert len(seen) > 1


TERMS = nodes.TERMS.replace('"hour"', '"day"')
MAP = """\
time = { column = "time", zone = "UTC" }
id = { column = "id" }
subject = { value = "conv" }
[[meter]]
meter = "context-tokens"
quantity = { column = "count" }
"""
ROWS = 70_000


def test_a_peer_gives_back_what_it_has_in_segments_alone(tmp_path: Path) -> None:
    rows = "".join(f"2026-01-05T00:00:{n % 60:02},e{n},{n % 90}\n" for n in range(ROWS))
    (tmp_path / "usage.csv").write_text(f"time,id,count\n{rows}")
    (tmp_path / "map.toml").write_text(MAP)
    with nodes.running(tmp_path) as (acme, beta):
        beta.stop()
        beta.configure(
            f'[archive]\nlocation = "{tmp_path}/archive"\ndrop = true\nkeep_periods = 0\n'
        )
        beta.start()
        nodes.pair(acme, beta)
        channel = nodes.found(acme, beta, TERMS)
        answer = acme.json(
            "import", str(tmp_path / "usage.csv"), "--map", str(tmp_path / "map.toml"), "--wait"
        )
        assert answer["recorded"] == ROWS
        acme.tally("checkpoint", "2026-01-05", "--force")
        nodes.wait_until(
            lambda: beta.json("seal")["channels"][0]["logs"][1]["in_store_from"] > 32_768
        )
        derived = acme.json("derive")
        proof = tmp_path / "proof"
        beta.tally("prove", "context-tokens/e77", "-o", str(proof))
        leaf = next(proof.glob("*.leaf")).read_bytes()
        assert b"e77" in leaf
        shutil.copy(acme.home / "seed", tmp_path / "seed")
        acme.kill()
        shutil.rmtree(acme.home)
        acme.tally("recover", "--name", "acme.example", "--seed-file", str(tmp_path / "seed"))
        acme.start()
        acme.tally("join", beta.json("invite")["code"])
        nodes.wait_until(
            lambda: any(
                one["channel"] == channel and acme.json("derive") == derived
                for one in acme.json("recover")["channels"]
            ),
            120,
        )
        for party in (acme, beta):
            assert party.json("doctor")["ok"]
        again = acme.json(
            "import", str(tmp_path / "usage.csv"), "--map", str(tmp_path / "map.toml")
        )
        assert (again["recorded"], again["duplicate"]) == (0, ROWS)
