"""Emitting through the real client: recorded once, exactly, and shown as it was said."""

from __future__ import annotations

import base64
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from hashlib import sha256
from typing import Any

import pytest
from pacspace_sdk import NotFoundError, PacSpace, PacSpaceError, TimeoutError, ValidationError
from pacspace_world import World

_numbers = itertools.count()


def _reference() -> str:
    return f"emit-{next(_numbers)}"


def _balance(pac: PacSpace, customer: str) -> tuple[float, int]:
    derived = pac.balance.derive(customer)
    return derived["computedBalance"], derived["deltasCount"]


def test_references_of_two_customers_are_never_one(pac: PacSpace) -> None:
    one = pac.balance.emit("tokens", 3, "usage", {"referenceId": "n:1"})  # of the subject t
    other = pac.balance.emit("nested", 4, "usage", {"referenceId": "1"})  # of the subject t:n
    assert one["recordId"] != other["recordId"]
    again = pac.balance.emit("nested", 4, "usage", {"referenceId": "1"})
    assert (again["recordId"], again["idempotent"]) == (other["recordId"], True)


def test_who_only_emits_sees_nothing_that_the_peer_recorded(world: World) -> None:
    options = ("--subject", "x", "--id", "peers", "--wait")
    world.beta.tally("emit", "requests", "2", *options)
    world.client().balance.derive("theirs")
    channel = world.acme.json("status")["channels"][0]["channel"][:16]
    path = f"/api/v1/balance/delta/{channel}.c%3Arequests%3Apeers"
    found = {}
    for scope in ("read", "emit"):
        with world.http(scope) as client:
            found[scope] = client.get(path).status_code
    assert found == {"read": 200, "emit": 404}


@pytest.mark.parametrize("inside", [b'"\xff"', b"1e999", b'{"\xff": 1}'])
def test_metadata_that_no_client_could_read_again_is_refused(
    world: World, customer: str, inside: bytes
) -> None:
    with world.http() as client:
        body = b'{"customerId": "%b", "delta": 1, "reason": "x", "metadata": {"a": %b}}'
        made = body % (customer.encode(), inside)
        answer = client.post("/api/v1/balance/delta", content=made)
        assert (answer.status_code, "metadata" in answer.text) == (400, True)
        extras = b'{"customerId": "%b", "fingerprints": {"a": %b}}' % (customer.encode(), inside)
        answer = client.post("/api/v1/balance/checkpoint", content=extras)
        assert (answer.status_code, "fingerprints" in answer.text) == (400, True)


def test_an_emit_is_answered_and_found_again(pac: PacSpace, customer: str) -> None:
    said = {"model": "m-1", "tags": ["a", "ü"], "cost": 1.25, "nothing": None}
    options = {"referenceId": _reference(), "metadata": said}
    made = pac.balance.emit(customer, 12.5, "usage of \N{SNOWMAN}", options)
    assert made["status"] in ("QUEUED", "VERIFIED")
    assert made["idempotent"] is False
    assert made["sequenceNumber"].isdigit()
    done = pac.balance.wait_for_verified(made["recordId"], {"timeout": 10_000})
    assert done["status"] == "VERIFIED"
    assert done["receiptId"]
    for shown in (made, done, pac.balance.get_record_status(made["recordId"])):
        assert shown["recordId"] == made["recordId"]
        assert (shown["customerId"], shown["delta"]) == (customer, 12.5)
        assert shown["reason"] == "usage of \N{SNOWMAN}"
        assert shown["referenceId"] == options["referenceId"]
        assert shown["metadata"] == said
        assert shown["sequenceNumber"] == made["sequenceNumber"]
        assert shown["createdAt"] == made["createdAt"]


def test_what_was_said_can_be_checked_against_the_record(
    world: World, pac: PacSpace, customer: str
) -> None:
    options = {"referenceId": f"{customer}-sealed", "metadata": {"secret": "of this node"}}
    made = pac.balance.emit_and_wait(customer, 1, "a reason", options | {"timeout": 10_000})
    sealed = base64.b64decode(made["sealed"]["bytes"])
    said = json.loads(sealed[16:])
    assert (said["reason"], said["metadata"]) == ("a reason", options["metadata"])
    # The digest is in the record, whose proof both signed; what it is of is on this disk alone.
    index = int(made["sequenceNumber"])
    folder = world.acme.home.parent / f"proof-{customer}"
    world.acme.tally("prove", "--record", str(index), "-o", str(folder))
    (leaf,) = (file.read_bytes() for file in folder.glob("*.leaf"))
    assert sha256(sealed).digest() in leaf
    assert b"a reason" not in leaf
    assert made["sealed"]["sha256"] == sha256(sealed).hexdigest()
    shown = world.beta.json("log", "--theirs", "--from", str(index), "--count", "1")
    assert "reason" not in json.dumps(shown)


def test_emit_and_wait_returns_what_is_co_signed(pac: PacSpace, customer: str) -> None:
    done = pac.balance.emit_and_wait(customer, 3, "usage", {"timeout": 10_000, "pollInterval": 50})
    assert (done["status"], done["delta"], done["referenceId"]) == ("VERIFIED", 3, None)
    assert _balance(pac, customer) == (3, 1)


def test_without_a_reference_every_emit_is_a_new_one(pac: PacSpace, customer: str) -> None:
    ids = {pac.balance.emit(customer, 1, "usage")["recordId"] for _ in range(3)}
    assert len(ids) == 3
    assert _balance(pac, customer) == (3, 3)


def test_the_same_again_is_the_same_record(pac: PacSpace, customer: str) -> None:
    options = {"referenceId": _reference(), "metadata": {"try": 1}}
    first = pac.balance.emit(customer, 5, "usage", options)
    again = pac.balance.emit(customer, 5.0, "usage", options | {"metadata": {"try": 2}})
    assert again["recordId"] == first["recordId"]
    assert (first["idempotent"], again["idempotent"]) == (False, True)
    assert again["metadata"] == {"try": 1}
    assert _balance(pac, customer) == (5, 1)


@pytest.mark.parametrize(("delta", "reason"), [(6, "usage"), (5, "another reason")])
def test_the_same_reference_with_something_else_is_a_conflict(
    pac: PacSpace, customer: str, delta: float, reason: str
) -> None:
    options = {"referenceId": _reference()}
    first = pac.balance.emit(customer, 5, "usage", options)
    with pytest.raises(PacSpaceError) as raised:
        pac.balance.emit(customer, delta, reason, options)
    assert (raised.value.status_code, raised.value.code) == (409, "IDEMPOTENCY_CONFLICT")
    assert "another amount or reason" in raised.value.message
    assert _balance(pac, customer) == (5, 1)
    assert pac.balance.delta_status(first["recordId"])["delta"] == 5


def test_eight_at_once_with_one_reference_are_one(world: World, customer: str) -> None:
    options = {"referenceId": _reference()}

    def send(_: int) -> dict[str, Any]:
        made: dict[str, Any] = world.client().balance.emit(customer, 7, "usage", options)
        return made

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(send, range(8)))
    assert len({answer["recordId"] for answer in answers}) == 1
    assert [answer["idempotent"] for answer in answers].count(False) == 1
    assert len({answer["createdAt"] for answer in answers}) == 1
    assert _balance(world.client(), customer) == (7, 1)


def test_customers_have_references_of_their_own(pac: PacSpace, customer: str) -> None:
    options = {"referenceId": "shared-by-two"}
    one = pac.balance.emit(customer, 1, "usage", options)
    other = pac.balance.emit("cust:with:colons", 2, "usage", options)
    assert one["recordId"] != other["recordId"]
    assert (one["idempotent"], other["idempotent"]) == (False, False)


@pytest.mark.parametrize("reference", ["a/b?c#d%2F", "x" * 255, "tab\there", "ünïcode" * 10])
def test_a_reference_may_be_any_text(pac: PacSpace, customer: str, reference: str) -> None:
    made = pac.balance.emit(customer, 1, "usage", {"referenceId": reference})
    shown = pac.balance.delta_status(made["recordId"])
    assert shown["referenceId"] == reference
    assert pac.balance.emit(customer, 1, "usage", {"referenceId": reference})["idempotent"]


def test_decimals_are_exact(pac: PacSpace, customer: str) -> None:
    for delta in (0.1, 0.2):
        pac.balance.emit(customer, delta, "usage")
    assert pac.balance.derive(customer)["computedBalance"] == 0.3
    pac.balance.emit(customer, 1e-06, "usage")
    assert pac.balance.derive(customer)["computedBalance"] == 0.300001
    answer = pac.balance.compare(customer, {"yours": 0.300001, "theirs": 0.1 + 0.2})
    assert (answer["matchesYours"], answer["matchesTheirs"]) == (True, False)


def test_the_answer_has_the_digits_that_were_sent(world: World, customer: str) -> None:
    body = f'{{"customerId": "{customer}", "delta": 123456789.123456, "reason": "exact"}}'
    with world.http() as http:
        answer = http.post("/api/v1/balance/delta", content=body)
        text = http.get(f"/api/v1/balance/derive/{customer}").text
    assert '"delta":123456789.123456,' in answer.text
    found = json.loads(text, parse_float=Decimal)
    assert found["data"]["computedBalance"] == Decimal("123456789.123456")


@pytest.mark.parametrize(
    ("delta", "said"),
    [
        (0, "other than 0"),
        (0.0, "other than 0"),
        (1_000_000_001, "within 1000000000"),
        (-1_000_000_000.5, "within 1000000000"),
        (float("nan"), "not a JSON object"),
        (float("inf"), "not a JSON object"),
        (0.1 + 0.2, "more decimal places than the meter's 6"),
        (1e-07, "more decimal places"),
        ("5", "must be a finite number"),
        (True, "must be a finite number"),
        (None, "delta is missing"),
        ([1], "must be a finite number"),
        (10**80, "too many digits"),
    ],
)
def test_what_is_no_delta_is_refused(pac: PacSpace, customer: str, delta: Any, said: str) -> None:
    with pytest.raises(ValidationError) as raised:
        pac.balance.emit(customer, delta, "usage")
    assert said in raised.value.message
    assert _balance(pac, customer) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reason": ""}, "reason must be"),
        ({"reason": "x" * 501}, "reason must be"),
        ({"reason": 5}, "reason must be"),
        ({"reason": None}, "reason is missing"),
        ({"customerId": "no/slash"}, "customerId must have"),
        ({"customerId": ""}, "customerId must be"),
        ({"customerId": "x" * 129}, "customerId must be"),
        ({"referenceId": ""}, "referenceId must be"),
        ({"referenceId": 7}, "referenceId must be"),
        ({"referenceId": "x" * 256}, "referenceId must be"),
        ({"metadata": "text"}, "metadata must be an object"),
        ({"metadata": {"x": "y" * 17_000}}, "16384 are allowed"),
        ({"adjusts": {}}, "referenceId or a recordId"),
        ({"adjusts": {"referenceId": "a", "recordId": "b"}}, "referenceId or a recordId"),
    ],
)
def test_fields_are_checked(
    world: World, customer: str, changes: dict[str, Any], said: str
) -> None:
    body = {"customerId": customer, "delta": 1, "reason": "usage"} | changes
    with world.http() as http:
        answer = http.post("/api/v1/balance/delta", json=body)
    assert answer.status_code == 400, answer.text
    found = answer.json()
    assert found["success"] is False
    assert "code" not in found["error"]
    assert said in found["error"]["message"]
    assert _balance(world.client(), customer) == (0, 0)


def test_nothing_given_is_the_same_as_null(pac: PacSpace, customer: str) -> None:
    options = {"referenceId": None, "metadata": None, "adjusts": None}
    made = pac.balance.emit(customer, 1, "usage", options)
    assert (made["referenceId"], made["metadata"]) == (None, None)


def test_an_adjustment_names_what_it_adjusts(pac: PacSpace, customer: str) -> None:
    reference = _reference()
    first = pac.balance.emit(customer, 10, "usage", {"referenceId": reference})
    by_reference = pac.balance.emit(
        customer, -4, "too much", {"adjusts": {"referenceId": reference}}
    )
    by_id = pac.balance.emit(customer, -1, "too much", {"adjusts": {"recordId": first["recordId"]}})
    assert _balance(pac, customer) == (5, 3)
    shown = pac.balance.delta_status(by_reference["recordId"])
    assert shown["adjusts"] == {"referenceId": reference}
    assert pac.balance.delta_status(by_id["recordId"])["adjusts"]["recordId"] == first["recordId"]


def test_an_adjustment_of_nothing_is_refused(pac: PacSpace, customer: str) -> None:
    other = pac.balance.emit("cust:with:colons", 10, "usage", {"referenceId": _reference()})
    for adjusts in (
        {"referenceId": other["referenceId"]},
        {"recordId": other["recordId"]},
        {"recordId": "nonsense"},
        {"recordId": "0" * 16 + ".p:credits:x"},
    ):
        with pytest.raises(NotFoundError):
            pac.balance.emit(customer, -1, "usage", {"adjusts": adjusts})
    assert _balance(pac, customer) == (0, 0)


def test_a_range_that_has_no_negatives_says_what_to_do(pac: PacSpace) -> None:
    before = pac.balance.derive("tokens")["computedBalance"]
    with pytest.raises(ValidationError, match=r"outside the range .* tally correct"):
        pac.balance.emit("tokens", -5, "refund")
    with pytest.raises(ValidationError, match="more decimal places than the meter's 0"):
        pac.balance.emit("tokens", 2.5, "usage")
    pac.balance.emit("tokens", 3.0, "usage")
    assert pac.balance.derive("tokens")["computedBalance"] == before + 3


def test_usage_may_be_emitted_as_a_draw_down(pac: PacSpace) -> None:
    made = pac.balance.emit("drawn-down", -42, "usage")
    assert pac.balance.delta_status(made["recordId"])["delta"] == -42
    derived = pac.balance.derive("drawn-down", {"startingBalance": 1000})
    assert derived["computedBalance"] == 1000 + sum(d["delta"] for d in derived["deltas"])
    assert derived["computedBalance"] < 1000


@pytest.mark.parametrize(
    ("customer_id", "said"),
    [
        ("nobody", "no customer 'nobody'"),
        ("beta.example", "no customer 'beta.example'"),  # its channel is mapped
        ("no-such-channel", "has no channel"),
    ],
)
def test_unknown_customers_are_not_found(pac: PacSpace, customer_id: str, said: str) -> None:
    with pytest.raises(NotFoundError, match=said):
        pac.balance.emit(customer_id, 1, "usage")
    with pytest.raises(NotFoundError, match=said):
        pac.balance.derive(customer_id)


def test_a_customer_that_is_mapped_to_no_sum_is_refused(pac: PacSpace) -> None:
    with pytest.raises(ValidationError, match="no meter of its channel that sums up"):
        pac.balance.emit("no-such-meter", 1, "usage")


def test_what_the_peer_records_is_not_emitted_here(pac: PacSpace) -> None:
    before = _balance(pac, "theirs")
    with pytest.raises(ValidationError, match=r"recorded by beta\.example"):
        pac.balance.emit("theirs", 1, "usage")
    assert _balance(pac, "theirs") == before


@pytest.mark.parametrize(
    "record_id", ["nope", "0" * 16 + ".p:credits:x", "a/b", "é", ":", "%", "x" * 5000]
)
def test_an_unknown_record_is_not_found(pac: PacSpace, record_id: str) -> None:
    with pytest.raises(NotFoundError):
        pac.balance.delta_status(record_id)
    with pytest.raises(NotFoundError):
        pac.balance.wait_for_verified(record_id, {"timeout": 1000})


def test_a_wait_without_time_asks_nothing(pac: PacSpace) -> None:
    with pytest.raises(TimeoutError):
        pac.balance.wait_for_verified("nope", {"timeout": 0})


def test_what_came_another_way_is_shown_too(world: World, pac: PacSpace, customer: str) -> None:
    subject = f"s{customer[1:]}"
    world.acme.tally(
        "emit", "credits", "2.5", "--subject", subject, "--id", f"cli-{customer}", "--wait"
    )
    derived = pac.balance.derive(customer)
    assert (derived["computedBalance"], derived["deltasCount"]) == (2.5, 1)
    (shown,) = derived["deltas"]
    assert (shown["customerId"], shown["reason"]) == (customer, None)
    assert shown["referenceId"] == f"cli-{customer}"
    assert pac.balance.delta_status(shown["recordId"]) == shown
    world.acme.tally(
        "correct", f"credits/cli-{customer}", "--quantity", "2", "--reason", "counted wrong"
    )
    corrected = pac.balance.derive(customer)
    assert corrected["computedBalance"] == 2
    assert (corrected["deltas"][0]["delta"], corrected["deltas"][0]["correctedDelta"]) == (2.5, 2)


def test_a_key_that_only_emits_sees_what_became_of_it(world: World, customer: str) -> None:
    emitter = world.client("emit")
    done = emitter.balance.emit_and_wait(customer, 1, "usage", {"timeout": 10_000})
    assert done["status"] == "VERIFIED"
    with pytest.raises(PacSpaceError) as raised:
        emitter.balance.derive(customer)
    assert (raised.value.status_code, raised.value.code) == (403, "INSUFFICIENT_SCOPE")


def test_many_from_one_client(pac: PacSpace, customer: str) -> None:
    for number in range(150):
        pac.balance.emit(customer, number + 1, "usage", {"referenceId": f"many-{number}"})
    derived = pac.balance.derive(customer, {"limit": 10, "offset": 20})
    assert (derived["computedBalance"], derived["deltasCount"]) == (150 * 151 / 2, 150)
    assert [delta["delta"] for delta in derived["deltas"]] == list(range(130, 120, -1))
    sequences = [int(delta["sequenceNumber"]) for delta in derived["deltas"]]
    assert sequences == sorted(sequences, reverse=True)
