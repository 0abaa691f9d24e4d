"""Witnesses for tests: the real door of a node's, and ones that answer whatever a test says."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import homes
import msgspec
import trio
from nacl.signing import SigningKey

from tallystick.node.config import WitnessedLog, WitnessSettings
from tallystick.node.witnessing.serving import WitnessDoor
from tallystick.protocol.keys import ED25519_COSIGNATURE, Vkey
from tallystick.protocol.witness import (
    NOTHING_SEEN,
    AddCheckpoint,
    Refused,
    Seen,
    check_prefix,
    cosign_checkpoint,
    parse_request,
)

Answer = tuple[int, str, bytes]


class OneWitness:
    """A party that is a witness and has no channel; its home can be opened again."""

    def __init__(self, folder: Path, *logs: Vkey, **settings: object) -> None:
        self.side = homes.Side(folder, "gamma.example")
        self._settings = WitnessSettings(
            serve=True, logs=[WitnessedLog(str(vkey)) for vkey in logs]
        )
        self.set(**settings)

    def set(self, **settings: object) -> None:
        """Change settings before it serves."""
        self._settings = msgspec.structs.replace(self._settings, **settings)  # type: ignore[arg-type]
        books = self.side.books
        books.config = msgspec.structs.replace(books.config, witness=self._settings)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[WitnessDoor]:
        """Its door, open. The store is not closed."""
        door = WitnessDoor(self.side.books)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.side.books.store.run)
            await nursery.start(door.serve)
            yield door
            nursery.cancel_scope.cancel()


class ScriptedWitness:
    """An honest witness as a starting point; `say` may answer in its place, or with None for
    never.
    """

    def __init__(self, name: str = "w") -> None:
        self.key = SigningKey(name.encode().ljust(32))
        self.vkey = Vkey(f"{name}.example", ED25519_COSIGNATURE, bytes(self.key.verify_key))
        self.seen: dict[str, Seen] = {}
        self.now_s = 1_800_000_000
        self.asked: list[AddCheckpoint] = []
        self.say: Callable[[AddCheckpoint], Answer | None] = self.honest
        self.url = ""

    def honest(self, request: AddCheckpoint) -> Answer:
        """What a witness says that believes any signature."""
        head = request.head
        try:
            check_prefix(request, self.seen.get(head.origin, NOTHING_SEEN))
        except Refused as refused:
            return refused.status, refused.content_type, refused.body
        self.seen[head.origin] = Seen(head.size, head.root)
        return self.line(request.checkpoint.text)

    def line(self, text: str) -> Answer:
        """A line on a text, and that without a look at it."""
        made = cosign_checkpoint(text, self.vkey.name, self.key, self.now_s)
        return 200, "text/plain", made.line().encode()

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve on a free port, or on the one that it had before."""
        port = int(self.url.rpartition(":")[2] or 0)
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        self.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        task_status.started()
        await trio.serve_listeners(self._serve, listeners)

    async def _serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            data = b""
            while b"\r\n\r\n" not in data:
                data += await stream.receive_some(65536) or b"\r\n\r\n"
            head, _, body = data.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: ([0-9]+)", head)
            while length and len(body) < int(length[1]):
                body += await stream.receive_some(65536)
            if not body:
                return
            request = parse_request(body)
            self.asked.append(request)
            answer = self.say(request)
            if answer is None:
                await trio.sleep_forever()
                return
            status, kind, said = answer
            head_ = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nConnection: close\r\n"
            try:
                await stream.send_all(f"{head_}Content-Length: {len(said)}\r\n\r\n".encode() + said)
            except trio.BrokenResourceError:
                return
