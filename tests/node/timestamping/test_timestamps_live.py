"""Timestamps of real nodes, at the command line and over HTTP, through kills and a restart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nodes
from authorities import Asked, Authority, honest, served
from nodes import Party, wait_until

HOURS = ("2026-01-05T10", "2026-01-05T11")


def emit(party: Party, hour: str) -> None:
    party.json(
        "emit", "context-tokens", "5", "--subject", "s", "--id", hour, "--at", f"{hour}:30:00Z",
        "--wait",
    )  # fmt: skip


def verify(file: Path, *options: str) -> tuple[int, list[dict[str, object]]]:
    """What anybody without a home finds."""
    main = "from tallystick.node.cli import main; main()"
    command = [sys.executable, "-c", main, "verify", str(file), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout)["checks"]


def test_from_the_authority_to_the_auditor(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    with nodes.channel(tmp_path) as (acme, beta), served(lambda asked: asked.say(b"", 503)) as door:
        acme.stop()
        (acme.home / "tsa.pem").write_bytes(authority.root.read_bytes())
        acme.configure(
            f'[timestamps]\nurl = "{door.url}"\ncertificates = "tsa.pem"\n'
            "first_retry_seconds = 0.2\n"
        )
        assert acme.json("config", "check")["ok"]
        acme.start()
        for hour in HOURS:
            emit(acme, hour)
            closed = acme.json("checkpoint", hour, "--force")
            assert closed["timestamp"] is None
        wait_until(lambda: acme.json("status")["timestamps"]["problem"])
        assert acme.json("status")["timestamps"] == {
            "url": door.url,
            "waiting": 2,
            "problem": "it answers 503",
        }
        assert "2 checkpoints without one yet: it answers 503" in " ".join(
            acme.tally("status").stdout.split()
        )
        door.answer = honest(authority)
        acme.kill()
        acme.start()
        wait_until(lambda: acme.json("status")["timestamps"]["waiting"] == 0, 60)
        stamped = acme.json("checkpoint", HOURS[0])["timestamp"]
        assert stamped["authority"] == "time.example"
        assert (
            f"stamped {stamped['time']} by time.example"
            in acme.tally("checkpoint", HOURS[0]).stdout
        )
        kinds = [event["kind"] for event in acme.json("events")["events"]]
        assert kinds.count("checkpoint.timestamped") == 2
        asked = len(door.queries)
        acme.stop()
        acme.start()

        ours, theirs, plain = (tmp_path / f"{name}.tally" for name in ("ours", "theirs", "plain"))
        assert acme.json("bundle", HOURS[0], "-o", str(ours), "--full")["timestamp"] is True
        assert (
            acme.json("bundle", HOURS[0], "-o", str(plain), "--full", "--plain")["timestamp"]
            is False
        )
        assert beta.json("bundle", HOURS[0], "-o", str(theirs), "--full")["timestamp"] is False
        assert plain.read_bytes() == theirs.read_bytes() != ours.read_bytes()
        for kind in ("pdf", "html"):
            pages = []
            for party in (acme, beta):
                page = tmp_path / f"{party.name}.{kind}"
                party.tally("statement", HOURS[0], "-o", str(page))
                pages.append(page.read_bytes())
            assert pages[0] == pages[1]
        assert len(door.queries) == asked, "who starts again asks for nothing that is there"

        root = str(authority.root)
        code, checks = verify(ours, "--tsa-certificates", root)
        assert code == 0
        assert str(checks[-1]["detail"]).endswith(": trusted")
        assert verify(ours)[0] == 0
        assert verify(theirs, "--tsa-certificates", root)[0] == 1
        other = Authority(tmp_path / "other").root
        code, checks = verify(ours, "--tsa-certificates", str(other))
        assert code == 1
        assert [check["name"] for check in checks if not check["ok"]] == ["time"]
        acme.stop()
        assert "everything fits" in acme.tally("doctor").stdout


def test_a_node_killed_while_it_asks_asks_again(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    with nodes.channel(tmp_path) as (acme, _), served(_hang) as door:
        acme.stop()
        acme.configure(f'[timestamps]\nurl = "{door.url}"\ncertificates = "{authority.root}"\n')
        acme.start()
        emit(acme, HOURS[0])
        acme.json("checkpoint", HOURS[0], "--force")
        wait_until(lambda: door.queries)
        acme.kill()
        door.answer = honest(authority)
        acme.start()
        wait_until(lambda: acme.json("checkpoint", HOURS[0])["timestamp"], 60)
        door.stopping.set()


def test_a_node_does_not_start_with_certificates_that_are_none(tmp_path: Path) -> None:
    party = Party(tmp_path, "acme.example")
    party.tally("init", "--name", party.name)
    party.configure('[timestamps]\nurl = "https://tsa.example"\ncertificates = "gone.pem"\n')
    for verb in (("config", "check"), ("run", "--listen", "127.0.0.1:0")):
        done = party.tally(*verb, check=False)
        assert done.returncode == 2
        assert "gone.pem cannot be read" in " ".join(done.stderr.split())
        assert "timestamps.certificates" in done.stderr


def _hang(asked: Asked) -> None:
    asked.server.stopping.wait(60)
