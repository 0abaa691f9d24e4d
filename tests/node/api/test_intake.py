"""Streams and CloudEvents over HTTP into a real node: what is answered 202 is there, once."""

from __future__ import annotations

import gzip
import itertools
import json
import socket
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import nodes
import pytest
from cloudevents.core.bindings import http as binding
from cloudevents.core.v1.event import CloudEvent

DELTAS = "/v1/channels/beta.example/deltas"
CONFIG = """\
[intake]
stall_seconds = 1.0
[[intake.cloudevents]]
type = "com.acme.inference.*"
channel = "beta.example"
map = "events.toml"
"""
MAP = """\
[[meter]]
meter = "context-tokens"
quantity = { column = "data.usage.context" }
[[meter]]
meter = "generated-tokens"
quantity = { column = "data.usage.generated" }
"""
LINES = {"Content-Type": "application/x-ndjson"}

_numbers = itertools.count()


class Emitter:
    """The provider's node, and what was recorded under a prefix."""

    def __init__(self, party: nodes.Party) -> None:
        self.party = party
        self.url: str = party.json("status")["http"]
        self.key: str = party.json("keys", "add", "intake", "--scope", "emit")["key"]

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def recorded(self, prefix: str) -> list[int]:
        """The numbers of the deltas with this prefix in our log, sorted; twice is twice."""
        records = self.party.json("log", "--from", "0", "--count", "10000000")["records"]
        ids = [row.get("id", "") for row in records]
        return sorted(int(id_[len(prefix) :]) for id_ in ids if id_.startswith(prefix))

    def open(self, headers: str) -> socket.socket:
        """A connection with the head of a stream sent on it."""
        where = urlsplit(self.url)
        connection = socket.create_connection((where.hostname, where.port), timeout=60)
        connection.sendall(
            f"POST {DELTAS} HTTP/1.1\r\nHost: {where.netloc}\r\n"
            f"Authorization: Bearer {self.key}\r\nContent-Type: application/x-ndjson\r\n"
            f"{headers}\r\n\r\n".encode()
        )
        return connection


@pytest.fixture(scope="module")
def emitter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emitter]:
    with nodes.channel(tmp_path_factory.mktemp("intake")) as (acme, _):
        (acme.home / "events.toml").write_text(MAP)
        acme.stop()
        acme.configure(CONFIG)
        acme.start()
        yield Emitter(acme)


@pytest.fixture
def http(emitter: Emitter) -> Iterator[httpx.Client]:
    with emitter.client() as client:
        yield client


@pytest.fixture
def prefix() -> str:
    return f"p{next(_numbers)}-"


def _line(prefix: str, n: int, **other: object) -> bytes:
    fields = {"id": f"{prefix}{n}", "meter": "context-tokens", "quantity": n % 1000}
    fields |= {"subject": "s", "occurred_at": "2026-01-01T00:00:00Z"}
    return json.dumps({**fields, **other}).encode() + b"\n"


def _lines(prefix: str, first: int, stop: int) -> bytes:
    return b"".join(_line(prefix, n) for n in range(first, stop))


def _problem(answer: httpx.Response, status: int, said: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert said in found["detail"]
    return found


# Streams


def test_a_stream_is_recorded_and_says_what_became_of_it(
    emitter: Emitter, http: httpx.Client, prefix: str
) -> None:
    def content() -> Iterable[bytes]:
        yield _lines(prefix, 0, 5000)
        yield b'{"id": 7}\n\n'
        yield _line(prefix, 4, quantity=99) + _line(prefix, 5000, occurred_at=None)[:-1]

    answer = http.post(DELTAS, content=content(), headers=LINES, params={"wait_seconds": 30})
    assert answer.status_code == 202, answer.text
    report = answer.json()
    assert report["state"] == "co-signed"
    assert (report["lines"], report["durable_lines"]) == (5004, 5004)
    assert (report["recorded"], report["duplicate"], report["rejected"]) == (5001, 0, 2)
    assert [reject["line"] for reject in report["rejects"]] == [5001, 5003]
    assert report["rejects"][1]["field"] == "conflict"
    assert emitter.recorded(prefix) == list(range(5001))
    packed = gzip.compress(b"".join(content()))
    headers = {**LINES, "Content-Encoding": "gzip"}
    again = http.post(DELTAS, content=packed, headers=headers).json()
    assert (again["recorded"], again["duplicate"], again["rejected"]) == (0, 5001, 2)
    assert emitter.recorded(prefix) == list(range(5001))


def test_a_long_stream_needs_no_more_memory_than_a_short_one(
    emitter: Emitter, http: httpx.Client, prefix: str
) -> None:
    assert emitter.party.process is not None
    status = Path(f"/proc/{emitter.party.process.pid}/status")

    def own_megabytes() -> float:
        rows = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(rows["RssAnon"].split()[0]) / 1024

    most = 0.0
    piece = _lines(prefix, 0, 4000)

    def content(count: int) -> Iterator[bytes]:
        nonlocal most
        for _ in range(count):
            most = max(most, own_megabytes())
            yield piece

    # The same deltas again and again: the log itself does not grow.
    http.post(DELTAS, content=content(5), headers=LINES)
    short, most = most, 0.0
    report = http.post(DELTAS, content=content(50), headers=LINES).json()
    assert (report["duplicate"], 50 * len(piece) > 20_000_000) == (200_000, True)
    assert most < short + 10


def test_a_client_that_breaks_off_in_a_line_loses_only_that_line(
    emitter: Emitter, prefix: str
) -> None:
    connection = emitter.open("Transfer-Encoding: chunked")
    body = _lines(prefix, 0, 3000) + _line(prefix, 3000)[:-20]
    connection.sendall(f"{len(body):x}\r\n".encode() + body + b"\r\n")
    connection.close()
    nodes.wait_until(lambda: len(emitter.recorded(prefix)) == 3000)
    assert emitter.recorded(prefix) == list(range(3000))


def test_a_client_that_stalls_is_recorded_and_told_how_far(emitter: Emitter, prefix: str) -> None:
    with emitter.open("Content-Length: 1000000") as connection:
        connection.sendall(_lines(prefix, 0, 10) + _line(prefix, 10)[:-9])
        answer = b""
        while b"durable_lines" not in answer:
            piece = connection.recv(65536)
            assert piece, answer
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")
    problem = json.loads(body)
    assert "nothing came for 1 seconds" in problem["detail"]
    assert (problem["report"]["durable_lines"], problem["report"]["recorded"]) == (10, 10)
    assert "from line 11 on" in problem["advice"]
    assert emitter.recorded(prefix) == list(range(10))


def test_a_client_that_stalls_holds_up_nobody(emitter: Emitter, http: httpx.Client) -> None:
    stalled = [emitter.open("Content-Length: 1000") for _ in range(20)]
    try:
        delta = json.loads(_line(f"p{next(_numbers)}-", 1))
        assert http.post(DELTAS, json=delta).status_code == 202
    finally:
        for connection in stalled:
            connection.close()


@pytest.mark.parametrize("cut", [-5, 100])
def test_bad_gzip_says_how_far(http: httpx.Client, prefix: str, cut: int) -> None:
    packed = gzip.compress(_lines(prefix, 0, 10))
    headers = {**LINES, "Content-Encoding": "gzip"}
    problem = _problem(http.post(DELTAS, content=packed[:cut], headers=headers), 400, "cut off")
    assert problem["report"]["recorded"] == problem["report"]["durable_lines"]
    _problem(http.post(DELTAS, content=b"{}", headers=headers), 400, "not gzip")
    headers["Content-Encoding"] = "br"
    _problem(http.post(DELTAS, content=b"{}", headers=headers), 415, "'br' is not taken here")


def test_a_stream_needs_a_key_that_may(emitter: Emitter) -> None:
    assert httpx.post(emitter.url + DELTAS, content=b"", headers=LINES).status_code == 401
    key = emitter.party.json("keys", "add", "reader", "--scope", "read")["key"]
    headers = {**LINES, "X-Api-Key": key}
    assert httpx.post(emitter.url + DELTAS, content=b"", headers=headers).status_code == 403


def test_a_kill_in_the_middle_of_a_stream_loses_nothing_that_was_recorded(
    emitter: Emitter, prefix: str
) -> None:
    sent = threading.Event()

    def content() -> Iterator[bytes]:
        for n in range(0, 1_000_000, 500):
            if n == 150_000:
                sent.set()
            yield _lines(prefix, n, n + 500)

    def send() -> None:
        with emitter.client() as client, pytest.raises(httpx.TransportError):
            client.post(DELTAS, content=content(), headers=LINES)

    sending = threading.Thread(target=send)
    sending.start()
    assert sent.wait(60)
    emitter.party.kill()
    sending.join(60)
    emitter.party.start()
    there = emitter.recorded(prefix)
    assert there == list(range(len(there)))  # a beginning of the stream, without holes
    assert len(there) > 0
    with emitter.client() as client:
        count = len(there) + 1000
        report = client.post(DELTAS, content=_lines(prefix, 0, count), headers=LINES).json()
    assert (report["recorded"], report["duplicate"]) == (1000, len(there))
    assert emitter.recorded(prefix) == list(range(count))


# CloudEvents


def _event(id_: str, context: int = 374, kind: str = "com.acme.inference.done") -> CloudEvent:
    attributes = {"specversion": "1.0", "id": id_, "source": "/gateway", "type": kind}
    time_ = datetime(2026, 1, 1, tzinfo=UTC)
    data = {"usage": {"context": context, "generated": 12}}
    return CloudEvent({**attributes, "time": time_, "subject": "project-7"}, data)


def _send(http: httpx.Client, message: binding.HTTPMessage, path: str = DELTAS) -> httpx.Response:
    return http.post(path, content=message.body, headers=message.headers)


def test_an_event_in_either_mode_is_one_event(http: httpx.Client, prefix: str) -> None:
    event = _event(f"{prefix}1")
    first = _send(http, binding.to_structured_event(event))
    assert first.status_code == 202, first.text
    assert first.json()["state"] == "recorded"
    indexes = first.json()["indexes"]
    assert indexes[1] == indexes[0] + 1
    for message in (binding.to_binary_event(event), binding.to_structured_event(event)):
        for path in (DELTAS, "/v1/cloudevents"):
            again = _send(http, message, path)
            assert again.status_code == 202, again.text
            assert again.json() == {"state": "duplicate", "indexes": indexes}
    other = _send(http, binding.to_binary_event(_event(f"{prefix}1", 375)))
    _problem(other, 409, f"context-tokens//gateway|{prefix}1 is recorded with other content")


def test_a_bad_event_is_refused_with_its_reason(http: httpx.Client, prefix: str) -> None:
    unknown = binding.to_structured_event(_event(prefix, kind="com.acme.other"))
    _problem(_send(http, unknown), 422, "no rule takes events of type 'com.acme.other'")
    _problem(_send(http, binding.to_binary_event(_event(prefix, -1))), 422, "outside")
    structured = {"Content-Type": "application/cloudevents+json"}
    _problem(http.post(DELTAS, content=b"{", headers=structured), 400, "not JSON")
    _problem(http.post(DELTAS, content=b"{}", headers=structured), 422, "has no specversion")
    other = {"Content-Type": "application/cloudevents+avro"}
    _problem(http.post(DELTAS, content=b"", headers=other), 415, "not taken here")
    _problem(http.post("/v1/cloudevents", json={}), 400, "no CloudEvent")


def test_a_batch_is_recorded_but_for_its_bad_items(
    emitter: Emitter, http: httpx.Client, prefix: str
) -> None:
    items = [json.loads(binding.to_structured_event(_event(f"{prefix}{n}")).body) for n in range(3)]
    del items[1]["id"]
    items.append({**items[0], "type": "other"})
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    answer = http.post(
        DELTAS, content=json.dumps(items).encode(), headers=headers, params={"wait_seconds": 30}
    )
    assert answer.status_code == 202, answer.text
    report = answer.json()
    assert report["state"] == "co-signed"
    assert (report["recorded"], report["duplicate"], report["rejected"]) == (4, 0, 2)
    states = [result["state"] for result in report["results"]]
    assert states == ["recorded", "rejected", "recorded", "rejected"]
    assert report["results"][1]["reason"] == "the event has no id"
    full = f"/gateway|{prefix}"
    assert emitter.recorded(full) == [0, 0, 2, 2]


def test_a_mapping_that_is_wrong_stops_the_start(tmp_path: Path) -> None:
    with nodes.running(tmp_path, ("acme.example",)) as (acme,):
        acme.stop()
        acme.configure(CONFIG)
        done = acme.tally("run", "--listen", "127.0.0.1:0", check=False)
        assert done.returncode == 2
        assert "events.toml cannot be read" in " ".join(done.stderr.split())
