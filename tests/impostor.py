"""A peer that holds beta's real keys and says what beta's node never would, over a real socket."""

from __future__ import annotations

import time

import nodes
import trio

from tallystick.node.books import Books
from tallystick.node.home import open_home
from tallystick.node.store.source import stored_parts
from tallystick.node.transport import tls
from tallystick.protocol.framing import FrameReader, frame
from tallystick.protocol.heads import Head
from tallystick.protocol.keys import origin
from tallystick.protocol.merkle import chain_leaves, root_of
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
from tallystick.protocol.records import Record, batch_bytes, encode_record


class Impostor:
    """Speaks to acme with beta's own keys, as a broken or hostile peer would."""

    def __init__(self, acme: nodes.Party, beta: nodes.Party, channel: str = "") -> None:
        books = Books.open(open_home(beta.home), read_only=True)
        self.identity = books.identity
        peer = books.peers[acme.name]
        self.channel = bytes.fromhex(channel) if channel else next(iter(books.channels))
        own = books.channels[self.channel][0].own
        self.own_size = own.durable_size
        with books.store.read() as txn:
            self.parts = list(stored_parts(txn, own.number, 0, own.durable_size))
        self._key = peer.transport_key
        self._address = acme.address
        certificate = tls.certificate_der(self.identity.name, self.identity.transport)
        self._context = tls.session_context(
            self.identity, certificate, peer.transport_certificate, beta.home
        )
        books.close()

    async def talk(self, *bodies: bytes) -> list[Message]:
        """Send frames; everything that acme says until it hangs up or falls silent."""
        stream = await tls.dial(self._address, self._context, self._key, 10)
        reader = FrameReader(FRAME_BYTES_MAX)
        heard: list[Message] = []
        try:
            for body in bodies:
                await stream.send(body)
            with trio.move_on_after(1.5):
                while data := await stream.receive():
                    reader.feed(data)
                    while (body := reader.next_body()) is not None:
                        heard.append(decode_message(body))
                        if isinstance(heard[-1], Bye | Halt):
                            return heard
        finally:
            await stream.aclose()
        return heard

    def hello(
        self, version: int = PROTOCOL_VERSION, party: str = "beta.example", skew: int = 0
    ) -> bytes:
        hello = Hello(version, party, int(time.time()) + skew, "")
        said = (hello, Presence(b"impostor".ljust(16), 0, False, None), Channels([self.channel]))
        return b"".join(frame(encode_message(message)) for message in said)

    def holding(
        self, size: int = 0, root: bytes = bytes(32), signature: bytes = b"", cosign: bytes = b""
    ) -> bytes:
        """What it says that it holds of acme's log."""
        message = Holding(self.channel, 0, self.own_size, size, root, signature, cosign)
        return frame(encode_message(message))

    def rewritten(self, first: int, *records: Record) -> tuple[Head, bytes]:
        """Beta's log with other records from an index on: its head then, and their batch."""
        parts = [encode_record(record) for record in records]
        leaves = chain_leaves(self.channel, [*self.parts[:first], *parts])
        name = origin(self.identity.name, self.channel)
        return Head(name, len(leaves), root_of(leaves)), batch_bytes(parts)

    def append(self, first: int, batch: bytes, signature: bytes) -> bytes:
        """Records of beta's log, under whatever signature."""
        return frame(encode_message(Append(self.channel, first, batch, signature)))
