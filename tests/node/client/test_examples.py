"""The examples of the documentation run, with two real nodes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import emitting
import nodes
import pytest

from tallystick.client import Client

FOLDER = Path(__file__).parents[3] / "docs" / "examples"
RULES = """\
[[intake.cloudevents]]
type = "com.acme.inference.*"
channel = "beta.example"
map = "events.toml"
"""
MAP = """\
[[meter]]
meter = "context-tokens"
quantity = { column = "data.usage.context" }
[[meter]]
meter = "generated-tokens"
quantity = { column = "data.usage.generated" }
"""


def _run(acme: emitting.Emitter, name: str, *options: str, **settings: str) -> str:
    """What an example prints."""
    key = settings.pop("key", acme.emit_key)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(FOLDER / name), *options],
        env={**os.environ, "TALLYSTICK_URL": acme.url, "TALLYSTICK_KEY": key, **settings},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_one(acme: emitting.Emitter) -> None:
    said = _run(acme, "emit_one.py")
    assert re.fullmatch(r"recorded at \d+: safe on our side\nco-signed: safe on theirs\n", said)
    assert acme.recorded("request-") == [4711]


def test_in_a_service(acme: emitting.Emitter) -> None:
    said = _run(acme, "emit_in_a_service.py")
    assert said.startswith("refused mistake-1: ")
    assert said.endswith("\n1000 recorded, 1 refused, 0 left\n")
    assert acme.recorded("req-") == list(range(1000))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async(acme: emitting.Emitter, backend: str) -> None:
    assert re.fullmatch(r"\d+ recorded\n", _run(acme, "emit_async.py", backend))
    assert acme.recorded("async-") == list(range(1000))


def test_keep_what_is_left(acme: emitting.Emitter, tmp_path: Path) -> None:
    spool = tmp_path / "spool.json"
    acme.party.kill()
    try:
        assert _run(acme, "keep_what_is_left.py", SPOOL=str(spool)).startswith("kept 1: ")
    finally:
        acme.party.start()
    assert _run(acme, "keep_what_is_left.py", SPOOL=str(spool)) == "all acknowledged\n"
    assert not spool.exists()
    assert acme.recorded("kept-") == [1]


def test_follow_events(acme: emitting.Emitter, tmp_path: Path) -> None:
    cursor = tmp_path / "cursor"
    settings = {"key": acme.read_key, "CURSOR_FILE": str(cursor), "UNTIL": "delta.cosigned"}
    first: list[str] = []
    following = threading.Thread(
        target=lambda: first.append(_run(acme, "follow_events.py", **settings))
    )
    following.start()
    with Client(acme.url, key=acme.emit_key, channel=emitting.CHANNEL) as client:
        while following.is_alive():  # until it has connected, and one comes after that
            client.emit(emitting.METER, 1, "s")
            following.join(0.2)
        assert first[0].count("\n") == 1
        assert "beta.example: record" in first[0]
        client.emit(emitting.METER, 1, "s", wait_seconds=30)
    again = _run(acme, "follow_events.py", **settings)
    assert "beta.example: record" in again
    assert again != first[0]


def test_cloudevents(tmp_path_factory: pytest.TempPathFactory) -> None:
    with nodes.channel(tmp_path_factory.mktemp("events")) as (acme, _):
        (acme.home / "events.toml").write_text(MAP)
        acme.stop()
        acme.configure(RULES)
        acme.start()
        emitter = emitting.Emitter(acme)
        assert _run(emitter, "send_cloudevents.py") == "recorded\n"
        assert _run(emitter, "send_cloudevents.py") == "duplicate\n"
        assert emitter.recorded("https://acme.example/gateway|") == [4711, 4711]


def test_every_example_is_run_here_and_shown_in_the_documentation() -> None:
    tests = Path(__file__).read_text()
    page = (FOLDER.parent / "client.md").read_text()
    for example in FOLDER.glob("*.py"):
        assert f'"{example.name}"' in tests, example.name
        assert f"(examples/{example.name})" in page, example.name
