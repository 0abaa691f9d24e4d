"""Requests of the plain form: answered as the general server answers them, in any company."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tallystick.node.api.connections import Connections
from tallystick.node.api.doors import OwnersDoor
from tallystick.node.api.plain import plain_request
from tallystick.node.api.rpc import Rpc
from tallystick.node.api.server import serve_socket
from tallystick.node.rpc import decode_answer, encode_arguments

PATIENCE_SECONDS = 60
HEAD = b"POST /rpc/echo HTTP/1.1\r\nHost: node\r\n"


def _request(value: object, *headers: bytes) -> bytes:
    body = encode_arguments({"value": value})
    lines = [b"content-length: %d" % len(body), *headers]
    return HEAD + b"\r\n".join(lines) + b"\r\n\r\n" + body


class _World:
    """A server of one method, and which of its two ways took how many requests."""

    def __init__(self) -> None:
        self.plain = self.general = 0
        self.may_show = trio.Event()

    async def echo(self, value: object) -> object:
        return value

    @asynccontextmanager
    async def serving(self, folder: Path) -> AsyncIterator[trio.SocketStream]:
        path = folder / "socket"
        async with trio.open_nursery() as nursery:
            rpc = Rpc({"echo": self.echo}, nursery)

            async def plain(method: str, body: bytes) -> tuple[int, bytes]:
                self.plain += 1
                return await rpc.call(method, body)

            async def show(request: Request) -> Response:
                await self.may_show.wait()
                return Response(b"shown")

            app = OwnersDoor(Starlette(routes=[*rpc.routes, Route("/show", show)]))

            async def general(scope, receive, send):  # type: ignore[no-untyped-def]
                self.general += 1
                await app(scope, receive, send)

            await nursery.start(serve_socket, Connections(general, 100, plain), path)
            async with await trio.open_unix_socket(str(path)) as stream:
                yield stream
            nursery.cancel_scope.cancel()


async def _answers(stream: trio.SocketStream, count: int) -> list[object]:
    """The values of the next answers."""
    found: list[object] = []
    heard = b""
    with trio.fail_after(PATIENCE_SECONDS):
        while len(found) < count:
            head, there, rest = heard.partition(b"\r\n\r\n")
            lengths = [line for line in head.split(b"\r\n") if line.startswith(b"content-length")]
            length = int(lengths[0].split(b":")[1]) if there else 1
            if not there or len(rest) < length:
                piece = await stream.receive_some()
                assert piece, heard
                heard += piece
                continue
            found.append(decode_answer(int(head[9:12]), rest[:length]))
            heard = rest[length:]
    assert not heard
    return found


async def test_a_plain_request_does_not_go_through_the_general_server(tmp_path: Path) -> None:
    world = _World()
    async with world.serving(tmp_path) as stream:
        for value in (1, "two"):
            await stream.send_all(_request(value))
            assert await _answers(stream, 1) == [value]
    assert (world.plain, world.general) == (2, 0)


@pytest.mark.parametrize(
    "headers",
    [
        [b"expect: 100-continue"],
        [b"connection: keep-alive"],
        [b"x-other: 1"],
        [b"host: a\nx-other: 1"],
    ],
)
async def test_what_has_more_in_its_head_is_answered_all_the_same(
    tmp_path: Path, headers: list[bytes]
) -> None:
    world = _World()
    async with world.serving(tmp_path) as stream:
        await stream.send_all(_request("general", *headers))
        if b"expect" in headers[0]:
            with trio.fail_after(PATIENCE_SECONDS):
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 100")
        if b"\n" in headers[0]:  # two headers for some, and one for others: refused
            with trio.fail_after(PATIENCE_SECONDS):
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 400")
        else:
            assert await _answers(stream, 1) == ["general"]
    assert world.plain == 0


async def test_a_body_may_come_in_pieces_and_requests_in_a_row(tmp_path: Path) -> None:
    world = _World()
    large = bytes(range(256)) * 4096
    async with world.serving(tmp_path) as stream:
        data = _request(large)
        for start in range(0, len(data), 300_000):
            await stream.send_all(data[start : start + 300_000])
        assert await _answers(stream, 1) == [large]
        await stream.send_all(b"".join(_request(n) for n in range(5)))
        assert await _answers(stream, 5) == [0, 1, 2, 3, 4]
    assert (world.plain, world.general) == (6, 0)


async def test_both_forms_may_come_on_one_connection(tmp_path: Path) -> None:
    world = _World()
    async with world.serving(tmp_path) as stream:
        await stream.send_all(_request(1) + b"GET /show HTTP/1.1\r\nhost: node\r\n\r\n")
        assert await _answers(stream, 1) == [1]
        await trio.testing.wait_all_tasks_blocked()
        await stream.send_all(_request(2))  # its answer has to wait for the one before it
        await trio.testing.wait_all_tasks_blocked()
        world.may_show.set()
        with trio.fail_after(PATIENCE_SECONDS):
            assert (await stream.receive_some()).endswith(b"shown")
        assert await _answers(stream, 1) == [2]
        assert (world.plain, world.general) == (1, 2)
        await trio.testing.wait_all_tasks_blocked()  # before, it is still the general one's turn
        await stream.send_all(_request(3))
        assert await _answers(stream, 1) == [3]
        assert world.plain == 2
        # The rest of a head that began with another piece is not a request of its own.
        await stream.send_all(b"POST /rpc/none HTTP/1.1\r\ncontent-length: 0\r\nx: ")
        await trio.testing.wait_all_tasks_blocked()
        await stream.send_all(_request(3))
        with trio.fail_after(PATIENCE_SECONDS):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 400")
    assert world.plain == 2


async def test_a_caller_that_leaves_amid_its_body_ends_its_connection(tmp_path: Path) -> None:
    world = _World()
    async with world.serving(tmp_path) as stream:
        await stream.send_all(_request(bytes(1000))[:-10])
        await stream.send_eof()
        with trio.fail_after(PATIENCE_SECONDS):
            assert await stream.receive_some() == b""
    assert (world.plain, world.general) == (0, 0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEAD,
        HEAD + b"\r\n",
        HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n",
        HEAD + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        HEAD + b"content-length: 16777217\r\n\r\n",
        HEAD + b"content-length: +1\r\n\r\n",
        HEAD + b"content-length : 1\r\n\r\n",
        HEAD + b"host: \r\n content-length: 1\r\n\r\n",
        HEAD.replace(b"1.1", b"1.0") + b"content-length: 1\r\n\r\n",
        HEAD.replace(b"echo", b"echo/") + b"content-length: 1\r\n\r\n",
        HEAD.replace(b"POST", b"GET") + b"content-length: 1\r\n\r\n",
    ],
)
def test_only_the_plain_form_is_taken(data: bytes) -> None:
    assert plain_request(HEAD + b"Content-Length: 7\r\n\r\n") is not None
    assert plain_request(data) is None
