"""The node's socket: answers in any order, errors as what they are, and nothing it cannot bear."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpcore
import msgspec
import pytest
import trio
from starlette.applications import Starlette

from tallystick.node.api.connections import Connections
from tallystick.node.api.doors import OwnersDoor
from tallystick.node.api.rpc import Rpc
from tallystick.node.api.server import serve_socket
from tallystick.node.errors import NodeUnreachable, PairingError
from tallystick.node.home import Home, create_home
from tallystick.node.rpc import BODY_BYTES_MAX, RpcClient
from tallystick.protocol.errors import FormatError, InputError, TallyError


class _Methods:
    """A few methods, and how many calls ran at once."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.worked = trio.Event()

    async def echo(self, value: object) -> object:
        return value

    async def wait(self) -> str:
        await self.gate.wait()
        return "waited"

    async def fail(self, kind: str) -> None:
        raise {"input": InputError, "pairing": PairingError}[kind]("no", "do this")

    async def crash(self) -> None:
        raise ZeroDivisionError

    async def large(self) -> bytes:
        return bytes(BODY_BYTES_MAX)

    async def beyond(self) -> int:
        return 2**64

    async def work(self, file: str) -> None:
        await self.gate.wait()
        Path(file).touch()
        self.worked.set()


@asynccontextmanager
async def _serving(folder: Path) -> AsyncIterator[tuple[Home, _Methods]]:
    home = create_home(folder / "h", "acme.example", bytes(32))
    methods = _Methods()
    names = ("echo", "wait", "fail", "crash", "large", "beyond", "work")
    async with trio.open_nursery() as nursery:
        rpc = Rpc({name: getattr(methods, name) for name in names}, nursery)
        app = Starlette(routes=rpc.routes)
        await nursery.start(serve_socket, Connections(OwnersDoor(app), 100), home.socket_path)
        yield home, methods
        nursery.cancel_scope.cancel()


async def _post(home: Home, path: str, body: bytes) -> tuple[int, bytes]:
    async with httpcore.AsyncConnectionPool(uds=str(home.socket_path)) as pool:
        answer = await pool.request("POST", f"http://node{path}", content=body)
        return answer.status, answer.content


async def test_values_come_back_and_the_socket_is_ours_alone(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (home, _), RpcClient.connect(home) as client:
        value = {"a": [1, -1, None, True, "é", b"\x00"]}
        assert await client.call("echo", value=value) == value
        assert stat.S_IMODE(home.socket_path.stat().st_mode) == 0o600
    assert not home.socket_path.exists()


async def test_text_that_is_not_utf_8_is_not_sent(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (home, _), RpcClient.connect(home) as client:
        with pytest.raises(InputError, match="is not UTF-8"):
            await client.call("echo", value="a\udcff")
        assert await client.call("echo", value="a") == "a"


async def test_a_waiting_request_does_not_hold_up_the_next(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (home, methods), RpcClient.connect(home) as client:
        answers: list[object] = []

        async def wait() -> None:
            answers.append(await client.call("wait"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            assert await client.call("echo", value=1) == 1
            assert not answers
            methods.gate.set()
        assert answers == ["waited"]


@pytest.mark.parametrize(("kind", "expected"), [("input", InputError), ("pairing", PairingError)])
async def test_an_error_arrives_as_what_it_was(
    tmp_path: Path, kind: str, expected: type[TallyError]
) -> None:
    async with _serving(tmp_path) as (home, _), RpcClient.connect(home) as client:
        with pytest.raises(expected, match="do this"):
            await client.call("fail", kind=kind)


async def test_a_bug_in_a_method_is_said_and_does_not_stop_the_node(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with _serving(tmp_path) as (home, _), RpcClient.connect(home) as client:
        with pytest.raises(TallyError, match="failed inside the node"):
            await client.call("crash")
        with pytest.raises(FormatError, match="does not know 'fly'"):
            await client.call("fly")
        assert await client.call("echo", value=2) == 2
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        b"\xc1",
        b"\x90",
        b"\x81\xa1\xff\x01",  # a name that is not UTF-8
        b"\x81\xa5value" + b"\x91" * 200_000 + b"\xc0",  # nested without end
        b"",
    ],
)
async def test_garbage_is_said_and_does_not_stop_the_node(tmp_path: Path, body: bytes) -> None:
    async with _serving(tmp_path) as (home, _), RpcClient.connect(home) as client:
        status, said = await _post(home, "/rpc/echo", body)
        assert status == 500
        assert msgspec.msgpack.decode(said)[0] == "FormatError"
        assert await client.call("echo", value=3) == 3


async def test_what_is_no_http_ends_its_connection_and_no_other(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (home, _), RpcClient.connect(home) as client:
        async with await trio.open_unix_socket(str(home.socket_path)) as stream:
            await stream.send_all(b"\x00\x00\x00\x02\xc1\xc1\r\n\r\n")
            with trio.fail_after(60):
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 400")
        assert await client.call("echo", value=3) == 3


async def test_a_parameter_that_a_method_does_not_take_is_said(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (home, _), RpcClient.connect(home) as client:
        with pytest.raises(TallyError, match="echo failed inside the node"):
            await client.call("echo", other=1)


@pytest.mark.parametrize(
    ("method", "kind", "said"),
    [
        ("large", InputError, "bytes, 16777216 are"),
        ("beyond", TallyError, "failed inside the node"),
    ],
)
async def test_an_answer_that_cannot_be_sent_is_said_and_does_not_stop_the_node(
    tmp_path: Path, method: str, kind: type[TallyError], said: str
) -> None:
    async with _serving(tmp_path) as (home, _), RpcClient.connect(home) as client:
        with pytest.raises(kind, match=said):
            await client.call(method)
        assert await client.call("echo", value=4) == 4


async def test_a_caller_that_leaves_gets_its_work_done(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (home, methods), RpcClient.connect(home) as client:
        file = tmp_path / "done"
        with trio.move_on_after(0.5) as impatience:
            await client.call("work", file=str(file))
        assert impatience.cancelled_caught
        methods.gate.set()
        with trio.fail_after(60):
            await methods.worked.wait()
        assert file.exists()


async def test_no_node_says_how_to_start_one(tmp_path: Path) -> None:
    home = create_home(tmp_path / "h", "acme.example", bytes(32))
    async with RpcClient.connect(home) as client:
        with pytest.raises(NodeUnreachable) as raised:
            await client.call("live")
    assert raised.value.advice.endswith("run")
