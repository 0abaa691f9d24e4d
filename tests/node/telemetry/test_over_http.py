"""A running node, asked over HTTP how it is: by who may read, and by who only starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import nodes
import pytest
from scrapes import Scrape

from tallystick.node.home import open_home

Pair = tuple[nodes.Party, nodes.Party]


@contextmanager
def _owner(party: nodes.Party) -> Iterator[httpx.Client]:
    """Through the home's socket."""
    path = str(open_home(party.home).socket_path)
    with httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://node") as client:
        yield client


@contextmanager
def _stranger(party: nodes.Party, **headers: str) -> Iterator[httpx.Client]:
    """Through TCP, with these headers."""
    address = party.json("status")["http"]
    with httpx.Client(base_url=address, headers=headers) as client:
        yield client


def _key(party: nodes.Party, name: str, scope: str) -> str:
    key: str = party.json("keys", "add", name, "--scope", scope)["key"]
    return key


def test_metrics_need_a_key_that_may_read(pair: Pair) -> None:
    acme, _ = pair
    reading, emitting = _key(acme, "prometheus", "read"), _key(acme, "meter", "emit")
    with _stranger(acme) as client:
        assert client.get("/metrics").status_code == 401
        answers = {
            key: client.get("/metrics", headers={"Authorization": f"Bearer {key}"})
            for key in (reading, emitting)
        }
    assert answers[emitting].status_code == 403
    assert answers[reading].status_code == 200
    assert answers[reading].headers["content-type"].startswith("text/plain; version=")


def test_metrics_of_two_nodes_that_speak(pair: Pair) -> None:
    acme, beta = pair
    acme.tally("emit", "context-tokens", "374", "--subject", "p", "--id", "watched", "--wait")
    for party, peer in ((acme, beta), (beta, acme)):
        with _owner(party) as client:
            found = Scrape(client.get("/metrics").text)
        assert found.value("peer_connected", peer=peer.name) == 1
        assert abs(found.value("peer_clock_skew_seconds", peer=peer.name)) < 60
        assert found.value("peer_quota_wait_seconds_total", peer=peer.name) == 0
        assert found.value("channel_connected", peer=peer.name) == 1
        assert found.value("channel_state", peer=peer.name, state="open") == 1
        assert found.value("healthy") == found.value("ready") == 1
        assert found.value("channel_lag_records", peer=peer.name) == 0
        assert found.value("metrics_problems_total") == 0
        assert found.value("http_requests_total", route="/rpc/{method}", status="200") > 0
        assert "process_resident_memory_bytes" in found.families


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/openmetrics-text; version=1.0.0, text/plain", "application/openmetrics-text"),
        ("text/plain;version=0.0.4", "text/plain"),
        ("application/openmetrics-text; version=x.y", "application/openmetrics-text"),
        ("text/plain; version=\xff;;,,", "text/plain"),
        ("", "text/plain"),
    ],
)
def test_any_accept_header_gets_metrics(pair: Pair, accept: str, kind: str) -> None:
    with _owner(pair[0]) as client:
        answer = client.get("/metrics", headers={"Accept": accept.encode("latin-1")})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)
    assert answer.text.endswith("# EOF\n") == (kind != "text/plain")


def test_requests_are_counted_by_route_and_not_by_path(pair: Pair) -> None:
    acme, _ = pair
    with _stranger(acme) as stranger, _owner(acme) as owner:
        for n in range(5):
            assert stranger.get(f"/nowhere/{n}").status_code == 401
            assert owner.get(f"/nowhere/{n}").status_code == 404
            assert owner.get(f"/v1/channels/none-{n}/balance").status_code == 404
        assert owner.request("BREW", "/healthz").status_code >= 400
        found = Scrape(owner.get("/metrics").text)
    assert found.value("http_requests_total", route="none", status="404", method="GET") >= 5
    assert found.value("http_requests_total", route="none", status="401", method="GET") >= 5
    route = "/v1/channels/{channel}/balance"
    assert found.value("http_requests_total", route=route, status="404") >= 5
    assert found.value("http_request_seconds_count", route=route) >= 5
    assert all(found.value("http_requests_total", **one) for one in
               found.labels("http_requests_total") if one["method"] == "other")  # fmt: skip
    assert not [one for one in found.labels("http_requests_total") if "nowhere" in one["route"]]


def test_health_is_open_to_all(pair: Pair) -> None:
    with _stranger(pair[0]) as client:
        answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"healthy": True, "problems": []})


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[nodes.Party]:
    """A running node whose peer is away for good."""
    with nodes.channel(tmp_path) as (acme, beta):
        beta.stop()
        yield acme


def test_a_peer_that_is_away_is_said_and_named_to_those_who_may_read(alone: nodes.Party) -> None:
    key = _key(alone, "watcher", "read")
    with _stranger(alone) as client:
        nodes.wait_until(lambda: client.get("/readyz").json()["degraded"])
        anybody = client.get("/readyz")
        reader = client.get("/readyz", headers={"X-Api-Key": key})
    assert anybody.status_code == reader.status_code == 200
    assert anybody.json() == {
        "ready": True,
        "problems": [],
        "degraded": ["1 of 1 peers are not connected"],
    }
    assert reader.json()["degraded"] == ["beta.example is not connected"]


@pytest.fixture
def single(tmp_path: Path) -> Iterator[nodes.Party]:
    """A home whose node the test starts."""
    party = nodes.Party(tmp_path, "acme.example")
    party.tally("init", "--name", party.name)
    yield party
    party.stop()


def test_metrics_can_be_open(single: nodes.Party) -> None:
    single.configure("[metrics]\nopen = true\n")
    single.start()
    with _stranger(single) as client:
        assert client.get("/metrics").status_code == 200
        document = client.get("/openapi.json").json()
    assert document["paths"]["/metrics"]["get"]["security"] == []


def test_a_full_disk_is_not_healthy_and_still_serves(single: nodes.Party) -> None:
    single.configure("[health]\nfree_mebibytes = 1_000_000_000\n")
    single.start()
    with _stranger(single) as client:
        sick, ready = client.get("/healthz"), client.get("/readyz")
    assert sick.status_code == 503
    assert "MiB are free where the home is" in sick.json()["problems"][0]
    assert ready.status_code == 200


def test_nothing_secret_is_logged_or_shown(tmp_path: Path) -> None:
    with nodes.running(tmp_path) as (acme, beta):
        for party in (acme, beta):
            party.stop()
            party.configure('[log]\nlevel = "debug"\n[metrics]\nopen = true\n')
            party.start()
        code = acme.json("invite")["code"]
        beta.tally("join", code)
        beta.tally("join", code, check=False)  # a second time
        nodes.found(acme, beta)
        key = _key(acme, "prometheus", "admin")
        with _stranger(acme, Authorization=f"Bearer {key}") as client:
            metrics = client.get("/metrics").text
            client.get("/v1/channels/" + key + "/balance")
            client.post("/v1/channels/x/deltas", content=key)
        acme.tally("emit", "context-tokens", "1", "--subject", "p", "--id", "e", "--wait")
        seeds = [(party.home / "seed").read_text().strip() for party in (acme, beta)]
        said = acme.log.read_text() + beta.log.read_text() + metrics
    assert len(said) > 1000
    hidden = [code, code.removeprefix("tally1-")[-40:], key, key.split("_", 2)[2], *seeds]
    assert [secret for secret in hidden if secret in said] == []


def test_the_log_is_one_json_document_a_line(single: nodes.Party) -> None:
    single.start()
    single.stop()
    lines = [json.loads(line) for line in single.log.read_text().splitlines()]
    assert lines[-1]["event"] == "stopping"
    assert all({"event", "level", "timestamp", "logger"} <= line.keys() for line in lines)


def test_on_a_terminal_the_log_is_for_people(single: nodes.Party) -> None:
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        single.command("run", "--listen", "127.0.0.1:0"),
        stdout=subprocess.PIPE, stderr=theirs, stdin=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    os.close(theirs)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("ready ")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    process.stdout.close()
    said = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "info    stopping" in said
    assert "{" not in said
