"""The node's socket: answers in any order, errors as what they are, and nothing it cannot bear."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tallystick.node.errors import NodeUnreachable, PairingError
from tallystick.node.home import Home, create_home
from tallystick.node.rpc import RpcClient, RpcServer
from tallystick.protocol.errors import FormatError, InputError, TallyError
from tallystick.protocol.framing import frame


class _Methods:
    """A few methods, and how many calls ran at once."""

    def __init__(self) -> None:
        self.gate = trio.Event()

    async def echo(self, value: object) -> object:
        return value

    async def wait(self) -> str:
        await self.gate.wait()
        return "waited"

    async def fail(self, kind: str) -> None:
        raise {"input": InputError, "pairing": PairingError}[kind]("no", "do this")

    async def crash(self) -> None:
        raise ZeroDivisionError


@asynccontextmanager
async def _serving(folder: Path) -> AsyncIterator[tuple[Home, _Methods]]:
    home = create_home(folder / "h", "acme.example", bytes(32))
    methods = _Methods()
    names = ("echo", "wait", "fail", "crash")
    async with trio.open_nursery() as nursery:
        server = RpcServer({name: getattr(methods, name) for name in names})
        await nursery.start(server.serve, home.socket_path)
        yield home, methods
        nursery.cancel_scope.cancel()


async def test_values_come_back_and_the_socket_is_ours_alone(tmp_path: Path) -> None:
    async with _serving(tmp_path) as (home, _), RpcClient.connect(home) as client:
        value = {"a": [1, -1, None, True, "é", b"\x00"]}
        assert await client.call("echo", value=value) == value
        assert stat.S_IMODE(home.socket_path.stat().st_mode) == 0o600
    assert not home.socket_path.exists()


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
    with pytest.raises(BaseExceptionGroup) as raised:
        async with _serving(tmp_path) as (home, _), RpcClient.connect(home) as client:
            await client.call("fail", kind=kind)
    assert raised.group_contains(expected, match="no. do this")


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


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", frame(b"\xc1"), frame(b"\x90")])
async def test_garbage_ends_its_connection_and_no_other(tmp_path: Path, data: bytes) -> None:
    async with _serving(tmp_path) as (home, _), RpcClient.connect(home) as client:
        async with await trio.open_unix_socket(str(home.socket_path)) as stream:
            await stream.send_all(data)
            with trio.fail_after(5):
                assert await stream.receive_some() == b""
        assert await client.call("echo", value=3) == 3


async def test_no_node_says_how_to_start_one(tmp_path: Path) -> None:
    home = create_home(tmp_path / "h", "acme.example", bytes(32))
    with pytest.raises(NodeUnreachable) as raised:
        async with RpcClient.connect(home):
            pass
    assert raised.value.advice.endswith("run")
