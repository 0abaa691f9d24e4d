"""A hostile peer: beta's own keys and logs in hands that say whatever they like to acme's node.

It speaks over real TLS. What it knows of acme's state it reads from beta's home, whose node is
stopped; from then on it keeps count of what it appended itself.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nodes
import trio

from tallystick.node.books import Books
from tallystick.node.errors import PeerUnreachable
from tallystick.node.home import open_home
from tallystick.node.rpc import RpcClient
from tallystick.node.transport import tls
from tallystick.protocol.framing import FrameReader, frame
from tallystick.protocol.heads import Head, sign_head
from tallystick.protocol.keys import Identity, origin
from tallystick.protocol.log import LogState, append
from tallystick.protocol.messages import (
    FRAME_BYTES_MAX,
    Append,
    Bye,
    Channels,
    Halt,
    Hello,
    Holding,
    Message,
    decode_message,
    encode_message,
)
from tallystick.protocol.records import Delta, Record, Terms, batch_bytes, encode_record

HEARD_SECONDS = 10
DELTA_AT_US = 1_790_000_000_000_000


class HostileLog:
    """Beta's log in one channel, as long as the attacker has made it."""

    def __init__(self, identity: Identity, channel: bytes, terms: Terms, state: LogState) -> None:
        self.identity = identity
        self.channel = channel
        self.terms = terms
        self.state = state

    def extend(self, *records: Record) -> Append:
        """An honest append of these records; the log goes on from there."""
        message, self.state = self._append(self.state, records)
        return message

    def fork(self, *records: Record, state: LogState | None = None) -> Append:
        """An append that the log here does not follow."""
        return self._append(state or self.state, records)[0]

    def _append(self, state: LogState, records: Sequence[Record]) -> tuple[Append, LogState]:
        parts = [encode_record(record) for record in records]
        after = append(state, parts, state.facts).state
        signature = self.sign(after.size, after.frontier.root())
        return Append(self.channel, state.size, batch_bytes(parts), signature), after

    def sign(self, size: int, root: bytes) -> bytes:
        """Beta's signature on a head of its log."""
        return sign_head(self.head(size, root), self.identity.signer("log"))

    def head(self, size: int, root: bytes, party: str = "") -> Head:
        """A head of this log, or of another party's in the channel."""
        return Head(origin(party or self.identity.name, self.channel), size, root)

    def holding(self, size: int = 0) -> Holding:
        """What an honest beta would say that lost its copy of acme's log."""
        return Holding(self.channel, 0, self.state.size, size, bytes(32), b"", b"")


def delta(id: str, meter: str = "counted", quantity: int = 1, subject: str = "s") -> Delta:
    """A delta that is valid as it stands."""
    return Delta(id, meter, subject, quantity, DELTA_AT_US, DELTA_AT_US, None)


@dataclass
class Line:
    """One connection of the attacker's."""

    stream: tls.PeerStream
    heard: list[Message] = field(default_factory=list)
    closed: bool = False

    async def say(self, *messages: Message) -> None:
        """Send messages, whatever the protocol says of them."""
        await self.raw(b"".join(frame(encode_message(message)) for message in messages))

    async def raw(self, data: bytes) -> None:
        """Send bytes."""
        await self.stream.send(data)

    async def flood(self, data: bytes, seconds: float) -> int:
        """Send the same bytes again and again; how many times it went through."""
        count = 0
        with trio.move_on_after(seconds):
            try:
                while True:
                    await self.raw(data)
                    count += 1
            except PeerUnreachable:
                self.closed = True
        return count

    async def read(self) -> None:
        """Take in what acme says until it hangs up."""
        reader = FrameReader(FRAME_BYTES_MAX)
        while data := await self.stream.receive():
            reader.feed(data)
            while (body := reader.next_body()) is not None:
                self.heard.append(decode_message(body))
        self.closed = True

    async def until(self, kind: type[Message], channel: bytes | None = None) -> Any:
        """The first message of a kind, about a channel."""
        with trio.fail_after(HEARD_SECONDS):
            while True:
                for message in self.heard:
                    about = getattr(message, "channel", None)
                    if isinstance(message, kind) and channel in (None, about):
                        return message
                assert not self.closed, f"acme hung up; it had said {self.heard[-3:]}"
                await trio.sleep(0.01)

    async def gone(self) -> str:
        """Wait until acme hangs up; the code of its bye, if it said one."""
        with trio.fail_after(HEARD_SECONDS):
            while not self.closed:
                await trio.sleep(0.01)
        return next((m.code for m in self.heard if isinstance(m, Bye)), "")

    async def halted(self, channel: bytes) -> str:
        """Wait until acme halts the channel; its reason."""
        reason: str = (await self.until(Halt, channel)).reason
        return reason


class Attacker:
    """Speaks to acme with beta's own keys."""

    def __init__(self, acme: nodes.Party, beta: nodes.Party) -> None:
        books = Books.open(open_home(beta.home), read_only=True)
        self.identity = books.identity
        peer = books.peers[acme.name]
        self.acme = acme
        self.logs = [
            HostileLog(self.identity, key, channel.terms, channel.own.state)
            for key, (channel, _) in books.channels.items()
        ]
        self._key = peer.transport_key
        certificate = tls.certificate_der(self.identity.name, self.identity.transport)
        self._context = tls.session_context(
            self.identity, certificate, peer.transport_certificate, beta.home
        )
        books.close()

    async def dial(self) -> tls.PeerStream:
        """A connection on which nothing was said yet."""
        return await tls.dial(self.acme.address, self._context, self._key, 10)

    def hello(self) -> Hello:
        """What an honest beta says first."""
        return Hello(1, self.identity.name, int(time.time()), "")

    @asynccontextmanager
    async def line(self, *logs: HostileLog, read: bool = True) -> AsyncIterator[Line]:
        """A session in which these channels are open; with `read` off nothing of it is read."""
        async with trio.open_nursery() as nursery:
            line = Line(await self.dial())
            try:
                if read:
                    nursery.start_soon(line.read)
                channels = Channels([log.channel for log in self.logs])
                await line.say(self.hello(), channels)
                for log in logs:
                    if read:
                        await line.until(Holding, log.channel)
                    await line.say(log.holding())
                yield line
            finally:
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(line.stream._stream.transport_stream)


def call(party: nodes.Party, method: str, **params: object) -> Any:
    """One request to a running node, as the command line makes it."""

    async def ask() -> Any:
        async with RpcClient.connect(open_home(party.home)) as client:
            return await client.call(method, **params)

    return trio.run(ask)


@dataclass
class Usage:
    """What a process used while it was watched: the most memory above the start, disk, CPU."""

    memory_bytes: int = 0
    disk_bytes: int = 0
    cpu_seconds: float = 0.0


def memory_bytes(pid: int) -> int:
    """A process's own resident memory; mapped files' pages are not its own."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


def disk_bytes(folder: Path) -> int:
    """What the files of a folder take on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def watched(party: nodes.Party) -> Iterator[Usage]:
    """Measure a running node from the outside; the figures hold once the block has ended."""
    assert party.process is not None
    pid = party.process.pid
    usage, over = Usage(), threading.Event()
    before, disk, cpu = memory_bytes(pid), disk_bytes(party.home), _cpu_seconds(pid)

    def look() -> None:
        while not over.wait(0.01):
            usage.memory_bytes = max(usage.memory_bytes, memory_bytes(pid) - before)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield usage
    finally:
        over.set()
        watcher.join()
        usage.disk_bytes = disk_bytes(party.home) - disk
        usage.cpu_seconds = _cpu_seconds(pid) - cpu
