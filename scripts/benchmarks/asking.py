"""Requests to a node at its local socket as cheap as a client can make them, and punctual ones.

The same HTTP as the command line's (`tallystick.node.rpc`), without a general client's cost, so
that a thousand requests a second leave the processor to the nodes.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tallystick.node.rpc import decode_answer, encode_arguments

CONNECTIONS_MAX = 512
RECEIVE_BYTES = 65_536
END = b"\r\n\r\n"


class Asker:
    """Requests to one socket. A connection serves one at a time; as many are made as it takes."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._idle: list[trio.SocketStream] = []
        self._places = trio.Semaphore(CONNECTIONS_MAX)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[trio.SocketStream]:
        async with self._places:
            if self._idle:
                stream = self._idle.pop()
            else:
                stream = await self._connect()
            try:
                yield stream
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
            self._idle.append(stream)

    async def _connect(self) -> trio.SocketStream:
        """On a thread: where many wait to be let in, only a blocking connect waits with them."""
        plain = socket.socket(socket.AF_UNIX)
        try:
            await trio.to_thread.run_sync(plain.connect, self._path)
            plain.setblocking(False)
            return trio.SocketStream(trio.socket.from_stdlib_socket(plain))
        except BaseException:
            plain.close()
            raise

    async def ask(self, method: str, **params: object) -> Any:
        """The method's result. The node ends connections that were idle for some seconds: then it
        is asked once more, on a new one.
        """
        body = encode_arguments(params)
        head = f"POST /rpc/{method} HTTP/1.1\r\nhost: node\r\ncontent-length: {len(body)}\r\n\r\n"
        request = head.encode() + body
        try:
            return await self._exchange(request)
        except (trio.BrokenResourceError, EOFError):
            await self.close()
            return await self._exchange(request)

    async def _exchange(self, request: bytes) -> Any:
        async with self._connection() as stream:
            await stream.send_all(request)
            answer = bytearray()
            while (end := answer.find(END)) < 0:
                await _receive(stream, answer)
            status = int(answer[9:12])
            length = _length(bytes(answer[:end]))
            while len(answer) < end + len(END) + length:
                await _receive(stream, answer)
        return decode_answer(status, bytes(answer[end + len(END) :]))

    async def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            await trio.aclose_forcefully(self._idle.pop())


async def _receive(stream: trio.SocketStream, answer: bytearray) -> None:
    data = await stream.receive_some(RECEIVE_BYTES)
    if not data:
        raise EOFError
    answer += data


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise EOFError  # the node always says how long an answer is


@asynccontextmanager
async def ticks(schedule: Sequence[float]) -> AsyncIterator[trio.lowlevel.FdStream]:
    """A stream that gets a byte at each of these times (of `perf_counter`), from a thread.

    trio's own timers wake up to a millisecond late, which is more than what is measured.
    """
    ours, theirs = os.pipe()
    gone = threading.Event()

    def tick() -> None:
        for at in schedule:
            left = at - time.perf_counter()
            if left > 0:
                time.sleep(left)
            if gone.is_set():
                return
            os.write(theirs, b".")

    thread = threading.Thread(target=tick)
    stream = trio.lowlevel.FdStream(ours)
    thread.start()
    try:
        yield stream
    finally:
        gone.set()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(thread.join)
            await stream.aclose()
        os.close(theirs)
