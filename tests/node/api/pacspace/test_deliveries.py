"""Webhooks as the real client takes them: signed, listed, sent again, with its own ids."""

from __future__ import annotations

from collections.abc import Iterator

import nodes
import pytest
import receivers
from pacspace_sdk import NotFoundError, PacSpace, ValidationError, WebhookVerificationError
from pacspace_world import World


@pytest.fixture
def there() -> Iterator[receivers.Receiver]:
    """A receiver that takes everything."""
    receiver = receivers.Receiver()
    receiver.start()
    yield receiver
    receiver.stop()


def test_what_is_emitted_arrives_signed_and_can_be_sent_again(
    world: World, pac: PacSpace, customer: str, there: receivers.Receiver
) -> None:
    kinds = "delta.verified,record.committed"
    made = world.acme.json("webhooks", "add", there.url, "--events", kinds)
    options = {"referenceId": f"{customer}-hook"}
    emitted = pac.balance.emit(customer, 0.1, "for the hook", options)

    def mine() -> list[receivers.Request]:
        return [
            one
            for one in list(there.requests)
            if one.body["event"] == "delta.verified"
            and one.body["data"]["recordId"] == emitted["recordId"]
        ]

    nodes.wait_until(mine)
    came = mine()[0]
    client = PacSpace.init("k", base_url=world.url, webhook_secret=made["secret"])
    assert client.webhooks is not None
    event = client.webhooks.verify_from_headers(came.headers, came.raw)
    signature = came.headers["x-pacspace-signature"]
    timestamp = came.headers["x-pacspace-timestamp"]
    assert client.webhooks.verify(signature, timestamp, came.raw) == event
    with pytest.raises(WebhookVerificationError):
        client.webhooks.verify(signature, timestamp, came.raw + " ")
    data = event["data"]
    assert (data["customerId"], data["delta"]) == (customer, 0.1)
    assert data["referenceId"] == options["referenceId"]
    shown = pac.balance.delta_status(data["recordId"])
    for field in ("receiptId", "sequenceNumber"):
        assert shown[field] == data[field]
    after = pac.balance.derive(customer, {"startingCheckpoint": data["receiptId"]})
    assert after["deltasCount"] == 0

    # The other kind of event has the same ids.
    committed = [
        one["data"]
        for one in there.named("record.committed")
        if data["recordId"] in one["data"]["records"]
    ]
    since = {"startingCheckpoint": committed[0]["receiptId"]}
    assert pac.balance.derive(customer, since)["deltasCount"] == 0

    listed = pac.balance.list_webhook_deliveries({"status": "delivered", "limit": 1000})
    (row,) = [one for one in listed["deliveries"] if one["id"] == event["id"]]
    assert (row["event"], row["deliveryState"]) == ("delta.verified", "delivered")
    assert "status" not in row
    again = pac.balance.retry_webhook(event["id"])
    assert (again["id"], again["deliveryState"]) == (event["id"], "replaying")
    nodes.wait_until(lambda: len(mine()) == 2)
    assert mine()[1].body == event
    world.acme.tally("webhooks", "remove", made["id"])


def test_a_draw_down_is_told_with_its_sign(
    world: World, pac: PacSpace, there: receivers.Receiver
) -> None:
    made = world.acme.json("webhooks", "add", there.url, "--events", "delta.verified")
    emitted = pac.balance.emit("drawn-down", -7, "usage")
    world.acme.tally(
        "emit", "tokens", "3", "--subject", "d", "--id", "cli-drawn", "--wait",
    )  # fmt: skip
    nodes.wait_until(lambda: len(there.named("delta.verified")) >= 2)
    told = {one["data"]["recordId"]: one["data"] for one in there.named("delta.verified")}
    assert told[emitted["recordId"]]["delta"] == -7
    (other,) = [data for data in told.values() if data["referenceId"] == "cli-drawn"]
    assert (other["customerId"], other["delta"]) == ("drawn-down", -3)
    world.acme.tally("webhooks", "remove", made["id"])


def test_deliveries_that_are_not_there(pac: PacSpace) -> None:
    for status in (None, "DEAD", "failed", "pending"):
        found = pac.balance.list_webhook_deliveries({"status": status, "limit": 5, "offset": 0})
        assert found["pagination"]["limit"] == 5
    far = pac.balance.list_webhook_deliveries({"offset": 10**9})
    assert far["deliveries"] == []
    with pytest.raises(ValidationError):
        pac.balance.list_webhook_deliveries({"status": "lost"})
    for name in ("evt/1", "evt_" + "0" * 32, "99999999"):
        with pytest.raises(NotFoundError):
            pac.balance.retry_webhook(name)
