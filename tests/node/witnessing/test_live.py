"""Real nodes: a provider, a consumer, and a third party that witnesses the provider's log."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gotools
import httpx
import nodes
import pytest
from nacl.signing import SigningKey

from tallystick.protocol.heads import Head, head_text
from tallystick.protocol.keys import ED25519_NOTE, Vkey
from tallystick.protocol.merkle import consistency_path, leaf_hash, root_of
from tallystick.protocol.notes import Note, parse_note, sign_note
from tallystick.protocol.policy import judge, parse_policy
from tallystick.protocol.witness import AddCheckpoint, format_request

World = tuple[nodes.Party, nodes.Party, nodes.Party]


def ask_for(served: dict[str, Any], **settings: object) -> str:
    """A configuration that asks a served witness."""
    rows = "".join(f"{name} = {value}\n" for name, value in settings.items())
    return (
        f"[witnessing]\nevery_seconds = 0.2\n{rows}[[witnessing.witnesses]]\n"
        f'vkey = "{served["vkey"]}"\nurl = "{served["address"]}"\n'
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    names = ("acme.example", "beta.example", "gamma.example")
    with nodes.running(tmp_path_factory.mktemp("witnessed"), names) as (acme, beta, gamma):
        nodes.pair(acme, beta)
        nodes.found(acme, beta)
        nodes.pair(gamma, acme)
        gamma.stop()
        gamma.configure("[witness]\nserve = true\n")
        gamma.start()
        acme.stop()
        acme.configure(ask_for(gamma.json("witness")["serves"], require=1))
        acme.start()
        yield acme, beta, gamma


def emit(party: nodes.Party, id_: str) -> None:
    party.tally(
        "emit", "context-tokens", "3", "--subject", "s", "--id", id_,
        "--at", "2026-01-05T10:00:00Z", "--wait",
    )  # fmt: skip


def newest(party: nodes.Party) -> tuple[int, int]:
    """How far the witness is, and how far our log is co-signed."""
    (log,) = [
        log for log in party.json("witness")["witnesses"][0]["logs"] if log["party"] == party.name
    ]
    return log["size"], log["of"]


def test_a_proof_with_the_witnesss_line_is_believed_by_go_and_by_a_policy(
    world: World, tmp_path: Path
) -> None:
    acme, _, gamma = world
    emit(acme, "p-1")
    nodes.wait_until(lambda: len(set(newest(acme))) == 1 and newest(acme)[0] > 1)
    acme.tally("prove", "p-1", "-o", str(tmp_path))
    keys = acme.json("vkey")
    witness = gamma.json("witness")["serves"]["vkey"]
    file, leaf = tmp_path / "p-1.tlog-proof", tmp_path / "p-1.leaf"
    vkeys = ["--vkey", keys["log"], "--vkey", keys["peer_cosigner"]]
    done = acme.json("verify", str(file), *vkeys)
    assert done["ok"]
    assert done["checks"][-1]["detail"] == (
        "lines in the name of gamma.example/witness (1 on the head): not judged, as no policy was"
        " given"
    )
    head = acme.json("log", "--head")["head"]
    policy = parse_policy(acme.json("witness", "policy")["policy"].encode())
    said = judge(policy, parse_note(head.encode()))
    assert said.satisfied
    assert abs(said.held[0].at_s - time.time()) < 600
    if gotools.MISSING:
        pytest.skip(gotools.REASON)
    program = gotools.build(tmp_path)
    proof = {
        "File": _b64(file.read_bytes()),
        "Leaf": _b64(leaf.read_bytes()),
        "Log": keys["log"],
        "Cosigner": keys["peer_cosigner"],
        "Witnesses": [witness],
    }
    assert gotools.ask(program, Proofs=[proof])["Proofs"] == [""]
    other = {**proof, "Leaf": _b64(leaf.read_bytes() + b"x")}
    assert gotools.ask(program, Proofs=[other])["Proofs"] != [""]


def _b64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


def test_every_metric_of_witnesses_has_values(world: World) -> None:
    given = {}
    for party in (world[0], world[2]):
        key = party.json("keys", "add", "metrics", "--scope", "read")["key"]
        url = party.json("status")["http"] + "/metrics"
        answer = httpx.get(url, headers={"Authorization": f"Bearer {key}"})
        given[party.name] = answer.text
    acme, gamma = given["acme.example"], given["gamma.example"]
    named = '{witness="gamma.example/witness"}'
    for line in (
        f"tallystick_witness_up{named} 1.0",
        f"tallystick_witness_waiting{named} 0.0",
        f"tallystick_witness_refusing{named} 0.0",
        'tallystick_witness_answers_total{answer="cosigned",witness="gamma.example/witness"}',
        "tallystick_witness_breaches 0.0",
    ):
        assert line in acme
    assert "tallystick_witnessed_logs 1.0" in gamma
    assert 'tallystick_witnessing_answers_total{status="200"}' in gamma


def test_a_required_witness_that_is_away_holds_up_checkpoints_and_nothing_else(
    world: World,
) -> None:
    acme, beta, gamma = world
    served = gamma.json("witness")["serves"]
    gamma.kill()
    acme.stop()
    acme.configure(ask_for(served, require=1, wait_seconds=0.5, timeout_seconds=1))
    acme.start()
    emit(acme, "away-1")  # waits for the peer, not for the witness
    refused = acme.tally("checkpoint", "2026-01-05T10", "--force", check=False)
    assert refused.returncode == 3
    assert "0 of 1 witnesses that are required" in " ".join(refused.stderr.split())
    refused = beta.tally("checkpoint", "2026-01-05T10", "--force", check=False)
    assert refused.returncode != 0
    assert "0 of 1 witnesses that are required" in " ".join(refused.stderr.split())
    shown = acme.tally("witness").stdout
    assert "cannot be reached" in " ".join(shown.split())
    metrics = acme.json("status")["channels"][0]["witnesses"]
    assert metrics[0]["size"] < metrics[0]["of"]
    gamma.start()
    closed = beta.json("checkpoint", "2026-01-05T10", "--force")
    assert closed["signed_by"] == ["acme.example", "beta.example"]
    emit(acme, "away-2")
    nodes.wait_until(lambda: len(set(newest(acme))) == 1)


def test_a_witness_that_is_killed_never_forgets_what_it_answered(tmp_path: Path) -> None:
    """Kills at random moments under load: what was answered is there, and times and sizes grow."""
    key = SigningKey(b"k" * 32)
    origin = "log.example/kills"
    vkey = Vkey(origin, ED25519_NOTE, bytes(key.verify_key))
    leaves = [leaf_hash(bytes([at % 251, at // 251])) for at in range(4000)]
    dice = random.Random(8)

    def body(old: int, size: int) -> bytes:
        text = head_text(Head(origin, size, root_of(leaves[:size])))
        path = consistency_path(old, size, lambda a, b: root_of(leaves[a:b]))
        return format_request(
            AddCheckpoint(old, tuple(path), Note(text, (sign_note(text, origin, key),)))
        )

    with nodes.running(tmp_path, ("gamma.example",)) as (gamma,):
        gamma.stop()
        gamma.configure(
            "[witness]\nserve = true\nheads_per_minute = 100000\nrequests_per_second = 10000\n"
            f'[[witness.logs]]\nvkey = "{vkey}"\n'
        )
        answered = 0
        for _ in range(4):
            gamma.start()
            url = gamma.json("witness")["serves"]["address"] + "/add-checkpoint"
            with httpx.Client(verify=False) as client:
                seen = client.post(url, content=body(0, 1))
                size = 1 if seen.status_code == 200 else int(seen.content)
                # It may have stored one that it could not answer any more.
                assert answered <= size <= answered + 1 or not answered
                kill_after = size + dice.randint(5, 60)
                at = size
                while at < kill_after:
                    answer = client.post(url, content=body(at, at + 1))
                    assert answer.status_code == 200
                    at += 1
                    answered = at
                process = gamma.process
                assert process is not None
                process.kill()  # while the next one is on its way
                try:
                    if client.post(url, content=body(at, at + 1)).status_code == 200:
                        answered = at + 1
                except httpx.HTTPError:
                    pass
            gamma.kill()
