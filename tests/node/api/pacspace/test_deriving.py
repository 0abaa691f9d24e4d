"""Deriving and comparing through the real client: which time counts, and from where on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pacspace_sdk import (
    InvalidScopeCombinationError,
    NotFoundError,
    PacSpace,
    PacSpaceError,
    ValidationError,
)
from pacspace_world import World

MONTH = f"{datetime.now(UTC):%Y-%m}"
MIXED = "INVALID_SCOPE_COMBINATION"


def _emit_at(world: World, customer: str, amount: str, at: str) -> None:
    world.acme.tally(
        "emit", "credits", amount, "--subject", f"s{customer[1:]}",
        "--id", f"{customer}-{at}", "--at", at, "--wait",
    )  # fmt: skip


def test_every_form_of_this_month_is_the_same(pac: PacSpace, customer: str) -> None:
    pac.balance.emit(customer, 1.5, "usage")
    pac.balance.emit(customer, -0.25, "refund")
    forms = [
        pac.balance.derive(customer),
        pac.balance.derive(customer, {"period": MONTH}),
        pac.balance.derive_current_month(customer),
        pac.balance.derive_for_period(customer, MONTH),
        pac.balance.derive_months_back(customer, 1),
        pac.balance.derive(customer, {"timePreset": "current_month"}),
    ]
    for derived in forms:
        assert (derived["computedBalance"], derived["deltasCount"]) == (1.25, 2)
        assert derived["period"] == MONTH
        assert derived["customerId"] == customer
        assert derived["startingBalance"] == 0
        assert derived["latestReceiptId"]
    back = pac.balance.derive_months_back(customer, 400)
    assert (back["computedBalance"], back["deltasCount"]) == (1.25, 2)


def test_a_customer_without_usage_is_zero(pac: PacSpace, customer: str) -> None:
    derived = pac.balance.derive(customer)
    assert (derived["computedBalance"], derived["deltasCount"], derived["deltas"]) == (0, 0, [])
    with pytest.raises(NotFoundError):
        pac.balance.derive("nobody")


def test_the_starting_balance_is_added_exactly(pac: PacSpace, customer: str) -> None:
    pac.balance.emit(customer, 0.2, "usage")
    for start, result in ((0.1, 0.3), (-0.2, 0), (1e300, 1e300), (100, 100.2)):
        derived = pac.balance.derive(customer, {"startingBalance": start})
        assert (derived["startingBalance"], derived["computedBalance"]) == (start, result)
    with pytest.raises(ValidationError):
        pac.balance.derive(customer, {"startingBalance": "many"})


def test_months_begin_at_midnight_in_utc(world: World, pac: PacSpace, customer: str) -> None:
    _emit_at(world, customer, "1", "2025-02-28T23:59:59.999999Z")
    _emit_at(world, customer, "2", "2025-03-01T00:00:00Z")
    _emit_at(world, customer, "4", "2025-03-31T23:59:59.999999Z")
    _emit_at(world, customer, "8", "2025-04-01T00:00:00Z")
    months = {"2025-02": 1, "2025-03": 6, "2025-04": 8, "2025-05": 0}
    for month, result in months.items():
        assert pac.balance.derive(customer, {"period": month})["computedBalance"] == result
    dates = {"startDate": "2025-02-01", "endDate": "2025-04-01T00:00:00Z"}
    assert pac.balance.derive(customer, dates)["computedBalance"] == 7
    custom = {"timePreset": "custom", "startDate": "2025-03-01", "endDate": "2025-05-01"}
    assert pac.balance.derive(customer, custom)["computedBalance"] == 14
    assert pac.balance.derive(customer)["computedBalance"] == 0


def test_dates_inside_a_period_are_counted_record_by_record(
    world: World, pac: PacSpace, customer: str
) -> None:
    for day in ("05", "10", "15"):
        _emit_at(world, customer, day.lstrip("0"), f"2025-07-{day}T12:00:00Z")
    dates = {"startDate": "2025-07-05T12:00:00+00:00", "endDate": "2025-07-15T14:00:00+02:00"}
    derived = pac.balance.derive(customer, dates)
    assert (derived["computedBalance"], derived["deltasCount"]) == (15, 2)
    assert [delta["delta"] for delta in derived["deltas"]] == [10, 5]
    reference = f"{customer}-2025-07-10T12:00:00Z"
    world.acme.tally("correct", f"credits/{reference}", "--quantity", "3", "--reason", "wrong")
    assert pac.balance.derive(customer, dates)["computedBalance"] == 8
    world.acme.tally("correct", f"credits/{reference}", "--void", "--reason", "wrong")
    voided = pac.balance.derive(customer, dates)
    assert (voided["computedBalance"], voided["deltasCount"], len(voided["deltas"])) == (5, 1, 1)
    compared = pac.balance.compare(customer, {"yours": 5, "theirs": 15}, dates)
    assert (compared["matchesYours"], compared["matchesTheirs"]) == (True, False)


@pytest.mark.parametrize(
    ("query", "code", "said"),
    [
        ({"period": MONTH, "timePreset": "current_month"}, MIXED, "cannot be combined"),
        ({"period": MONTH, "startDate": "2026-01-01"}, MIXED, "cannot be combined"),
        ({"timePreset": "custom", "startDate": "2026-01-01"}, MIXED, "together"),
        ({"timePreset": "custom"}, MIXED, "needs both"),
        ({"startDate": "2026-01-01"}, MIXED, "together"),
        (
            {"timePreset": "current_month", "startDate": "2026-01-01", "endDate": "2026-02-01"},
            MIXED, "go with timePreset custom",
        ),
        ({"startingCheckpoint": "x", "period": MONTH}, MIXED, "startingCheckpoint"),
        ({"period": "2026-13"}, None, "not a month"),
        ({"period": "2026-1"}, None, "not a month"),
        ({"period": "0000-01"}, None, "not a month"),
        ({"period": ""}, None, "not a month"),
        ({"period": "\N{ARABIC-INDIC DIGIT TWO}026-01"}, None, "not a month"),
        ({"timePreset": "last_week"}, None, "not known"),
        ({"startDate": "soon", "endDate": "later"}, None, "not an ISO 8601 date"),
        ({"startDate": "2026-02-01", "endDate": "2026-02-01"}, None, "before endDate"),
        ({"startDate": "2026-02-02", "endDate": "2026-02-01"}, None, "before endDate"),
        ({"limit": "0"}, None, "limit must be"),
        ({"limit": "1001"}, None, "limit must be"),
        ({"limit": "ten"}, None, "limit must be"),
        ({"offset": "-1"}, None, "offset must be"),
        ({"startingBalance": "NaN"}, None, "startingBalance must be"),
        ({"startingBalance": "1" * 65}, None, "too many digits"),
        ({"startingBalance": "1e999999"}, None, "too many digits"),
    ],
)  # fmt: skip
def test_scopes_are_checked_by_the_node(
    world: World, customer: str, query: dict[str, str], code: str | None, said: str
) -> None:
    with world.http() as http:
        answer = http.get(f"/api/v1/balance/derive/{customer}", params=query)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error.get("code") == code
    assert said in error["message"]


@pytest.mark.parametrize("path", ["invoice-proof/{}", "checkpoints?customerId={}"])
def test_the_client_gets_its_own_classes_of_error(pac: PacSpace, customer: str, path: str) -> None:
    mixed = {"period": MONTH, "timePreset": "current_month", "customerId": customer}
    calls: list[Any] = [
        lambda: pac.balance.invoice_proof(customer, mixed),
        lambda: pac.balance.list_checkpoints(mixed),
        lambda: pac.balance.checkpoint(customer, mixed),
        lambda: pac.balance.receipt(customer, mixed),
    ]
    for call in calls:
        with pytest.raises(InvalidScopeCombinationError) as raised:
            call()
        assert raised.value.status_code == 400
    with pytest.raises(ValueError, match="period cannot be combined"):
        pac.balance.derive(customer, mixed)  # the client itself


def test_compare_is_exact_and_a_mismatch_is_an_answer(pac: PacSpace, customer: str) -> None:
    for delta in (0.1, 0.2, 0.3):
        pac.balance.emit(customer, delta, "usage")
    answer = pac.balance.compare(customer, {"yours": 0.6, "theirs": 0.600001})
    assert (answer["matchesYours"], answer["matchesTheirs"]) == (True, False)
    assert answer["computedBalance"] == 0.6
    assert (answer["yourBalance"], answer["theirBalance"]) == (0.6, 0.600001)
    assert (answer["differenceYours"], answer["differenceTheirs"]) == (0, 0.000001)
    started = pac.balance.compare(
        customer, {"yours": 10.6, "theirs": 0}, {"startingBalance": 10, "period": MONTH}
    )
    assert started["matchesYours"]
    assert pac.balance.compare(customer, {"yours": 0, "theirs": 0}, {"period": "2025-01"})[
        "matchesTheirs"
    ]
    float_sum = pac.balance.compare(customer, {"yours": 0.1 + 0.2 + 0.3, "theirs": 1e300})
    assert not float_sum["matchesYours"]
    assert float_sum["differenceTheirs"] == 1e300


@pytest.mark.parametrize("claims", [("1", 1), (1, None), (True, 1), (1, float("nan")), ([], 1)])
def test_claims_must_be_finite_numbers(
    pac: PacSpace, customer: str, claims: tuple[Any, Any]
) -> None:
    with pytest.raises(ValidationError):
        pac.balance.compare(customer, {"yours": claims[0], "theirs": claims[1]})


def test_a_balance_can_start_at_a_checkpoint_a_receipt_or_a_root(
    pac: PacSpace, customer: str
) -> None:
    pac.balance.emit(customer, 10, "before")
    checkpoint = pac.balance.checkpoint(customer)
    receipt = pac.balance.receipt(customer)
    last = pac.balance.emit_and_wait(customer, 5, "after", {"timeout": 10_000})
    starts = [
        checkpoint["checkpointId"], receipt["receiptId"],
        checkpoint["proofRoot"], "0x" + checkpoint["proofRoot"].upper(),
    ]  # fmt: skip
    for start in starts:
        for kind in ("itemsRoot", "anchorId", None):
            options = {"startingCheckpoint": start, "startingCheckpointType": kind}
            derived = pac.balance.derive(customer, options | {"startingBalance": 10})
            assert (derived["computedBalance"], derived["deltasCount"]) == (15, 1), start
            assert [delta["reason"] for delta in derived["deltas"]] == ["after"]
            compared = pac.balance.compare(customer, {"yours": 5, "theirs": 4}, options)
            assert (compared["matchesYours"], compared["matchesTheirs"]) == (True, False)
    after = pac.balance.derive(customer, {"startingCheckpoint": last["receiptId"]})
    assert (after["computedBalance"], after["deltasCount"]) == (0, 0)
    for unknown in ("x", "0" * 64, checkpoint["checkpointId"][:-1] + "99999999", "a+b"):
        with pytest.raises(NotFoundError):
            pac.balance.derive(customer, {"startingCheckpoint": unknown})


def test_colons_and_percent_signs_in_ids(world: World, pac: PacSpace) -> None:
    made = pac.balance.emit_and_wait("cust:with:colons", 1, "usage", {"timeout": 10_000})
    assert pac.balance.derive("cust:with:colons")["deltasCount"] >= 1
    assert pac.balance.delta_status(made["recordId"])["customerId"] == "cust:with:colons"
    for id_ in ("a/b", "a%2Fb", "..", ".", "ü", "x" * 129):
        with pytest.raises(PacSpaceError) as raised:
            pac.balance.derive(id_)
        assert raised.value.status_code in (400, 404), id_
    with pytest.raises(PacSpaceError) as raised:
        pac.balance.derive("")
    assert raised.value.status_code == 400


def test_the_peer_derives_the_same(world: World, pac: PacSpace) -> None:
    pac.balance.emit_and_wait("c0", 2.5, "usage", {"timeout": 10_000})
    key = world.beta.json("keys", "add", "reader", "--scope", "read")["key"]
    theirs = PacSpace.init(key, base_url=world.beta.json("status")["http"])
    mine, other = pac.balance.derive("c0"), theirs.balance.derive("acme")
    for field in ("computedBalance", "deltasCount", "latestReceiptId"):
        assert mine[field] == other[field]
    ids = [[delta["recordId"] for delta in derived["deltas"]] for derived in (mine, other)]
    assert ids[0] == ids[1]
    # What was said of it stays with who said it: the peer has only the digest.
    assert (mine["deltas"][0]["reason"], other["deltas"][0]["reason"]) == ("usage", None)
    proofs = pac.balance.invoice_proof("c0"), theirs.balance.invoice_proof("acme")
    assert proofs[0]["proofRoot"] == proofs[1]["proofRoot"]
    assert theirs.verify(proofs[1]["proofRoot"])["verified"]
    with pytest.raises(PacSpaceError, match="lacks the scope emit"):
        theirs.balance.emit("acme", 1, "usage")
