"""Connections under attack: what callers without a key hold up, and what is no HTTP/1.1."""

from __future__ import annotations

import os
from contextlib import aclosing
from pathlib import Path

import pytest
import trio
import trio.testing
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tallystick.node.api import connections
from tallystick.node.api.connections import Connections
from tallystick.node.api.doors import KeyedDoor
from tallystick.node.api.keys import FILE, ApiKeys
from tallystick.node.api.limits import Limits
from tallystick.node.config import Http
from tallystick.node.home import create_home

HEAD = b"Host: localhost\r\n"
PATIENCE_SECONDS = 20
REST_SECONDS = 0.5


async def _now(request: Request) -> Response:
    return Response(b"now")


async def _slowly(request: Request) -> Response:
    await trio.testing.wait_all_tasks_blocked()  # until the whole body waits at our door
    return Response(b"slowly")


async def _body(request: Request) -> Response:
    return Response(str(len(await request.body())))


APP = Starlette(
    routes=[
        Route("/", _now, methods=["GET"]),
        Route("/open", _now),
        Route("/slowly", _slowly),
        Route("/body", _body, methods=["POST"]),
    ]
)


async def _serve(
    app: ASGIApp, most: int, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(listeners[0].socket.getsockname()[1])
    await Connections(app, most).serve(listeners)


async def _read_to_the_end(stream: trio.SocketStream) -> bytes:
    heard = b""
    with trio.fail_after(PATIENCE_SECONDS):
        async for piece in stream:
            heard += piece
    return heard


async def _answer(stream: trio.SocketStream, end: bytes) -> bytes:
    heard = b""
    with trio.fail_after(PATIENCE_SECONDS):
        while not heard.endswith(end):
            piece = await stream.receive_some()
            assert piece, heard
            heard += piece
    return heard


async def test_a_body_that_nobody_wants_holds_no_connection(nursery: trio.Nursery) -> None:
    port = await nursery.start(_serve, APP, 10)
    async with await trio.open_tcp_stream("127.0.0.1", port) as one:
        head = b"GET /slowly HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
        await one.send_all(head + b"1\r\nx\r\n" * 5000)
        heard = await _read_to_the_end(one)
    assert heard.startswith(b"HTTP/1.1 200")
    assert heard.endswith(b"slowly")


async def _long(request: Request) -> Response:
    await trio.sleep(3 * REST_SECONDS)
    return Response(b"long")


async def test_who_rests_too_long_is_let_go_and_who_is_answered_is_not(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "KEEP_ALIVE_SECONDS", REST_SECONDS)
    app = Starlette(routes=[Route("/long", _long)])
    port = await nursery.start(_serve, app, 10)
    async with await trio.open_tcp_stream("127.0.0.1", port) as one:
        assert await _read_to_the_end(one) == b""  # it never asked anything
    async with await trio.open_tcp_stream("127.0.0.1", port) as one:
        for _ in range(2):
            await one.send_all(b"GET /long HTTP/1.1\r\n" + HEAD + b"\r\n")
            assert (await _answer(one, b"long")).startswith(b"HTTP/1.1 200")
        assert await _read_to_the_end(one) == b""  # it does not go on


@pytest.mark.parametrize(
    ("sent", "begins"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"HTTP/1.1 505"),
        (
            b"GET / HTTP/1.1\r\n"
            + HEAD
            + b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n"
            + b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
            b"HTTP/1.1 200",
        ),
        (
            b"GET / HTTP/1.1\r\n"
            + HEAD
            + b"Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            b"HTTP/1.1 200",
        ),
        (
            b"POST /body HTTP/1.1\r\n"
            + HEAD
            + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            + b"GET / HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 400",
        ),
        (
            b"POST /body HTTP/1.1\r\n" + HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nab",
            b"HTTP/1.1 400",
        ),
    ],
)
async def test_only_http_1_is_spoken_and_a_request_has_one_end(
    nursery: trio.Nursery, sent: bytes, begins: bytes
) -> None:
    port = await nursery.start(_serve, APP, 10)
    async with await trio.open_tcp_stream("127.0.0.1", port) as one:
        await one.send_all(sent)
        heard = await _read_to_the_end(one)
    assert heard.startswith(begins)
    assert heard.count(b"HTTP/1.1 ") == 1


async def test_a_refusal_is_read_though_the_body_still_comes(nursery: trio.Nursery) -> None:
    port = await nursery.start(_serve, APP, 10)
    async with await trio.open_tcp_stream("127.0.0.1", port) as one:
        await one.send_all(b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length: 8000000\r\n\r\n")
        for _ in range(80):
            await one.send_all(bytes(100_000))
        assert (await _read_to_the_end(one)).startswith(b"HTTP/1.1 405")


def _door(folder: Path) -> tuple[KeyedDoor, ApiKeys]:
    keys = ApiKeys(create_home(folder / "h", "acme.example", bytes(32)))
    hosts, open_paths = frozenset({"localhost"}), frozenset({"/open"})
    return KeyedDoor(APP, keys, Limits(Http()), hosts, open_paths, ("/\0",)), keys


async def test_those_without_a_key_keep_out_nobody(tmp_path: Path, nursery: trio.Nursery) -> None:
    door, keys = _door(tmp_path)
    key = keys.add("ci", ["read"], "").encode()
    asked = b"GET / HTTP/1.1\r\nAuthorization: Bearer " + key + b"\r\n" + HEAD + b"\r\n"
    port = await nursery.start(_serve, door, 4)

    async def connect() -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", port)

    known = [await connect() for _ in range(2)]
    for one in known:
        await one.send_all(asked)
        assert (await _answer(one, b"now")).startswith(b"HTTP/1.1 200")
    strangers = [await connect() for _ in range(10)]
    for number, one in enumerate(strangers):
        with trio.move_on_after(PATIENCE_SECONDS):  # those whose place is taken are closed
            if number < 8:
                await _read_to_the_end(one)
    for one in strangers[8:]:
        await one.send_all(b"GET /open HTTP/1.1\r\n" + HEAD + b"\r\n")
        await _answer(one, b"now")
    known += [await connect() for _ in range(2)]
    for one in known:
        await one.send_all(asked)
        assert (await _answer(one, b"now")).startswith(b"HTTP/1.1 200")
    # All places are with those that have keys: the one that rests longest makes room.
    async with await connect() as late:
        await late.send_all(asked)
        assert (await _answer(late, b"now")).startswith(b"HTTP/1.1 200")
        assert await _read_to_the_end(known[0]) == b""
    for one in (*known, *strangers):
        await one.aclose()


@pytest.mark.parametrize("damage", ["{", "[" * 100_000, "folder", "large", "pipe"])
async def test_keys_that_cannot_be_read_open_nothing(
    tmp_path: Path, nursery: trio.Nursery, damage: str
) -> None:
    door, keys = _door(tmp_path)
    key = keys.add("ci", ["read"], "").encode()
    file = tmp_path / "h" / FILE
    asked = b"GET / HTTP/1.1\r\nAuthorization: Bearer " + key + b"\r\n" + HEAD + b"\r\n"
    port = await nursery.start(_serve, door, 4)
    async with aclosing(await trio.open_tcp_stream("127.0.0.1", port)) as one:
        await one.send_all(asked)
        await _answer(one, b"now")
        good = file.read_bytes()
        file.unlink()
        await one.send_all(asked)
        assert b"HTTP/1.1 401" in await _answer(one, b"}")
        if damage == "folder":
            file.mkdir()
        elif damage == "pipe":
            os.mkfifo(file)
        else:
            file.write_bytes(b" " * 5_000_000 + good if damage == "large" else damage.encode())
        for _ in range(2):
            await one.send_all(asked)
            refused = await _answer(one, b"}")
            assert b"HTTP/1.1 503" in refused
            assert b"keys of this node cannot be read" in refused
            assert str(tmp_path).encode() not in refused
        await one.send_all(b"GET /open HTTP/1.1\r\n" + HEAD + b"\r\n")
        await _answer(one, b"now")
        (file.rmdir if damage == "folder" else file.unlink)()
        file.write_bytes(good)
        await one.send_all(asked)
        await _answer(one, b"now")
