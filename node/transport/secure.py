"""TLS on a socket, for frames of any size: all that has arrived is read at once.

A record of TLS has 16 KiB at most. A stream that hands over one a call makes a large batch dear,
and one that can only be awaited makes a small message wait for a task of its own; so this drives
the library on two buffers itself.
"""

from __future__ import annotations

import os
import ssl
from contextlib import suppress

import trio

RECEIVE_BYTES = 128 * 1024
RECORD_BYTES = 16 * 1024


class SecureStream(trio.abc.AsyncResource):
    """One end of a connection; `do_handshake` comes first. One task sends, one receives."""

    def __init__(
        self, stream: trio.SocketStream, context: ssl.SSLContext, server_name: str | None = None
    ) -> None:
        self.transport_stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_name is None,
            server_hostname=server_name,
        )
        self._unsent = b""  # encrypted, and not yet taken by the socket
        self._sending = trio.Lock()
        self._broken = False

    async def do_handshake(self) -> None:
        """Agree on keys; `BrokenResourceError` if the other side does not."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLError as error:
                self._broken = True
                raise trio.BrokenResourceError from error
            else:
                await self._flush()
                return

    def send_nowait(self, data: bytes) -> bool:
        """Send something small if nothing is before it; whether it was taken."""
        fileno = self.transport_stream.socket.fileno()
        busy = self._unsent or self._sending.locked()
        if busy or self._broken or fileno < 0 or len(data) > RECORD_BYTES:
            return False
        self._encrypt(data)
        self._unsent += self._outgoing.read()
        with suppress(OSError):  # it is full; or it broke, as who reads will hear
            self._unsent = self._unsent[os.write(fileno, self._unsent) :]
        if self._unsent:
            trio.lowlevel.spawn_system_task(self._send_rest)
        return True

    async def _send_rest(self) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._flush()

    async def send_all(self, data: bytes) -> None:
        """Send all; `BrokenResourceError` if the connection is gone."""
        self._encrypt(data)
        await self._flush()

    def _encrypt(self, data: bytes) -> None:
        try:
            if data:
                self.tls.write(data)
        except ssl.SSLError as error:
            self._broken = True
            raise trio.BrokenResourceError from error

    async def _flush(self) -> None:
        async with self._sending:
            while self._unsent or self._outgoing.pending:
                self._unsent += self._outgoing.read()
                sent = await self._send_some(self._unsent)
                self._unsent = self._unsent[sent:]

    async def _send_some(self, data: bytes) -> int:
        try:
            return await self.transport_stream.socket.send(data)
        except OSError as error:
            self._broken = True
            raise trio.BrokenResourceError from error

    async def receive_some(self) -> bytes:
        """All that has arrived, as soon as there is something; empty at the end.
        `BrokenResourceError` if there was none.
        """
        while True:
            pieces: list[bytes] = []
            ended = False
            try:
                while not ended:
                    pieces.append(self.tls.read(RECORD_BYTES))
                    ended = not pieces[-1]
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                self._broken = True
                if not any(pieces):
                    raise trio.BrokenResourceError from error
            if self._outgoing.pending:  # the other side changed its keys
                await self._flush()
            if pieces:
                return b"".join(pieces)
            await self._fill()

    async def _fill(self) -> None:
        data = await self.transport_stream.receive_some(RECEIVE_BYTES)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def aclose(self) -> None:
        """Say that no more comes, and close."""
        try:
            if not self._broken:
                with suppress(ssl.SSLError):
                    self.tls.unwrap()
                await self._flush()
        finally:
            await self.transport_stream.aclose()
