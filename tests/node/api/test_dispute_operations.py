"""Disputes over HTTP between two real nodes: filed, answered, settled, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import nodes
import pytest
from nodes import Party

from tallystick.node.api.routes.disputes import DisputeDocument

AT = "2026-10-03T10:05:00Z"
LINE = "2026-10-03T10/context-tokens/p7"

Clients = tuple[httpx.Client, httpx.Client]


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    """Acme's and beta's interface, each with a key that may all; beta owes 303 tokens."""
    with nodes.channel(tmp_path_factory.mktemp("api")) as parties:
        for n in range(3):
            parties[0].tally(
                "emit", "context-tokens", str(100 + n), "--subject", "p7", "--id", f"e{n}",
                "--at", AT, "--wait",
            )  # fmt: skip
        acme, beta = (_client(party, "admin") for party in parties)
        with acme, beta, _client(parties[1], "read") as reader:
            beta.headers["x-reader"] = reader.headers["authorization"]
            yield acme, beta


def _client(party: Party, scope: str) -> httpx.Client:
    key = party.json("keys", "add", scope, "--scope", scope)["key"]
    url = party.json("status")["http"]
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60)


def _state(client: httpx.Client, name: str) -> Any:
    answer = client.get(f"/v1/disputes/{name}")
    if answer.status_code != 200:
        return None
    msgspec.json.decode(answer.content, type=DisputeDocument, strict=True)
    fields = {field.encode_name for field in msgspec.structs.fields(DisputeDocument)}
    assert set(answer.json()) == fields
    return answer.json()["state"]


def test_filed_answered_insisted_on_and_settled(clients: Clients) -> None:
    acme, beta = clients
    claim = {"code": "quantity", "reason": "down", "line": LINE, "amount": "50"}
    filed = beta.post("/v1/channels/acme.example/disputes", json=claim)
    assert filed.status_code == 201, filed.text
    name = filed.json()["dispute"]["dispute"]
    again = beta.post("/v1/channels/acme.example/disputes", json=claim).json()
    assert (again["duplicate"], again["index"]) == (True, filed.json()["index"])
    nodes.wait_until(lambda: _state(acme, name) == "open")
    answer = {
        "answer": "concede",
        "amount": "20",
        "reason": "one",
        "records": ["context-tokens/e1"],
    }
    said = acme.post(f"/v1/disputes/{name[:8]}/answers", json=answer).json()["dispute"]
    assert (said["state"], said["answer"]["conceded"]) == ("answered", "20")
    nodes.wait_until(lambda: _state(beta, name) == "answered")
    insist = {"answer": "insist", "reason": "both were"}
    assert beta.post(f"/v1/disputes/{name}/answers", json=insist).status_code == 201
    nodes.wait_until(lambda: _state(acme, name) == "contested")
    half = {"amount": "35", "reason": "half way"}
    for client in (acme, beta):
        assert client.post(f"/v1/disputes/{name}/resolutions", json=half).status_code == 201
    nodes.wait_until(lambda: _state(acme, name) == _state(beta, name) == "resolved")


def test_withdrawn(clients: Clients) -> None:
    beta = clients[1]
    claim = {"code": "other", "reason": "wrong", "records": ["context-tokens/e2"], "amount": "1"}
    name = beta.post("/v1/channels/acme.example/disputes", json=claim).json()["dispute"]["dispute"]
    done = beta.post(f"/v1/disputes/{name}/withdrawals", json={"reason": "our mistake"})
    assert done.json()["dispute"]["state"] == "withdrawn"


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/channels/acme.example/disputes", {"code": "x", "reason": "r"}, 400, "expected"),
        ("/v1/channels/acme.example/disputes", {"code": "other", "reason": "r"}, 400, "disputed"),
        (
            "/v1/channels/acme.example/disputes",
            {"code": "other", "reason": "r", "line": LINE, "amount": "999999"},
            400,
            "only",
        ),
        (
            "/v1/channels/acme.example/disputes",
            {"code": "other", "reason": "x" * 501, "line": LINE, "amount": "1"},
            400,
            "501 characters",
        ),
        ("/v1/channels/nobody/disputes", {"code": "other", "reason": "r"}, 404, "no channel"),
        ("/v1/disputes/00/answers", {"answer": "reject", "reason": "r"}, 404, "no dispute"),
        ("/v1/disputes/00/withdrawals", {"reason": "r", "more": 1}, 404, "no dispute"),
    ],
)
def test_what_cannot_be_said_is_refused_in_words(
    clients: Clients, path: str, body: dict[str, str], status: int, said: str
) -> None:
    answer = clients[1].post(path, json=body)
    assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text


def test_a_reading_key_says_nothing(clients: Clients) -> None:
    headers = {"Authorization": clients[1].headers["x-reader"]}
    body = {"code": "other", "reason": "r", "line": LINE, "amount": "1"}
    for path in ("/v1/channels/acme.example/disputes", "/v1/disputes/00/answers"):
        assert clients[1].post(path, json=body, headers=headers).status_code == 403
