"""Whoever takes over has the keys of the HTTP interface, and sends to the endpoints of webhooks."""

from __future__ import annotations

from pathlib import Path

import nodes
import standbys
from receivers import receiver

SECONDS = 60
HOOKS = "[webhooks]\nallow_http = true\nfirst_retry_seconds = 0.1\n"
DELTA = ("emit", "context-tokens", "1", "--subject", "s")


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
            acme.kill()
            standby.promote()
            assert [key["name"] for key in standby.json("keys")["keys"]] == ["first", "second"]
            before = len(there.named("delta.cosigned"))
            standby.tally(*DELTA, "--id", "after", "--wait")
            nodes.wait_until(lambda: len(there.named("delta.cosigned")) > before, SECONDS)
            standby.tally("keys", "remove", "first")
        finally:
            standby.kill()
        assert not there.faults
