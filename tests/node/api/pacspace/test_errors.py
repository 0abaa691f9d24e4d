"""Who is let in, and errors in the form that the real client turns into its own classes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from pacspace_sdk import (
    InvalidApiKeyError,
    PacSpace,
    PacSpaceError,
    generate_workspace_secret,
    next_workspace_secret,
)
from pacspace_world import World

from tallystick.node.api.pacspace.wire import Refusal, refusal_of, refused, refused_at_door
from tallystick.node.api.problems import Refused
from tallystick.node.errors import PeerUnreachable, StoreError
from tallystick.protocol.errors import ConflictError, DiffersError, InputError, InvalidRecord


def test_a_wrong_key_is_refused_before_anything_else(world: World) -> None:
    for key in ("pk_test_nonsense", "tally_0123456789ab_" + "x" * 43, "é"[:0] or "x"):
        pac = PacSpace.init(key, base_url=world.url)
        calls: list[Any] = [
            lambda pac=pac: pac.balance.derive("nobody"),
            lambda pac=pac: pac.balance.derive("c0", {"period": "2026-01"}),
            lambda pac=pac: pac.balance.emit("", float("nan"), ""),
            lambda pac=pac: pac.balance.delta_status("nope"),
            lambda pac=pac: pac.records.receipt("r", 1),
            lambda pac=pac: pac.customers.create(display_name="x"),
        ]
        for call in calls:
            with pytest.raises(InvalidApiKeyError) as raised:
                call()
            assert raised.value.status_code == 401
            assert "tally keys add" in raised.value.message


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/nothing"), ("GET", "/api/v1/balance/nothing"), ("POST", "/api/v1/x/y"),
        ("GET", "/dashboard/x"), ("DELETE", "/api/v1/balance/derive/c0/x"),
        ("GET", "/api/v1/balance/derive/c0/"), ("GET", "/api/v1/"),
    ],
)  # fmt: skip
def test_unknown_paths_are_json(world: World, method: str, path: str) -> None:
    strange = httpx.request(method, world.url + path)
    assert strange.status_code == 401
    with world.http() as http:
        answer = http.request(method, path)
    for found in (strange, answer):
        assert found.headers["content-type"] == "application/json"
        assert found.json()["success"] is False
    assert answer.status_code == 404


def test_another_method_is_named(world: World) -> None:
    with world.http() as http:
        for method in ("DELETE", "PUT", "PATCH", "POST"):
            answer = http.request(method, "/api/v1/balance/usage")
            assert (answer.status_code, answer.json()["error"]["code"]) == (
                405, "METHOD_NOT_ALLOWED",
            )  # fmt: skip


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [("emit", {"emit", "status", "usage"}), ("read", {"derive", "status", "usage", "compare"})],
)
def test_scopes_of_keys(world: World, customer: str, scope: str, allowed: set[str]) -> None:
    made = world.client().balance.emit(customer, 1, "usage")
    pac = world.client(scope)
    calls: dict[str, Any] = {
        "emit": lambda: pac.balance.emit(customer, 1, "usage"),
        "status": lambda: pac.balance.delta_status(made["recordId"]),
        "usage": pac.balance.usage,
        "derive": lambda: pac.balance.derive(customer),
        "compare": lambda: pac.balance.compare(customer, {"yours": 1, "theirs": 1}),
        "checkpoint": lambda: pac.balance.checkpoint(customer),
        "retry": lambda: pac.balance.retry_webhook("x"),
        "create": lambda: pac.customers.create(display_name="x"),
    }
    done = set()
    for name, call in calls.items():
        try:
            call()
            done.add(name)
        except PacSpaceError as error:
            assert (error.status_code, error.code) == (403, "INSUFFICIENT_SCOPE"), name
    assert done == allowed


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{", b'"x"', b"NaN", b"\xff\xfe", b"[" * 100_000,
        b'{"customerId": "c0", "delta": NaN, "reason": "x"}',
        b'{"customerId": "c0", "delta": 1, "reason": "\\ud800"}',
        b'{"customerId": "c0", "delta": 1, "reason": "x", "metadata": ' + b'{"a":' * 90_000,
        b'{"customerId": "c0", "delta": 0x10, "reason": "x"}',
        b'{"customerId": "c0", "delta": 1.e5, "reason": "x"}',
        b'{"customerId": "c0", "delta": -, "reason": "x"}',
        b'{"customerId": "c0", "delta": 1e99999999999, "reason": "x"}',
    ],
    ids=range(15),
)  # fmt: skip
def test_garbage_is_bad_input(world: World, body: bytes) -> None:
    with world.http() as http:
        paths = ("delta", "delta/batch", "compare")
        answers = [http.post(f"/api/v1/balance/{path}", content=body) for path in paths]
    for answer in answers:
        assert answer.status_code == 400, answer.text
        assert "code" not in answer.json()["error"]
    assert "Traceback" not in world.acme.log.read_text()


def test_a_body_that_is_too_large(world: World) -> None:
    with world.http() as http:
        answer = http.post("/api/v1/balance/delta", content=b" " * (17 * 2**20))
    assert answer.status_code == 413
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("path", [b"/api/v1/balance/derive/%ff", b"/api/v1/balance/derive/c0?%ff"])
def test_what_is_not_utf8(world: World, path: bytes) -> None:
    with world.http() as http:
        request = http.build_request("GET", "/")
        request.url = request.url.copy_with(raw_path=path)
        answer = http.send(request)
    assert answer.status_code in (200, 400)  # an unknown parameter is not looked at
    assert answer.headers["content-type"] == "application/json"


def test_a_foreign_name_is_refused_in_the_same_form(world: World) -> None:
    headers = {"Host": "evil.example", "X-Api-Key": world.key("read")}
    answer = httpx.get(f"{world.url}/api/v1/balance/usage", headers=headers)
    assert answer.status_code == 421
    assert "evil.example" in answer.json()["error"]["message"]


def test_headers_of_the_hosted_service_are_ignored(world: World, customer: str) -> None:
    pac = world.client(chain_id=296, credit_pool_id=7)
    options = {"chainId": 1, "creditPoolId": 2, "headers": {"X-Anything": "x"}}
    assert pac.balance.emit(customer, 1, "usage", options)["recordId"]
    assert pac.balance.derive(customer, {"headers": {"X-Anything": "x"}})["deltasCount"] == 1


def test_a_base_url_may_end_in_a_slash(world: World) -> None:
    pac = PacSpace.init(world.key("read"), base_url=world.url + "/")
    assert pac.balance.usage()["allowed"]


def test_a_closed_client_asks_nothing(world: World) -> None:
    pac = world.client("read")
    pac.close()
    with pytest.raises(PacSpaceError) as raised:
        pac.balance.usage()
    assert raised.value.code == "CLIENT_CLOSED"
    other = world.client("read")
    other.shutdown()
    with pytest.raises(PacSpaceError):
        other.balance.usage()


def test_records_are_not_served_and_not_tried_again(world: World) -> None:
    pac = world.client()
    secret = generate_workspace_secret()
    sealed = world.client(records={"secret": secret})
    calls: list[Any] = [
        lambda: pac.records.emit(
            record="r", title="t", occurred_at="2026-01-01T00:00:00Z", actor_id="a",
            payloads=[{"alg": "sha-256", "digest": "0" * 64, "byteLength": "1"}],
        ),
        lambda: pac.records.receipt("r", 1),
        lambda: pac.records.history("r"),
        lambda: pac.records.bundle("r"),
        lambda: pac.records.grants.create(kind="x", record="r"),
        lambda: pac.records.grants.list(record="r"),
        lambda: pac.records.grants.revoke(grant_id="g", record="r"),
        lambda: pac.records.holders.list(),
        lambda: pac.records.holders.remove("h"),
        lambda: pac.records.holdings.list(),
        lambda: pac.records.open(f"{world.url}/c/handle"),
        lambda: sealed.records.identity.register(),
        lambda: sealed.records.holders.add(workspace_id="w"),
        lambda: sealed.records.holdings.confirm(),
        lambda: sealed.records.rotate(next_workspace_secret(secret)),
        lambda: sealed.records.rekey(record="r", to_version=1),
        lambda: sealed.records.record_key("r"),
        lambda: sealed.records.keep_copy("r"),
        lambda: sealed.records.share_key_wrap(
            handle="h", disclosure_key=b"0" * 32, workspace_id="w"
        ),
    ]  # fmt: skip
    for number, call in enumerate(calls):
        with pytest.raises(PacSpaceError) as raised:
            call()
        assert raised.value.status_code == 501, (number, raised.value)
    assert sealed.records.wire_id("r")  # the client's own work
    assert sealed.records.wire_reference_id("r")
    assert pac.records.check({"schema": "other"})["ok"] is False


def test_customers_are_made_by_pairing(world: World) -> None:
    pac = world.client()
    with pytest.raises(PacSpaceError, match="tally invite") as raised:
        pac.customers.create(display_name="New", customer_id="new", unit_label="credits")
    assert (raised.value.status_code, raised.value.code) == (501, "NOT_SUPPORTED")
    with pytest.raises(PacSpaceError) as raised:
        pac.customers.create(display_name="Known", customer_id="c0")
    assert (raised.value.status_code, raised.value.code) == (409, "CUSTOMER_EXISTS")
    token = {"dashboardToken": world.key("admin")}
    emitter = world.client("emit")
    with pytest.raises(PacSpaceError) as raised:  # the token is the key that counts
        emitter.customers.create(display_name="New", options=token)
    assert raised.value.code == "NOT_SUPPORTED"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InputError("x", "y"), 400, ""),
        (InvalidRecord("x"), 400, ""),
        (ConflictError("x"), 409, "IDEMPOTENCY_CONFLICT"),
        (DiffersError("x"), 409, "CHECKPOINT_DIFFERS"),
        (PeerUnreachable("x"), 503, ""),
        (StoreError("x"), 503, ""),
        (Refusal(418, "x", "Y"), 418, "Y"),
        (Refused(413, "x"), 413, ""),
        (ExceptionGroup("g", [InputError("x")]), 400, ""),
    ],
)
def test_each_kind_of_error_has_its_answer(error: Exception, status: int, code: str) -> None:
    refusal = refusal_of(error)
    assert (refusal.status, refusal.code) == (status, code)
    answer = refused(refusal)
    assert answer.status_code == status
    assert ("retry-after" in answer.headers) == (status in (429, 503))
    assert refused_at_door(Refused(429, "x")).headers["retry-after"] == "1"
