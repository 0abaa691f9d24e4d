"""A hostile peer: beta's own keys and logs in hands that say whatever they like to acme's node.

It speaks over real TLS. What it knows of acme's state it reads from beta's home, whose node is
stopped; from then on it keeps count of what it appended itself.
"""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import nodes
import trio

from tallystick.node import queries
from tallystick.node.books import Books
from tallystick.node.errors import PeerUnreachable
from tallystick.node.home import open_home
from tallystick.node.importing.drafts import Draft
from tallystick.node.rpc import RpcClient
from tallystick.node.transport import tls
from tallystick.protocol.errors import lone_error
from tallystick.protocol.framing import FrameReader, frame
from tallystick.protocol.heads import Head, sign_head
from tallystick.protocol.keys import Identity, origin
from tallystick.protocol.log import LogState, append
from tallystick.protocol.messages import (
    FRAME_BYTES_MAX,
    PROTOCOL_VERSION,
    Append,
    Bye,
    Channels,
    Halt,
    Hello,
    Holding,
    Message,
    Presence,
    decode_message,
    encode_message,
)
from tallystick.protocol.records import Delta, Record, Terms, batch_bytes, encode_record

HEARD_SECONDS = 60
AT_ONCE = 20  # proposals; a node takes 32 that nobody accepted
FILES = 4096  # sockets that the attacker may have open
DELTA_AT_US = 1_790_000_000_000_000
USED, COUNTED = "used", "counted"

TERMS = """\
provider = "{}"
consumer = "{}"
[period]
calendar = "hour"
time_zone = "UTC"
[meters.used]
unit = "token"
source = "provider"
[meters.counted]
unit = "call"
range = ["-1000000", "1000000"]
source = "both"
"""

# The tests connect far more often than any peer; what limits that has a test of its own.
CONFIG = """
[quotas]
links_per_minute = 100000
[connections]
handshake_seconds = 3.0
"""

encode = msgspec.msgpack.Encoder().encode


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


def delta(
    id: str, meter: str = COUNTED, quantity: int = 1, recorded_at: int = DELTA_AT_US
) -> Delta:
    """A delta that is valid as it stands."""
    return Delta(id, meter, "s", quantity, DELTA_AT_US, recorded_at, None)


@dataclass
class Line:
    """One connection of the attacker's."""

    stream: tls.PeerStream
    heard: list[Message] = field(default_factory=list)
    closed: bool = False
    sending: trio.Lock = field(default_factory=trio.Lock)  # pings, and what a test says

    async def say(self, *messages: Message) -> None:
        """Send messages, whatever the protocol says of them."""
        await self.raw(b"".join(frame(encode_message(message)) for message in messages))

    async def raw(self, data: bytes) -> None:
        """Send bytes."""
        async with self.sending:
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

    async def next_after(self, count: int) -> Message:
        """What is heard when so many messages have been heard."""
        with trio.fail_after(HEARD_SECONDS):
            while len(self.heard) <= count:
                assert not self.closed, f"acme hung up; it had said {self.heard[-3:]}"
                await trio.sleep(0.01)
        return self.heard[count]

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
        self.acme_key = peer.transport_key
        certificate = tls.certificate_der(self.identity.name, self.identity.transport)
        self._context = tls.session_context(
            self.identity, certificate, peer.transport_certificate, beta.home
        )
        books.close()

    async def dial(self) -> tls.PeerStream:
        """A connection on which nothing was said yet."""
        return await tls.dial(self.acme.address, self._context, self.acme_key, 10)

    def hello(self) -> Hello:
        """What an honest beta says first."""
        return Hello(PROTOCOL_VERSION, self.identity.name, int(time.time()), "")

    def presence(self) -> Presence:
        """What an honest beta says next, always of the same process."""
        return Presence(b"attacker".ljust(16), 0, False, None)

    @asynccontextmanager
    async def line(self, *logs: HostileLog, read: bool = True) -> AsyncIterator[Line]:
        """A session in which these channels are open; with `read` off nothing of it is read."""
        async with self.bare(read=read) as line:
            await line.say(
                self.hello(), self.presence(), Channels([log.channel for log in self.logs])
            )
            for log in logs:
                if read:
                    await line.until(Holding, log.channel)
                await line.say(log.holding())
            yield line

    @asynccontextmanager
    async def bare(self, *, read: bool = True) -> AsyncIterator[Line]:
        """A connection on which nothing was said yet."""
        async with trio.open_nursery() as nursery:
            line = Line(await self.dial())
            try:
                if read:
                    nursery.start_soon(line.read)
                yield line
            finally:
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(line.stream._stream.transport_stream)


async def call(party: nodes.Party, method: str, **params: object) -> Any:
    """One request to a running node, as the command line makes it."""
    try:
        async with RpcClient.connect(open_home(party.home)) as client:
            return await client.call(method, **params)
    except BaseExceptionGroup as group:
        raise lone_error(group) from None


async def emit(party: nodes.Party, channel: str, ids: Sequence[str], meter: str = USED) -> int:
    """Record deltas; the log's size, once they are durable."""
    drafts = [Draft(id, meter, "s", 1, DELTA_AT_US) for id in ids]
    answer = await call(party, "emit", channel=channel, drafts=encode(drafts))
    size: int = answer["size"]
    return size


async def found(proposer: nodes.Party, accepter: nodes.Party) -> str:
    """Found a channel in which both may record; its id."""
    terms = TERMS.format(proposer.name, accepter.name).encode()
    answer = await call(proposer, "propose", source=terms, to=accepter.name)
    channel: str = answer["channel"]
    await call(accepter, "accept", selector=channel)
    return channel


def standing(party: nodes.Party, channel: str, live: dict[str, Any] | None) -> dict[str, Any]:
    """What `tally status` shows of a channel; `live` is what the running node said of itself."""
    books = Books.open(open_home(party.home), read_only=True)
    try:
        documents = queries.status(books, live)["channels"]
        return next(d for d in documents if d["channel"] == channel)
    finally:
        books.close()


@dataclass
class World:
    """Acme with two counterparties: a hostile one, and gamma, which must not notice."""

    acme: nodes.Party
    gamma: nodes.Party
    attacker: Attacker
    elsewhere: str  # the channel with gamma
    emitted: int = 0
    used: int = 0

    def fresh(self) -> HostileLog:
        """The attacker's log in a channel that no test has spoilt yet."""
        self.used += 1
        return self.attacker.logs[self.used]

    @property
    def shared(self) -> HostileLog:
        """Its log in the channel that stays good."""
        return self.attacker.logs[0]

    async def goes_on_elsewhere(self) -> None:
        """What `tally emit --wait` does, in the channel with gamma."""
        self.emitted += 1
        size = await emit(self.acme, self.elsewhere, [f"elsewhere-{self.emitted}"])
        await call(self.acme, "wait", channel=self.elsewhere, size=size, seconds=10.0)

    def status(self, channel: bytes) -> dict[str, Any]:
        """How a channel stands at acme, on its disk."""
        assert self.acme.process is not None
        assert self.acme.process.poll() is None, "acme's node died"
        return standing(self.acme, channel.hex(), None)

    async def halted(self, log: HostileLog) -> dict[str, Any]:
        """How the channel stands once it is halted on acme's disk."""
        with trio.fail_after(HEARD_SECONDS):
            while (status := self.status(log.channel))["state"] != "halted":
                await trio.sleep(0.02)
        return status

    def log_text(self) -> str:
        """What acme's node wrote to its log."""
        return (self.acme.log).read_text()


@contextmanager
def hostile_world(folder: Path, channels: int) -> Iterator[World]:
    """A world with so many channels between acme and the attacker."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, most), most))
    with ExitStack() as stack:
        parties = [nodes.Party(folder, f"{name}.example") for name in ("acme", "beta", "gamma")]
        acme, beta, gamma = parties
        for party in parties:
            stack.callback(party.stop)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda party: party.tally("init", "--name", party.name), parties))
            acme.configure(CONFIG)
            list(pool.map(nodes.Party.start, parties))

        async def meet() -> str:
            for other in (beta, gamma):
                code = (await call(acme, "invite", lifetime_seconds=600))["code"]
                await call(other, "join", code=code)
            for start in range(0, channels, AT_ONCE):
                async with trio.open_nursery() as nursery:
                    for _ in range(min(AT_ONCE, channels - start)):
                        nursery.start_soon(found, acme, beta)
            return await found(acme, gamma)

        elsewhere = trio.run(meet)
        beta.stop()
        yield World(acme, gamma, Attacker(acme, beta), elsewhere)


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


@contextmanager
def watched(party: nodes.Party) -> Iterator[Usage]:
    """Measure a running node from the outside; the figures hold once the block has ended."""
    assert party.process is not None
    pid = party.process.pid
    usage, over = Usage(), threading.Event()
    before, disk, cpu = memory_bytes(pid), disk_bytes(party.home), party.cpu_seconds()

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
        usage.cpu_seconds = party.cpu_seconds() - cpu
