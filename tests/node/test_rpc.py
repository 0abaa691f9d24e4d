"""The node's socket: answers in any order, errors as what they are, and nothing it cannot bear."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from tallystick.node.errors import NodeUnreachable, PairingError
from tallystick.node.home import Home, create_home
from tallystick.node.rpc import FRAME_BYTES_MAX, RpcClient, RpcServer
from tallystick.protocol.errors import FormatError, InputError, TallyError
from tallystick.protocol.framing import frame

_GARBAGE = [
    b"GET / HTTP/1.1\r\n\r\n",
    frame(b"\xc1"),
    frame(b"\x90"),
    frame(b"\x93\x01\xa1\xff\x80"),  # a method's name that is not UTF-8
    frame(b"\x93\x01\xa4echo\x81\xa5value" + b"\x91" * 200_000 + b"\xc0"),  # nested without end
]


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
        return bytes(FRAME_BYTES_MAX)

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


@pytest.mark.parametrize("data", _GARBAGE)
async def test_garbage_ends_its_connection_and_no_other(tmp_path: Path, data: bytes) -> None:
    async with _serving(tmp_path) as (home, _), RpcClient.connect(home) as client:
        async with await trio.open_unix_socket(str(home.socket_path)) as stream:
            await stream.send_all(data)
            with trio.fail_after(5):
                assert await stream.receive_some() == b""
        assert await client.call("echo", value=3) == 3


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
        async with await trio.open_unix_socket(str(home.socket_path)) as stream:
            # The answer to the first request breaks off, for nobody takes it.
            for request in (
                (1, "echo", {"value": bytes(4 * 1024 * 1024)}),
                (2, "work", {"file": str(file)}),
            ):
                await stream.send_all(frame(msgspec.msgpack.encode(request)))
        assert await client.call("echo", value=5) == 5
        methods.gate.set()
        with trio.fail_after(5):
            await methods.worked.wait()
        assert file.exists()


async def test_no_node_says_how_to_start_one(tmp_path: Path) -> None:
    home = create_home(tmp_path / "h", "acme.example", bytes(32))
    with pytest.raises(NodeUnreachable) as raised:
        async with RpcClient.connect(home):
            pass
    assert raised.value.advice.endswith("run")
