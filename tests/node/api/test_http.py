"""The HTTP interface of two real nodes: who gets in, what is answered, and what is refused."""

from __future__ import annotations

import itertools
import json
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import msgspec
import nodes
import pytest

from tallystick.node.api.openapi import document
from tallystick.node.api.server import operations
from tallystick.node.config import Config
from tallystick.node.verifier.page import verifier_page

_numbers = itertools.count()
DELTAS = "/v1/channels/beta.example/deltas"


class Api:
    """One party's interface, and keys of it."""

    def __init__(self, party: nodes.Party) -> None:
        self.party = party
        self.url: str = party.json("status")["http"]
        self.keys: dict[str, str] = {
            scope: party.json("keys", "add", f"{scope}-{next(_numbers)}", "--scope", scope)["key"]
            for scope in ("emit", "read", "admin")
        }

    def client(self, scope: str = "admin") -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.keys[scope]}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def api(pair: tuple[nodes.Party, nodes.Party]) -> Api:
    return Api(pair[0])


@pytest.fixture
def http(api: Api) -> Iterator[httpx.Client]:
    with api.client() as client:
        yield client


def _delta(**changes: object) -> dict[str, object]:
    asked = {"meter": "context-tokens", "subject": "s", "quantity": "5"}
    return {"id": f"http-{next(_numbers)}"} | asked | changes


def _problem(answer: httpx.Response, status: int, said: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == status
    assert said in found["detail"]


def test_a_delta_is_recorded_once_however_often_it_is_sent(http: httpx.Client) -> None:
    delta = _delta()
    first, again = (http.post(DELTAS, json=delta) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["state"] == "recorded"
    assert (first.json()["duplicate"], again.json()["duplicate"]) == (False, True)
    assert again.json()["index"] == first.json()["index"]
    shown = http.get(f"{DELTAS}/context-tokens/{delta['id']}").json()["deltas"]
    assert [(one["quantity"], one["index"]) for one in shown] == [("5", first.json()["index"])]
    _problem(http.post(DELTAS, json=delta | {"quantity": "6"}), 409, "with other content")


def test_one_delta_sent_by_many_at_once_is_recorded_once(api: Api) -> None:
    delta = _delta()

    def send(_: int) -> dict[str, object]:
        with api.client() as client:
            answer: dict[str, object] = client.post(DELTAS, json=delta).json()
            return answer

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(send, range(8)))
    assert len({answer["index"] for answer in answers}) == 1
    assert [answer["duplicate"] for answer in answers].count(False) == 1


def test_several_deltas_are_taken_or_refused_each_for_itself(http: httpx.Client) -> None:
    good, late = _delta(), _delta(occurred_at="2026-10-01T00:00:00.123456Z")
    sent = [good, _delta(meter="none"), _delta(quantity="1.5"), late, good, _delta(id="")]
    answer = http.post(f"{DELTAS}?wait_seconds=30", json={"deltas": sent})
    found = answer.json()
    assert (answer.status_code, found["state"]) == (202, "co-signed")
    assert (found["recorded"], found["duplicate"], found["rejected"]) == (2, 1, 3)
    kinds = [one["problem"] and one["problem"]["kind"] for one in found["results"]]
    assert kinds == [None, "InputError", "QuantityError", None, None, "InvalidRecord"]
    assert found["results"][0]["index"] == found["results"][4]["index"]


@pytest.mark.parametrize(
    ("text", "recorded"),
    [
        ("9007199254740993", "9007199254740993"),  # not a binary float
        ("1e3", "1000"),
        ('"12"', "12"),
        ("5.0", "5"),
    ],
)
def test_a_number_is_what_was_written(http: httpx.Client, text: str, recorded: str) -> None:
    delta = _delta()
    body = json.dumps(delta).replace('"5"', text)
    answer = http.post(DELTAS, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 202
    shown = http.get(f"{DELTAS}/context-tokens/{delta['id']}").json()["deltas"]
    assert shown[0]["quantity"] == recorded


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "not what was expected"),
        (b"[]", 400, "not what was expected"),
        (b'{"id":"x"}', 400, "missing required field"),
        (b'{"deltas":[{"id":1}]}', 400, "Expected `str`"),
        (b'{"id":"x","meter":"context-tokens","subject":"s","quantity":NaN}', 400, "expected"),
        (
            b'{"id":"x","meter":"context-tokens","subject":"s","quantity":"NaN"}',
            400,
            "not a number",
        ),
        (b'{"id":"x","meter":"context-tokens","subject":"s","quantity":true}', 400, "expected"),
        (b'{"id":"x","meter":"context-tokens","subject":"s","quantity":1e9999}', 400, ""),
        (b'{"id":"x","meter":"context-tokens","subject":"s","quantity":1,"a":1}', 400, "unknown"),
        (b"\xff\xfe", 400, "not what was expected"),
        (b"[" * 100_000, 400, "not what was expected"),
        (b'{"deltas":' + b"[" * 100_000, 400, "not what was expected"),
    ],
)
def test_garbage_is_refused_in_a_sentence(
    http: httpx.Client, body: bytes, status: int, said: str
) -> None:
    size = http.get("/v1/status").json()["channels"][0]["own"]["size"]
    answer = http.post(DELTAS, content=body, headers={"Content-Type": "application/json"})
    _problem(answer, status, said)
    assert http.get("/v1/status").json()["channels"][0]["own"]["size"] == size


def test_the_balance_is_what_the_command_line_shows(api: Api, http: httpx.Client) -> None:
    http.post(f"{DELTAS}?wait_seconds=30", json=_delta())
    path = "/v1/channels/beta.example/balance?meter=context-tokens"
    # The co-signature is known a moment before it is on the disk, where the command line reads it.
    nodes.wait_until(
        lambda: http.get(path).json() == api.party.json("derive", "--meter", "context-tokens")
    )
    assert http.get(path).json()["lines"]


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/v1/channels/none/balance", 404, "no channel matches"),
        ("/v1/channels/beta.example/balance?perod=2026-10", 400, "no parameter 'perod'"),
        ("/v1/channels/beta.example/balance?period=x", 400, "calendar"),
        ("/v1/channels/beta.example/checkpoints/2020-01-01T00", 404, "not closed"),
        ("/v1/channels/beta.example/bundles/2020-01-01T00", 404, "not closed"),
        (f"{DELTAS}/context-tokens/none", 404, "no delta is called"),
        ("/v1/nothing", 404, "nothing at /v1/nothing"),
        ("/rpc/live", 404, "nothing at /rpc/live"),
    ],
)
def test_what_is_not_there_is_said(http: httpx.Client, path: str, status: int, said: str) -> None:
    _problem(http.get(path), status, said)


def test_a_method_that_a_path_does_not_take(http: httpx.Client) -> None:
    _problem(http.delete("/v1/status"), 405, "Method Not Allowed")
    refused = http.delete("/v1/channels/beta.example/checkpoints/2026-10-01T10")
    assert set(refused.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer tally_000000000000_" + "A" * 43},
        {"Authorization": "Basic YTpi"},
        {"X-Api-Key": "x"},
    ],
)
def test_without_a_key_nothing_is_told(api: Api, headers: dict[str, str]) -> None:
    for method, path in (("GET", "/v1/status"), ("POST", DELTAS), ("GET", "/v1/no"), ("GET", "/")):
        answer = httpx.request(method, f"{api.url}{path}", headers=headers, content=b"{")
        _problem(answer, 401, "needs a key")
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_either_header_takes_the_key(api: Api) -> None:
    answer = httpx.get(f"{api.url}/v1/status", headers={"X-Api-Key": api.keys["read"]})
    assert answer.json()["name"] == "acme.example"


def test_a_key_does_what_its_scope_says_and_no_more(api: Api) -> None:
    allowed = {"emit": (403, 202, 403), "read": (200, 403, 403), "admin": (200, 202, 404)}
    for scope, statuses in allowed.items():
        with api.client(scope) as client:
            found = (
                client.get("/v1/status").status_code,
                client.post(DELTAS, json=_delta()).status_code,
                client.post("/v1/channels/none/checkpoints/2026-10-01T00").status_code,
            )
        assert found == statuses


def test_a_removed_key_opens_nothing(api: Api) -> None:
    name = f"gone-{next(_numbers)}"
    key = api.party.json("keys", "add", name, "--scope", "read")["key"]
    headers = {"Authorization": f"Bearer {key}"}
    assert httpx.get(f"{api.url}/v1/status", headers=headers).status_code == 200
    api.party.tally("keys", "remove", name)
    assert httpx.get(f"{api.url}/v1/status", headers=headers).status_code == 401


def test_a_name_that_is_not_ours_is_refused(api: Api, http: httpx.Client) -> None:
    port = api.url.rpartition(":")[2]
    assert http.get("/docs", headers={"Host": f"localhost:{port}"}).status_code == 200
    for host in ("evil.example", f"evil.example:{port}", "", "127.0.0.1.evil.example"):
        _problem(http.get("/docs", headers={"Host": host}), 421, "not called")


def test_a_body_beyond_the_limit_is_refused(http: httpx.Client) -> None:
    size = 17 * 1024 * 1024
    _problem(http.post(DELTAS, content=b"x" * size), 413, "more than 16777216 bytes")

    def pieces() -> Iterator[bytes]:
        for _ in range(17):
            yield b"x" * 1024 * 1024

    _problem(http.post(DELTAS, content=pieces()), 413, "more than 16777216 bytes")


def test_one_who_sends_half_a_request_holds_up_nobody(api: Api, http: httpx.Client) -> None:
    host, _, port = api.url.removeprefix("http://").rpartition(":")
    stuck = [socket.create_connection((host, int(port))) for _ in range(20)]
    for one in stuck:
        one.sendall(b"POST /v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\nx")
    assert http.get("/v1/status").status_code == 200
    for one in stuck:
        one.close()
    assert http.get("/v1/status").status_code == 200


def test_what_is_no_http_is_answered_and_ended(api: Api) -> None:
    host, _, port = api.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), 10) as one:
        one.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        assert one.recv(100).startswith(b"HTTP/1.1 400")


def test_reading_goes_on_while_others_record(api: Api, http: httpx.Client) -> None:
    done = threading.Event()

    def record() -> int:
        sent = 0
        with api.client() as client:
            while True:
                deltas = [_delta() for _ in range(500)]
                assert client.post(DELTAS, json={"deltas": deltas}).json()["recorded"] == 500
                sent += 500
                if done.is_set():
                    return sent

    with ThreadPoolExecutor(2) as threads:
        work = [threads.submit(record) for _ in range(2)]
        for _ in range(20):
            assert http.get("/v1/channels/beta.example/balance").status_code == 200
        done.set()
        assert all(one.result() for one in work)


def test_each_operation_is_in_the_document_and_on_its_page(http: httpx.Client) -> None:
    found = http.get("/openapi.json", headers={"Authorization": ""}).json()
    assert found == msgspec.json.decode(msgspec.json.encode(document(operations(Config()))))
    page = http.get("/docs", headers={"Authorization": ""})
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "//" not in page.text.replace("<!--", "")
    for operation in operations(Config()):
        path = operation.path.replace(":path", "")
        described = found["paths"][path][operation.method.lower()]
        assert described["summary"] == operation.summary
        assert f"{operation.method} {path}" in page.text
        placed = {one["name"] for one in described["parameters"] if one["in"] == "path"}
        assert placed == set(re.findall(r"{([^}]+)}", path))
    for name in found["components"]["schemas"]:
        assert f"<details id='{name}'>" in page.text


def test_the_verifier_is_open_to_all_and_is_the_very_file(api: Api) -> None:
    answer = httpx.get(f"{api.url}/verify")
    assert answer.content == verifier_page()
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_answers_are_what_the_document_says(http: httpx.Client) -> None:
    paths = {"channel": "beta.example", "name": f"context-tokens/{_sent(http)}"}
    for operation in operations(Config()):
        (media, kind), *_ = operation.gives.items()
        if operation.method != "GET" or media != "application/json" or "period" in operation.path:
            continue
        if "{dispute}" in operation.path:  # see test_dispute_operations
            continue
        answer = http.get(operation.path.replace(":path", "").format(**paths))
        msgspec.json.decode(answer.content, type=kind, strict=True)
        fields = {field.encode_name for field in msgspec.structs.fields(kind)}
        assert set(answer.json()) == fields


def _sent(http: httpx.Client) -> str:
    delta = _delta()
    assert http.post(DELTAS, json=delta).status_code == 202
    return str(delta["id"])
