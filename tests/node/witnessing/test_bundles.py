"""Bundles of real nodes with the lines of a witness that knows both logs."""

from __future__ import annotations

from pathlib import Path

import nodes


def test_a_bundle_with_the_witnesss_lines_satisfies_a_policy_and_a_plain_one_does_not(
    tmp_path: Path,
) -> None:
    names = ("acme.example", "beta.example", "gamma.example")
    with nodes.running(tmp_path, names) as (acme, beta, gamma):
        nodes.pair(acme, beta)
        nodes.found(acme, beta)
        for party in (acme, beta):
            nodes.pair(gamma, party)
        gamma.stop()
        gamma.configure("[witness]\nserve = true\n")
        gamma.start()
        served = gamma.json("witness")["serves"]
        acme.stop()
        acme.configure(
            "[witnessing]\nrequire = 1\nevery_seconds = 0.2\n[[witnessing.witnesses]]\n"
            f'vkey = "{served["vkey"]}"\nurl = "{served["address"]}"\n'
        )
        acme.start()
        _check(acme, beta, tmp_path)


def _check(acme: nodes.Party, beta: nodes.Party, tmp_path: Path) -> None:
    acme.tally(
        "emit", "context-tokens", "3", "--subject", "s", "--id", "b-1",
        "--at", "2026-01-05T10:00:00Z", "--wait",
    )  # fmt: skip
    acme.json("checkpoint", "2026-01-05T10", "--force")
    policy = tmp_path / "policy.txt"
    policy.write_text(acme.json("witness", "policy")["policy"])
    seen, plain, theirs = (tmp_path / f"{name}.tally" for name in ("seen", "plain", "theirs"))
    nodes.wait_until(
        lambda: acme.json("bundle", "2026-01-05T10", "-o", str(seen))["witness_lines"] == 2
    )
    said = acme.json("verify", str(seen), "--policy", str(policy))
    assert said["ok"]
    assert said["checks"][-1]["name"] == "witnesses"
    assert "on the consumer's head gamma.example/witness (" in said["checks"][-1]["detail"]
    acme.tally("bundle", "2026-01-05T10", "-o", str(plain), "--plain")
    beta.tally("bundle", "2026-01-05T10", "-o", str(theirs))
    assert plain.read_bytes() == theirs.read_bytes() != seen.read_bytes()
    done = acme.tally("verify", str(plain), "--policy", str(policy), check=False)
    assert done.returncode == 1
    assert "no witness's line holds" in " ".join(done.stdout.split())
