"""The doors as nodes open them: where they listen, limits, closing a period, and stopping."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import httpx
import nodes
import pytest
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tallystick.node.api import connections
from tallystick.node.api.connections import Connections
from tallystick.node.api.limits import Limits, read_body
from tallystick.node.api.problems import Refused
from tallystick.node.api.reading import ASKER, Reader
from tallystick.node.config import Http


def test_a_node_listens_where_it_did_before_and_only_here(tmp_path: Path) -> None:
    party = nodes.Party(tmp_path, "acme.example")
    party.tally("init", "--name", "acme.example")
    party.start()
    first = party.json("status")["http"]
    assert first.startswith("http://127.0.0.1:")
    party.stop()
    assert party.json("status")["http"] is None
    party.start()
    assert party.json("status")["http"] == first
    party.stop()
    party.configure('[http]\nlisten = ""\n')
    party.start()
    assert party.json("status")["http"] is None
    party.stop()
    party.configure('[http]\nlisten = "0.0.0.0:0"\n')
    assert not party.wait_ready(party.launch())
    party.stop()
    assert "HTTP has no TLS" in party.log.read_text()
    party.configure('[http]\nlisten = "0.0.0.0:0"\nremote = true\n')
    party.start()
    party.stop()


def test_an_address_that_is_taken_stops_the_start(tmp_path: Path) -> None:
    party = nodes.Party(tmp_path, "acme.example")
    party.tally("init", "--name", "acme.example")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        party.configure(f'[http]\nlisten = "127.0.0.1:{taken.getsockname()[1]}"\n')
        assert not party.wait_ready(party.launch())
        party.stop()
    said = party.log.read_text()
    assert "cannot listen for HTTP" in said
    assert "Traceback" not in said


def test_a_period_is_closed_and_its_bundle_verifies(tmp_path: Path) -> None:
    with nodes.channel(tmp_path) as (acme, beta):
        url = acme.json("status")["http"]
        key = acme.json("keys", "add", "books", "--scope", "admin")["key"]
        with httpx.Client(
            base_url=f"{url}/v1/channels/beta.example",
            headers={"Authorization": f"Bearer {key}"},
            timeout=60,
        ) as http:
            delta = {
                "id": "one",
                "meter": "context-tokens",
                "subject": "s",
                "quantity": "7",
                "occurred_at": "2026-10-01T10:20:30Z",
            }
            assert http.post("/deltas?wait_seconds=30", json=delta).status_code == 202
            closed = http.post("/checkpoints/2026-10-01T10")
            assert closed.status_code == 200, closed.text
            assert closed.json() == http.post("/checkpoints/2026-10-01T10").json()
            assert closed.json() == beta.json("checkpoint", "2026-10-01T10")
            assert closed.json()["lines"] == 1
            listed = http.get("/checkpoints").json()["checkpoints"]
            assert [one["period"] for one in listed] == ["2026-10-01T10"]
            for full in ("false", "true"):
                bundle = http.get(f"/bundles/2026-10-01T10?full={full}")
                file = tmp_path / f"{full}.tally"
                file.write_bytes(bundle.content)
                assert acme.json("verify", str(file))["ok"]
            assert http.get("/bundles/2026-10-01T10?full=yes").status_code == 400
            for kind, begins in (("pdf", b"%PDF-"), ("html", b"<!")):
                name = f"2026-10-01T10.{kind}"
                statement = http.get(f"/statements/{name}")
                assert statement.content.startswith(begins)
                (tmp_path / name).write_bytes(statement.content)
                assert acme.json("verify", str(tmp_path / name))["ok"]
            for name, status in (("2026-10-01T11.pdf", 400), ("2026-10-01T10.doc", 400)):
                assert http.get(f"/statements/{name}").status_code == status
            assert http.get("/statements/2026-10-01T11.pdf?draft=true").status_code == 200


def test_a_node_stops_though_callers_hang(tmp_path: Path) -> None:
    party = nodes.Party(tmp_path, "acme.example")
    party.tally("init", "--name", "acme.example")
    party.start()
    host, _, port = party.json("status")["http"].removeprefix("http://").rpartition(":")
    one = socket.create_connection((host, int(port)))
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    one.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500)
    process = party.process
    assert process is not None
    time.sleep(0.5)
    party.stop()
    assert process.returncode == 0
    one.close()


async def _serve(
    app: Starlette, most: int, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(listeners[0].socket.getsockname()[1])
    await Connections(app, most).serve(listeners)


async def _hello(request: Request) -> Response:
    return Response(b"x" * 20_000_000)


async def test_a_caller_that_does_not_read_is_given_up(
    monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    monkeypatch.setattr(connections, "STILL_SECONDS", 0.3)
    port = await nursery.start(_serve, Starlette(routes=[Route("/", _hello)]), 1)
    async with await trio.open_tcp_stream("127.0.0.1", port) as still:
        await still.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with trio.fail_after(60):
            while True:  # its place is free once it was given up
                async with httpx.AsyncClient() as client:
                    answer = await client.get(f"http://127.0.0.1:{port}/", timeout=60)
                if answer.status_code == 200:
                    break
                assert answer.status_code == 503
                assert answer.json()["detail"].startswith("too many connections")
                await trio.sleep(0.1)


async def test_more_requests_than_agreed_are_refused(autojump_clock: trio.abc.Clock) -> None:
    limits = Limits(Http(requests_per_second=3, requests_at_once=2))
    for _ in range(3):
        async with limits.hold("a"), limits.hold("b"):
            pass
    with pytest.raises(Refused, match="3 requests a second") as raised:
        async with limits.hold("a"):
            pass
    assert raised.value.status == 429
    await trio.sleep(1)
    async with limits.hold("a"), limits.hold("a"):
        with pytest.raises(Refused, match="2 requests at once"):
            async with limits.hold("a"):
                pass
        async with limits.hold("b"):
            pass


async def test_who_is_remembered_keeps_what_is_at_work(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.abc.Clock
) -> None:
    monkeypatch.setattr("tallystick.node.api.limits.CALLERS_MAX", 2)
    limits = Limits(Http(requests_per_second=3, requests_at_once=1))
    async with limits.hold("a"):
        await trio.sleep(5)  # its bucket is full again
        for other in "bcde":
            async with limits.hold(other):
                pass
        with pytest.raises(Refused, match="1 requests at once"):
            async with limits.hold("a"):
                pass


async def _bytes_of(pieces: int, each: int, seconds: float) -> bytes:
    left = pieces

    async def receive() -> dict[str, object]:
        nonlocal left
        await trio.sleep(seconds)
        left -= 1
        return {"type": "http.request", "body": bytes(each), "more_body": left > 0}

    return await read_body(Request({"type": "http", "headers": []}, receive), 10**9)


async def test_a_body_may_be_large_but_not_slow(autojump_clock: trio.abc.Clock) -> None:
    assert len(await _bytes_of(100, 100_000, 5)) == 10_000_000
    with pytest.raises(Refused, match="too slowly") as raised:
        await _bytes_of(100, 1, 5)
    assert raised.value.status == 408


async def test_one_who_reads_much_is_not_in_the_way_of_others(
    autojump_clock: trio.abc.Clock,
) -> None:
    nothing: Any = None  # no store is asked here
    reader = Reader(nothing)
    done: list[str] = []

    async def ask(asker: str) -> None:
        ASKER.set(asker)

        async def work() -> None:
            await trio.sleep(10)
            done.append(asker)

        await reader.in_turn(work)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask, "greedy")
        await trio.sleep(1)
        nursery.start_soon(ask, "modest")
    assert done.index("modest") == 1
    assert done.count("greedy") == 20
