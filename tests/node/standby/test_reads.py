"""A standby answers queries over HTTP and at the command line, and records nothing."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import nodes
import standbys


def _ask(address: str, path: str, key: str = "", body: bytes | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(address + path, body)
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_a_standby_reads_and_does_nothing_else(tmp_path: Path) -> None:
    with nodes.channel(tmp_path) as (acme, beta):
        acme.stop()
        acme.configure(standbys.WAIT.format(seconds=0))
        acme.start()
        (tmp_path / "second").mkdir()
        standby = standbys.Standby(tmp_path / "second", acme)
        standby.follow()
        nodes.wait_until(lambda: standby.json("standby")["in_step"])
        deltas = ["emit", "context-tokens", "7", "--subject", "s", "--at", "2026-01-05T00:00:00Z"]
        acme.tally(*deltas, "--id", "one", "--wait")
        acme.tally("checkpoint", "2026-01-05T00", "--force")
        key = acme.json("keys", "add", "reader", "--scope", "read")["key"]
        http = standby.json("status")["http"]
        nodes.wait_until(lambda: _ask(http, "/v1/status", key)[0] == 200)
        channel = acme.json("status")["channels"][0]["channel"]

        def get(path: str) -> Any:
            status, body = _ask(http, path, key)
            assert status == 200, (path, body)
            return json.loads(body) if body[:1] in (b"{", b"[") else body

        status = get("/v1/status")
        assert status["standby"]["role"] == "standby" and status["standby"]["in_step"]
        assert status["channels"][0]["channel"] == channel
        assert get("/v1/peers")["peers"][0]["name"] == beta.name
        assert get("/v1/channels")["channels"][0]["state"] == "open"
        here = f"/v1/channels/{channel}"
        assert len(get(f"{here}/deltas/one")["deltas"]) == 1
        assert get(f"{here}/balance")["digest"] == acme.json("derive")["digest"]
        assert len(get(f"{here}/checkpoints")["checkpoints"]) == 1
        assert get(f"{here}/checkpoints/2026-01-05T00")
        assert get(f"{here}/bundles/2026-01-05T00")[:2] == b"PK"
        assert get("/v1/disputes") is not None
        assert get("/healthz")["healthy"]
        acme.tally(*deltas, "--id", "two")
        nodes.wait_until(lambda: len(get(f"{here}/deltas/two")["deltas"]) == 1)

        assert _ask(http, f"{here}/deltas", key, b"{}")[0] == 409
        assert _ask(http, "/v1/status")[0] == 401
        refused = standby.tally("keys", "add", "own", "--scope", "read", check=False)
        assert refused.returncode == 2 and "they are mirrored" in refused.stderr
        for verb in ([*deltas, "--id", "three"], ["invite"], ["checkpoint", "2026-01-05T01"]):
            done = standby.tally(*verb, check=False)
            assert done.returncode == 2
            assert "which only reads" in " ".join(done.stderr.split())
        assert standbys.in_step(acme, standby)
        acme.kill()
        nodes.wait_until(lambda: not standby.json("standby")["connected"])
        assert _ask(http, "/healthz")[0] == 503
        assert len(get(f"{here}/deltas/two")["deltas"]) == 1
        assert standby.tally("health", check=False).returncode == 1
        standby.kill()
