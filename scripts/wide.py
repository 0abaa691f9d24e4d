"""A provider's home with thousands of channels, each with a consumer of its own, made in one go.

The records, heads, signatures and co-signatures are those that founding and a session would have
left: written by the node's own channels, from what the consumers' own keys signed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import trio

from tallystick.node.books import Books, put_peer
from tallystick.node.channel import Channel
from tallystick.node.founding import first_head, party_keys
from tallystick.node.home import Home, create_home
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import ChannelRow, encode_row
from tallystick.node.transport import tls
from tallystick.node.upkeep import flush_all
from tallystick.protocol.heads import cosign_head, sign_head
from tallystick.protocol.keys import Identity
from tallystick.protocol.messages import Append
from tallystick.protocol.pairing import PeerIdentity
from tallystick.protocol.records import Terms, batch_bytes, encode_record
from tallystick.protocol.terms import channel_id, parse_terms

PROVIDER = "wide.example"
FOUNDED_S = 1_790_805_600
ROWS_A_COMMIT = 512

# Every consumer comes from 127.0.0.1, where strangers from many addresses would be.
CONFIG = """\
[connections]
strangers = 4096
strangers_per_address = 4096
attempts_per_second = 10000
"""

TERMS = """\
provider = "{provider}"
consumer = "{consumer}"
[period]
calendar = "month"
time_zone = "Europe/Berlin"
[meters.input-tokens]
unit = "token"
source = "provider"
[meters.output-tokens]
unit = "token"
source = "provider"
[meters.calls]
unit = "call"
source = "both"
payable = "minimum"
tolerance = {{ relative = "0.5%", absolute = "1000", base = "provider" }}
"""


def provider() -> Identity:
    """The provider's keys."""
    return Identity.from_seed(PROVIDER, hashlib.sha256(PROVIDER.encode()).digest())


def consumer(number: int) -> Identity:
    """A consumer's keys."""
    name = f"consumer-{number:05}.example"
    return Identity.from_seed(name, hashlib.sha256(name.encode()).digest())


def terms_of(number: int, ours: Identity, theirs: Identity) -> Terms:
    """The terms with a consumer; the same each time."""
    text = TERMS.format(provider=ours.name, consumer=theirs.name)
    parties = {who.name: party_keys(who) for who in (ours, theirs)}
    return parse_terms(text.encode(), parties, number.to_bytes(16, "big"))


def _as_peer(who: Identity) -> PeerIdentity:
    certificate = tls.certificate_der(who.name, who.transport)
    keys = (who.log_key, who.cosigner_key, who.transport_key)
    return PeerIdentity(who.name, *keys, certificate, "")


def make(folder: Path, channels: int) -> Home:
    """The provider's home, in which all channels are open and both logs are co-signed."""
    ours = provider()
    seed = hashlib.sha256(PROVIDER.encode()).digest()
    home = create_home(folder / PROVIDER, PROVIDER, seed)
    home.config_path.write_text(CONFIG)
    books = Books.open(home, read_only=False, identity=ours)
    try:
        for batch in _batches(range(channels), ROWS_A_COMMIT):
            books.store.commit_now(lambda txn, batch=batch: _put(txn, ours, batch))
    finally:
        books.close()
    books = Books.open(home, read_only=False, identity=ours)
    try:
        trio.run(_begin, books)
    finally:
        books.close()
    return home


def _batches(numbers: range, size: int) -> Iterator[range]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


def _put(txn: Txn, ours: Identity, numbers: range) -> None:
    for number in numbers:
        theirs = consumer(number)
        terms = terms_of(number, ours, theirs)
        accepted = sign_head(first_head(theirs.name, terms), theirs.log)
        row = ChannelRow(number, encode_record(terms), theirs.name, "open", accepted, "", 0)
        txn.put("channels", channel_id(terms), encode_row(row))
        put_peer(txn, _as_peer(theirs))


async def _begin(books: Books) -> None:
    """Both logs of every channel get their first record, and the other side's co-signature."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(books.store.run)
        channels = [channel for channel, _ in books.channels.values()]
        for channel in channels:
            channel.go_live()
            channel.found()
            _hear(channel)
        for channel in channels:
            await channel.own.settle()
            head = first_head(channel.own.party.name, channel.terms)
            signer = consumer(channel.row.number).cosigner
            channel.take_cosignature(1, cosign_head(head, signer, FOUNDED_S))
        await books.store.commit(lambda txn: None)
        await flush_all(log for channel in channels for log in (channel.own, channel.peer))
        nursery.cancel_scope.cancel()


def _hear(channel: Channel) -> None:
    """The consumer's first append."""
    theirs = consumer(channel.row.number)
    signature = sign_head(first_head(theirs.name, channel.terms), theirs.log)
    first = batch_bytes([encode_record(channel.terms)])
    channel.receive(Append(channel.id, 0, first, signature), lambda size, cosignature: None)
