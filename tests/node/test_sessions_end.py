"""A session that ends is freed at once, without the collector of garbage: nodes have the collector
let sessions be, so what stood in a cycle would be kept for good.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path

import nodes

# A node whose collector never runs, and that writes how many there are of some kinds when asked.
CODE = """
import gc, json, os, pathlib, signal
from collections import Counter
from tallystick.node import process
from tallystick.node.cli import main

def answer(*_):
    names = Counter(type(one).__name__ for one in gc.get_objects())
    kinds = {kinds!r}
    part = pathlib.Path({file!r} + ".part")
    part.write_text(json.dumps({{kind: names[kind] for kind in kinds}}))
    part.rename({file!r})

process.gc.freeze = lambda: None  # what is frozen is not counted
gc.enable = lambda: None
gc.disable()
signal.signal(signal.SIGUSR1, answer)
main()
"""

KINDS = ("Link", "Session", "SecureStream", "SSLObject", "Outbox")


def _alive(party: nodes.Party, file: Path) -> dict[str, int]:
    assert party.process is not None
    file.unlink(missing_ok=True)
    party.process.send_signal(signal.SIGUSR1)
    nodes.wait_until(file.exists, 120)
    found: dict[str, int] = json.loads(file.read_text())
    return found


def _connected(party: nodes.Party) -> bool:
    connected: bool = party.json("status")["channels"][0]["connected"]
    return connected


def test_sessions_that_end_leave_nothing(tmp_path: Path) -> None:
    file = tmp_path / "alive.json"
    one, none = dict.fromkeys(KINDS, 1), dict.fromkeys(KINDS, 0)
    with nodes.channel(tmp_path, code=CODE.format(file=str(file), kinds=KINDS)) as (acme, beta):
        # Both may have dialled; the pings let go of a link when its turn would be.
        nodes.wait_until(lambda: _connected(acme) and _alive(acme, file) == one, 120)
        for leave in (beta.kill, beta.stop):  # without a word, and with one
            leave()
            nodes.wait_until(lambda: _alive(acme, file) == none, 120)
            beta.start()
            nodes.wait_until(lambda: _connected(acme), 120)
