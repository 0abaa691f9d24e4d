"""A node without any mapping: peers are customers by their names, if one meter can be meant."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import nodes
import pytest
from pacspace_sdk import NotFoundError, PacSpace, RateLimitError, ValidationError

TERMS = """\
provider = "acme.example"
consumer = "beta.example"
[period]
calendar = "month"
time_zone = "UTC"
[meters.credits]
unit = "credit"
scale = 2
[meters.peak]
unit = "GB"
aggregate = "max"
"""


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[nodes.Party, nodes.Party]]:
    """Two nodes as they are without a line of configuration."""
    with nodes.channel(tmp_path_factory.mktemp("defaults"), TERMS) as made:
        yield made


def _client(party: nodes.Party, **options: int) -> PacSpace:
    known = {key["name"] for key in party.json("keys")["keys"]}
    name = f"key-{len(known)}"
    key = party.json("keys", "add", name, "--scope", "admin")["key"]
    return PacSpace.init(key, base_url=party.json("status")["http"], **options)


def test_the_peer_is_the_customer(parties: tuple[nodes.Party, nodes.Party]) -> None:
    acme, beta = parties
    pac, theirs = _client(acme), _client(beta)
    made = pac.balance.emit_and_wait("beta.example", 2.25, "usage", {"timeout": 30_000})
    acme.tally("emit", "credits", "1", "--subject", "project-7", "--id", "cli", "--wait")
    derived = pac.balance.derive("beta.example")
    assert (derived["computedBalance"], derived["deltasCount"]) == (3.25, 2)  # all subjects
    assert [delta["subject"] for delta in derived["deltas"]] == ["project-7", "beta.example"]
    assert [row["customerId"] for row in pac.balance.customers()["customers"]] == ["beta.example"]
    assert theirs.balance.derive("acme.example")["computedBalance"] == 3.25
    assert theirs.balance.delta_status(made["recordId"])["customerId"] == "acme.example"
    again = pac.balance.emit("beta.example", 1, "usage", {"referenceId": "shared"})
    assert again["recordId"].endswith(":credits:shared")
    checkpoint = pac.balance.checkpoint()
    assert (checkpoint["customerId"], len(checkpoint["checkpoints"])) == ("beta.example", 1)
    with pytest.raises(NotFoundError):
        pac.balance.emit("acme.example", 1, "usage")


def test_several_meters_ask_for_a_mapping(pair: tuple[nodes.Party, nodes.Party]) -> None:
    pac = _client(pair[0])
    with pytest.raises(ValidationError, match=r"context-tokens, generated-tokens\. Name one in"):
        pac.balance.emit("beta.example", 1, "usage")
    (row,) = pac.balance.customers()["customers"]
    assert row["state"] == "unmapped"
    assert "context-tokens" in row["problem"]


def test_what_is_too_often_is_said_so_that_the_client_waits(
    parties: tuple[nodes.Party, nodes.Party],
) -> None:
    acme, _ = parties
    acme.stop()
    acme.configure("[http]\nrequests_per_second = 1\n")
    acme.start()
    pac = _client(acme, max_retries=0)
    with pytest.raises(RateLimitError) as raised:
        for _ in range(50):
            pac.balance.usage()
    assert raised.value.retry_after == 1
    assert "requests a second" in raised.value.message
    patient = _client(acme)  # which tries again after a second, as it was told
    assert all(patient.balance.usage()["allowed"] for _ in range(3))
    acme.stop()
    acme.configure("")
    acme.start()


def test_a_mapping_that_overlaps_stops_the_start(parties: tuple[nodes.Party, nodes.Party]) -> None:
    acme, _ = parties
    acme.stop()
    row = '[[pacspace.customers]]\nid = "{}"\nchannel = "beta.example"\n'
    acme.configure(row.format("a") + row.format("b"))
    assert not acme.wait_ready(acme.launch())
    acme.stop()
    said = acme.log.read_text()
    assert "'a' and 'b' are the same usage" in said
    assert "Traceback" not in said
    acme.configure("")
    acme.start()


def test_verify_does_not_look_at_keys(parties: tuple[nodes.Party, nodes.Party]) -> None:
    acme, _ = parties
    pac = _client(acme)
    pac.balance.emit("beta.example", 1, "usage")
    url = pac.balance.invoice_proof("beta.example")["verificationApiUrl"]
    for headers in ({}, {"X-Api-Key": "wrong"}, {"Authorization": "Bearer wrong"}):
        answer = httpx.get(url, headers=headers)
        assert (answer.status_code, answer.json()["data"]["verified"]) == (200, True)


def test_requests_are_counted_by_what_they_ask(
    parties: tuple[nodes.Party, nodes.Party],
) -> None:
    acme, _ = parties
    pac = _client(acme)
    pac.balance.derive("beta.example")
    with pytest.raises(NotFoundError):
        pac.balance.derive("someone-else")
    key = acme.json("keys", "add", "scraper", "--scope", "read")["key"]
    url = acme.json("status")["http"]
    metrics = httpx.get(f"{url}/metrics", headers={"X-Api-Key": key}).text
    assert 'route="/api/v1/balance/derive/{id}"' in metrics
    assert "someone" not in metrics
