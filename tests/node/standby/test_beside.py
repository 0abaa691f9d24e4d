"""Whoever takes over has the keys of the HTTP interface and the endpoints of webhooks, and its feed
goes on where the other node's was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nodes
import standbys
from receivers import Receiver, failing, ok, receiver

SECONDS = 60
HOOKS = "[webhooks]\nallow_http = true\nfirst_retry_seconds = 0.1\n"
DELTA = ("emit", "context-tokens", "1", "--subject", "s")


def _events(party: nodes.Party, cursor: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = party.json("events", "--after", str(cursor))["events"]
    return found


def _cosigned(party: nodes.Party, cursor: int) -> list[dict[str, Any]]:
    """What the feed tells of our own log behind a cursor."""
    events = _events(party, cursor)
    return [one for one in events if one["kind"] == "delta.cosigned" and one["data"]["ours"]]


def _ids(there: Receiver) -> set[str]:
    return {request.body["id"] for request in list(there.requests)}


def test_keys_and_endpoints_go_over_with_the_party(tmp_path: Path) -> None:
    with nodes.channel(tmp_path) as (acme, _), receiver() as there:
        acme.stop()
        acme.configure(standbys.WAIT.format(seconds=0) + HOOKS)
        acme.start()
        gone = acme.json("webhooks", "add", there.url)["id"]
        acme.tally("keys", "add", "first", "--scope", "read")
        (tmp_path / "second").mkdir()
        standby = standbys.Standby(tmp_path / "second", acme)
        standby.configure(HOOKS)
        standby.follow()
        try:
            made = acme.json("webhooks", "add", there.url, "--events", "delta.*")
            acme.tally("webhooks", "remove", gone)
            acme.tally("keys", "add", "second", "--scope", "emit")
            beside = [acme.home / name for name in ("api-keys.json", "webhooks.json")]
            copies = [standby.home / file.name for file in beside]
            nodes.wait_until(
                lambda: (
                    all(copy.exists() for copy in copies)
                    and [copy.read_bytes() for copy in copies]
                    == [file.read_bytes() for file in beside]
                ),
                SECONDS,
            )
            assert [copy.stat().st_mode & 0o777 for copy in copies] == [0o600, 0o600]
            for verb in (["webhooks", "remove", made["id"]], ["keys", "remove", "first"]):
                refused = standby.tally(*verb, check=False)
                assert refused.returncode == 2
                assert "they are mirrored" in " ".join(refused.stderr.split())
            nodes.wait_until(lambda: standby.json("standby")["in_step"], SECONDS)
            there.answer = failing(503)
            cursor = acme.json("events")["cursor"]
            acme.tally(*DELTA, "--id", "before", "--wait")
            nodes.wait_until(lambda: _cosigned(acme, cursor), SECONDS)
            nodes.wait_until(lambda: _cosigned(standby, cursor), SECONDS)
            acme.kill()
            there.requests.clear()
            there.answer = ok
            standby.promote()
            told = _cosigned(standby, cursor)
            nodes.wait_until(lambda: told[0]["id"] in _ids(there), SECONDS)
            assert [key["name"] for key in standby.json("keys")["keys"]] == ["first", "second"]
            standby.tally(*DELTA, "--id", "after", "--wait")
            nodes.wait_until(lambda: len(_cosigned(standby, cursor)) > len(told), SECONDS)
            last = _cosigned(standby, cursor)[-1]
            assert last["data"]["to"] > told[-1]["data"]["to"]
            nodes.wait_until(lambda: last["id"] in _ids(there), SECONDS)
            kinds = {event["kind"] for event in _events(standby, cursor)}
            assert not kinds & {"recovery.begun", "channel.opened", "channel.offered"}
            standby.tally("keys", "remove", "first")
            standby.stop()
            standby.tally("doctor")
        finally:
            standby.kill()
        assert not there.faults
