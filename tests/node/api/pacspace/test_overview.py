"""Receipts, invoice proofs, customers, usage and gaps, through the real client."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from pacspace_sdk import NotFoundError, PacSpace, ValidationError
from pacspace_world import World

from tallystick.protocol.heads import parse_head_note
from tallystick.protocol.keys import parse_vkey

MONTH = f"{datetime.now(UTC):%Y-%m}"


def test_a_receipt_is_of_all_time_and_proves_itself(
    world: World, pac: PacSpace, customer: str
) -> None:
    world.acme.tally(
        "emit", "credits", "4", "--subject", f"s{customer[1:]}",
        "--id", f"old-{customer}", "--at", "2025-05-05T00:00:00Z",
    )  # fmt: skip
    pac.balance.emit(customer, 0.5, "usage")
    receipt = pac.balance.receipt(customer)
    assert (receipt["customerId"], receipt["deltasCount"]) == (customer, 2)
    assert receipt["finalBalance"] == 4.5
    assert [delta["delta"] for delta in receipt["deltas"]] == [0.5, 4]
    assert receipt["generatedAt"]
    summaries = receipt["windowSummaries"]
    assert [(s["period"], s["netChange"], s["deltasCount"]) for s in summaries] == [
        ("2025-05", 4, 1), (MONTH, 0.5, 1),
    ]  # fmt: skip
    # The head in it is checked with the parties' own keys, without this node.
    keys = world.acme.json("vkey")
    note = receipt["verification"]["head"].encode()
    head = parse_head_note(note, parse_vkey(keys["log"]), parse_vkey(keys["peer_cosigner"]))
    assert head.head.root.hex() == receipt["verification"]["proofRoot"]
    with pytest.raises(NotFoundError):
        pac.balance.receipt("nobody")


def test_an_invoice_proof_can_be_verified_by_anybody(
    world: World, pac: PacSpace, customer: str
) -> None:
    pac.balance.emit(customer, 7.25, "usage")
    proof = pac.balance.invoice_proof(customer)
    again = pac.balance.invoice_proof(customer, {"period": MONTH})
    scoped = pac.balance.receipt(customer, {"timePreset": "current_month"})
    assert proof["proofRoot"] == again["proofRoot"] == scoped["proofRoot"]
    assert (proof["customerId"], proof["period"], proof["final"]) == (customer, MONTH, False)
    assert (proof["computedBalance"], proof["deltasCount"]) == (7.25, 1)
    for field in ("accessHint", "customerLinkUrl", "customerLinkHost"):
        assert proof[field] is None
    root = proof["proofRoot"]
    assert proof["verifyUrl"].startswith(f"{world.url}/verify")
    page = httpx.get(proof["verifyUrl"])
    assert (page.status_code, page.headers["content-type"].partition(";")[0]) == (200, "text/html")
    public = httpx.get(proof["verificationApiUrl"]).json()
    assert public["data"]["verified"]
    stranger = PacSpace.init("no key at all", base_url=world.url)
    for source in (None, "db", "chain", "both"):
        found = stranger.verify(root, source)
        assert (found["verified"], found["proofRoot"]) == (True, root)
        assert found["summary"]["netChange"] == 7.25
        assert found["summary"]["recordCount"] == 1
        assert found["recordedAt"]
    pac.balance.emit_and_wait(customer, 1, "usage", {"timeout": 10_000})
    assert pac.balance.invoice_proof(customer)["proofRoot"] != root
    assert stranger.verify(root)["summary"]["netChange"] == 7.25
    with pytest.raises(NotFoundError):
        pac.balance.invoice_proof("nobody")


def test_a_root_that_customers_share_tells_none_of_another(
    world: World, pac: PacSpace, customer: str
) -> None:
    pac.balance.emit(customer, 7.25, "usage")
    pac.balance.emit_and_wait("c119", 3, "usage", {"timeout": 10_000})
    stranger = PacSpace.init("no key at all", base_url=world.url)
    roots = [pac.balance.invoice_proof(one)["proofRoot"] for one in (customer, "c119")]
    assert roots[0] == roots[1]
    found = stranger.verify(roots[0])
    assert found["verified"]
    summary = found["summary"]
    assert (summary["netChange"], summary["recordCount"], summary["period"]) == (None, None, None)


@pytest.mark.parametrize("root", ["0" * 64, "0x" + "f" * 64, "x", "a/b", "é", "0" * 63])
def test_an_unknown_root_is_not_verified(pac: PacSpace, root: str) -> None:
    found = pac.verify(root)
    assert (found["verified"], found["proofRoot"]) == (False, root)
    assert found["message"]


def test_the_client_checks_the_source_itself(pac: PacSpace) -> None:
    with pytest.raises(ValueError, match="Invalid verify source"):
        pac.verify("0" * 64, "moon")


def test_customers_are_listed_in_pages(pac: PacSpace) -> None:
    found = pac.balance.customers({"limit": 5, "page": 2})
    assert len(found["customers"]) == 5
    assert (found["pagination"]["page"], found["pagination"]["limit"]) == (2, 5)
    assert found["pagination"]["total"] == 127
    searched = pac.balance.customers({"search": "WITH:COL"})
    assert [row["customerId"] for row in searched["customers"]] == ["cust:with:colons"]
    assert searched["customers"][0]["unit"] == "credit"
    states = {row["customerId"]: row["state"] for row in pac.balance.customers(
        {"search": "no-such"})["customers"]}  # fmt: skip
    assert states == {"no-such-channel": "unmapped", "no-such-meter": "unmapped"}
    assert pac.balance.customers({"search": "nobody at all"})["customers"] == []
    for options in ({"limit": 0}, {"limit": 1001}, {"page": 0}, {"page": "x"}):
        with pytest.raises(ValidationError):
            pac.balance.customers(options)


def test_one_customer_with_its_activity(world: World, pac: PacSpace, customer: str) -> None:
    world.acme.tally(
        "emit", "credits", "4", "--subject", f"s{customer[1:]}",
        "--id", f"old-{customer}", "--at", "2025-06-05T00:00:00Z",
    )  # fmt: skip
    for delta in (1, 2, 3):
        pac.balance.emit(customer, delta, "usage", {"metadata": {"status": "kept"}})
    found = pac.balance.customer(customer, {"deltaLimit": 2, "deltaPage": 2})
    assert (found["customerId"], found["computedBalance"]) == (customer, 10)
    assert found["totalDeltas"] == 4
    activity = found["recentActivity"]
    assert activity["pagination"]["total"] == 4
    assert [item["delta"] for item in activity["items"]] == [1, 4]
    month = pac.balance.customer(customer, {"period": "2025-06"})
    assert (month["computedBalance"], month["periodBalance"]) == (10, 4)
    assert [item["delta"] for item in month["recentActivity"]["items"]] == [4]
    assert month["recentActivity"]["pagination"]["total"] == 1
    with pytest.raises(NotFoundError):
        pac.balance.customer("nobody")
    with pytest.raises(ValidationError):
        pac.balance.customer(customer, {"period": "June"})


def test_there_is_always_as_much_left(pac: PacSpace) -> None:
    usage = pac.balance.usage()
    assert usage["allowed"] is True
    assert usage["remaining"] > 10**12


def test_a_log_has_no_gaps(pac: PacSpace, customer: str) -> None:
    made = pac.balance.emit(customer, 1, "usage")
    found = pac.balance.gaps(customer)
    assert (found["customerId"], found["gaps"], found["complete"]) == (customer, [], True)
    last = int(made["sequenceNumber"])
    options: dict[str, Any] = {"fromSequence": last, "toSequence": last + 50, "limit": 5}
    assert pac.balance.gaps(customer, options)["gaps"] == []
    with pytest.raises(ValidationError):
        pac.balance.gaps(customer, {"fromSequence": 5, "toSequence": 4})
    with pytest.raises(ValidationError):
        pac.balance.gaps(customer, {"fromSequence": "first"})
    with pytest.raises(NotFoundError):
        pac.balance.gaps("nobody")


def test_a_running_checkpoint_closes_nothing(world: World, pac: PacSpace, customer: str) -> None:
    pac.balance.emit(customer, 5, "usage")
    options = {"fingerprints": [{"alg": "sha-256", "digest": "0" * 64}], "mode": "standard"}
    made = pac.balance.checkpoint(customer, options)
    assert (made["status"], made["final"], made["period"]) == ("VERIFIED", False, MONTH)
    assert (made["computedBalance"], made["deltasCount"]) == (5, 1)
    assert made["fingerprints"] == options["fingerprints"]
    assert pac.verify(made["proofRoot"])["verified"]
    again = pac.balance.checkpoint(customer, options)
    assert (again["checkpointId"], again["createdAt"]) == (made["checkpointId"], made["createdAt"])
    listed = pac.balance.list_checkpoints({"customerId": customer})
    assert listed["checkpoints"] == [made]
    assert listed["pagination"] == {"total": 1, "limit": 100, "offset": 0}
    assert pac.balance.list_checkpoints({"customerId": customer, "offset": 1})["checkpoints"] == []
    for scope, count in ((MONTH, 1), ("2025-01", 0)):
        found = pac.balance.list_checkpoints({"customerId": customer, "period": scope})
        assert len(found["checkpoints"]) == count
    assert world.acme.json("status")["channels"][0]["last_checkpoint"] is None
    with pytest.raises(NotFoundError):
        pac.balance.checkpoint("nobody")
    with pytest.raises(NotFoundError):
        pac.balance.list_checkpoints({"customerId": "nobody"})
    with pytest.raises(ValidationError):
        pac.balance.checkpoint(customer, {"fingerprints": ["x" * 17_000]})
    with pytest.raises(ValidationError):
        pac.balance.checkpoint(customer, {"period": "2026-99"})
