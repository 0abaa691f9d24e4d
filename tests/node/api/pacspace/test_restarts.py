"""Nodes that go away and come back: nothing is lost, and nothing is counted twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pacspace_world
import pytest
from pacspace_sdk import PacSpace, ServiceUnavailableError, TimeoutError
from pacspace_sdk.client import TransportResponse, default_transport
from pacspace_world import World


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Nodes that these tests stop."""
    with pacspace_world.made(tmp_path_factory.mktemp("restarts")) as made:
        yield made


@pytest.fixture(autouse=True)
def both_run(alone: World) -> Iterator[None]:
    """Whatever became of a test, the next one finds both nodes running."""
    yield
    for party in (alone.acme, alone.beta):
        if party.process is None:
            party.start()


def test_what_waits_for_the_peer_is_queued_and_survives_a_kill(alone: World) -> None:
    pac = alone.client()
    pac.balance.emit_and_wait("c1", 1, "before", {"timeout": 20_000})
    alone.beta.stop()
    options = {"referenceId": "waits", "metadata": {"note": "kept"}, "idempotencyKey": "waits"}
    made = pac.balance.emit("c1", 2, "while the peer is away", options)
    assert (made["status"], made["receiptId"]) == ("QUEUED", None)
    with pytest.raises(TimeoutError):
        pac.balance.wait_for_verified(made["recordId"], {"timeout": 300, "pollInterval": 50})
    # What the peer has not signed counts nowhere yet.
    assert pac.balance.derive("c1")["computedBalance"] == 1
    assert pac.balance.checkpoint("c1")["computedBalance"] == 1
    assert pac.balance.receipt("c1")["finalBalance"] == 1

    alone.acme.kill()
    alone.acme.start()
    shown = pac.balance.delta_status(made["recordId"])
    said = {key: value for key, value in made.items() if key != "idempotent"}
    assert {key: shown[key] for key in said} == said
    assert pac.balance.emit("c1", 2, "while the peer is away", options) == made
    again = pac.balance.emit("c1", 2, "while the peer is away", {"referenceId": "waits"})
    assert (again["recordId"], again["idempotent"]) == (made["recordId"], True)

    alone.beta.start()
    done = pac.balance.wait_for_verified(made["recordId"], {"timeout": 30_000, "pollInterval": 50})
    assert (done["status"], done["reason"]) == ("VERIFIED", "while the peer is away")
    assert done["metadata"] == {"note": "kept"}
    assert pac.balance.derive("c1")["computedBalance"] == 3
    proof = pac.balance.checkpoint("c1")
    alone.acme.kill()
    alone.acme.start()
    assert pac.verify(proof["proofRoot"])["verified"]
    assert proof in pac.balance.list_checkpoints({"customerId": "c1"})["checkpoints"]
    after = pac.balance.derive("c1", {"startingCheckpoint": proof["checkpointId"]})
    assert after["deltasCount"] == 0
    alone.acme.stop()
    assert alone.acme.tally("doctor", check=False).returncode == 0
    alone.acme.start()


class _Losing:
    """A way to the node on which the first answer to every POST is lost."""

    def __init__(self) -> None:
        self.bodies: list[str | None] = []

    def __call__(
        self, method: str, url: str, headers: dict[str, str], body: str | None, timeout: int
    ) -> TransportResponse:
        answer = default_transport(method, url, headers, body, timeout)
        if method == "POST":
            self.bodies.append(body)
            if len(self.bodies) % 2:
                raise ConnectionResetError("the answer was lost")
        return answer


def test_a_lost_answer_is_asked_for_again_and_counted_once(alone: World) -> None:
    losing = _Losing()
    pac = alone.client(transport=losing)
    made = pac.balance.emit("c2", 5, "usage", {"referenceId": "lost"})
    assert losing.bodies[0] == losing.bodies[1]  # the client sends the very same again
    assert made["idempotent"] is True
    pac.balance.emit("c2", 6, "usage", {"idempotencyKey": "lost"})
    derived = pac.balance.derive("c2")
    assert (derived["computedBalance"], derived["deltasCount"]) == (11, 2)


def test_a_node_that_is_killed_while_it_is_asked_loses_nothing(alone: World) -> None:
    pac = alone.client(max_retries=0, timeout=5_000)
    acknowledged: list[tuple[str, int]] = []
    for start in range(3):
        for number in range(20):
            reference = f"k-{start}-{number}"
            made = pac.balance.emit("c3", 1, "usage", {"referenceId": reference})
            acknowledged.append((made["recordId"], number))
        alone.acme.kill()
        alone.acme.start()
    for record_id, _ in acknowledged:
        assert pac.balance.delta_status(record_id)["reason"] == "usage"
    done = pac.balance.wait_for_verified(
        acknowledged[-1][0], {"timeout": 30_000, "pollInterval": 50}
    )
    assert done["status"] == "VERIFIED"
    assert pac.balance.derive("c3")["computedBalance"] == 60


def test_without_the_peer_no_period_is_closed(alone: World) -> None:
    alone.acme.tally(
        "emit", "credits", "1", "--subject", "s4", "--id", "old",
        "--at", "2025-06-07T00:00:00Z", "--wait",
    )  # fmt: skip
    alone.beta.stop()
    pac = alone.client(max_retries=0)
    with pytest.raises(ServiceUnavailableError) as raised:
        pac.balance.checkpoint("c4", {"period": "2025-06"})
    assert raised.value.retry_after == 1
    assert "not connected" in raised.value.message
    alone.beta.start()


def test_a_peer_that_stops_answering_leaves_a_closing_queued(alone: World) -> None:
    pac = alone.client(max_retries=0)
    pac.balance.emit_and_wait("c4", 1, "usage", {"timeout": 30_000, "pollInterval": 50})
    assert alone.beta.process is not None
    pid = alone.beta.process.pid
    os.kill(pid, 19)  # SIGSTOP
    try:
        made = pac.balance.checkpoint("c4", {"period": "2025-06", "fingerprints": {"f": 1}})
        assert (made["status"], made["proofRoot"]) == ("QUEUED", None)
        listed = pac.balance.list_checkpoints({"customerId": "c4"})["checkpoints"]
        assert [(one["status"], one["fingerprints"]) for one in listed] == [("QUEUED", {"f": 1})]
    finally:
        os.kill(pid, 18)  # SIGCONT

    def closed() -> bool:
        found: Any = pac.balance.list_checkpoints({"customerId": "c4"})["checkpoints"]
        return [one["status"] for one in found] == ["VERIFIED"] and found[0]["final"]

    pacspace_world.nodes.wait_until(closed)
    again = pac.balance.checkpoint("c4", {"period": "2025-06"})
    assert again["checkpointId"] == made["checkpointId"]
    assert (again["computedBalance"], again["deltasCount"]) == (1, 1)


def test_the_api_key_can_be_taken_away_while_the_node_runs(alone: World) -> None:
    key = alone.acme.json("keys", "add", "passing", "--scope", "read")["key"]
    pac = PacSpace.init(key, base_url=alone.url)
    assert pac.balance.usage()["allowed"]
    alone.acme.tally("keys", "remove", "passing")
    with pytest.raises(Exception, match="needs a key"):
        pac.balance.usage()
