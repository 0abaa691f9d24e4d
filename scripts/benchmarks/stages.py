"""Where the time of a delta goes: each stage of the work alone, and what the nodes take for all.

The stages are the functions that a node calls, on a batch as an import sends it, one after another
in this process; ids are looked up in an index of as many deltas as the run has. What a request
costs is what the node takes for the same deltas of a channel that it does not have.

A stage that is repeated alone finds its data in the processor's caches and frees nothing. So the
stages that compute are measured once more in a row, each batch a new one and freed a while after:
what they take then beyond their sum is `fresh_us`. What is left beyond that holds a node together:
tasks, its copies for the socket, two threads that take turns at the interpreter.
"""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import nodes
import trio

from benchmarks import limits, load, loopback
from benchmarks.bench import Bench, Benchmark
from tallystick.node.batches import cut_at_tiles
from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.home import open_home
from tallystick.node.importing.drafts import Draft
from tallystick.node.rpc import RpcClient
from tallystick.node.sealing import deltas_of
from tallystick.node.sorting import plainly_valid
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.idindex import RECENT_MAX, IdIndex, fingerprints, write_run
from tallystick.node.store.keyspace import RunRow, index_key, record_name
from tallystick.node.store.tiles import put_tile, tile_rows
from tallystick.node.transport import tls
from tallystick.node.transport.secure import RECORD_BYTES
from tallystick.protocol.derive import Book
from tallystick.protocol.errors import TallyError
from tallystick.protocol.framing import FrameReader, frame
from tallystick.protocol.log import LogFacts, LogState
from tallystick.protocol.merkle import Frontier, chain_leaves
from tallystick.protocol.messages import (
    FRAME_BYTES_MAX,
    Append,
    decode_message,
    encode_message,
)
from tallystick.protocol.records import batch_bytes, decode_batch, encode_record

REPEATS = 15
SEED = 7
IN_FLIGHT = 4  # batches that are alive at once
COMPUTED = ("decode", "check", "encode", "ids", "chain", "tree", "balances")
_decode = msgspec.msgpack.Decoder(list[Draft]).decode

Stage = tuple[Callable[[], object], int]  # and how many deltas it is for


def _tls(folder: Path) -> tuple[Callable[[bytes], bytes], Callable[[bytes], Iterator[bytes]]]:
    """What encrypts for a peer, and what decrypts there, piece by piece as a node reads."""
    own, other = loopback.certificates()
    wires = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = tls.server_context(tls.Shown(loopback.SERVER), own, [other], folder).wrap_bio(
        wires[0], wires[1], server_side=True
    )
    client = tls.session_context(tls.Shown(loopback.CLIENT), other, own, folder).wrap_bio(
        wires[1], wires[0]
    )
    for _ in range(3):  # flights of a handshake
        for end in (client, server):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()

    def encrypt(data: bytes) -> bytes:
        client.write(data)
        return wires[0].read()

    def decrypt(data: bytes) -> Iterator[bytes]:
        wires[0].write(data)
        with suppress(ssl.SSLWantReadError):
            while True:
                yield server.read(RECORD_BYTES)

    return encrypt, decrypt


def _grown(folder: Path, records: int) -> list[RunRow]:
    """The runs of an index of so many deltas, merged as a node merges them."""
    folder.mkdir()
    index = IdIndex(folder, 0, [])
    for first in range(0, records, RECENT_MAX):
        below = min(first + RECENT_MAX, records)
        names = [f"earlier {n}".encode() for n in range(first, below)]
        index.add(fingerprints(names, SEED), range(first, below))
        index.write(first, below)
        while group := index.mergeable():
            index.replace(group, index.merge(group))
    index.close()
    return index.rows()


def _stages(
    channel: Channel, folder: Path, store: Store, runs: Path, rows: list[RunRow]
) -> dict[str, dict[str, Stage]]:
    """The stages of the author's node and of its peer's, most of them for one batch."""
    own = channel.own
    body = load.drafts(range(load.BATCH))
    drafts = _decode(body)
    records = deltas_of(drafts, load.START_US)
    parts = [encode_record(record) for record in records]
    names = [record_name(draft.meter, draft.id) for draft in drafts]
    prints = fingerprints(names, SEED)
    data, leaves = batch_bytes(parts), chain_leaves(channel.id, parts)
    message = encode_message(Append(channel.id, 1, data, bytes(64)))
    encrypt, _ = _tls(folder)
    there, decrypt = _tls(folder)
    state = LogState(channel.id, Frontier.empty().extend([channel.id]), LogFacts())
    tiles = state.frontier.extend_with_tiles(leaves)[1]

    recent = list(range(1, RECENT_MAX * 2**40, 2**40))

    def ids() -> None:
        found = fingerprints([record_name(d.meter, d.id) for d in drafts], SEED)
        with closing(IdIndex(runs, 0, rows)) as index:
            assert not index.find(found) and len(set(found)) == len(found)
        IdIndex(folder, 0, []).add(prints, range(len(prints)))

    def index_runs() -> None:
        fresh = IdIndex(folder, 0, [])
        fresh.add(recent, range(len(recent)))
        write_run(folder / "stage.run", *fresh.freeze(len(recent)))

    def balances() -> None:
        Book(own.folder, lambda _: None).apply(own.folder.fold(records))

    def write() -> None:
        cut = cut_at_tiles(1, parts, data)

        def job(txn: Txn) -> None:
            for at, piece in cut:
                txn.put("batches", index_key(0, at), piece)
            for number, value in tile_rows(1, leaves, tiles):
                put_tile(txn, 0, number, value)

        store.commit_now(job)

    def receive() -> None:
        reader = FrameReader(FRAME_BYTES_MAX)
        for piece in decrypt(there(frame(message))):
            reader.feed(piece)
        assert reader.next_body() == message

    both = {
        "ids": ids,
        "index": index_runs,
        "chain": lambda: chain_leaves(channel.id, parts),
        "tree": lambda: state.frontier.extend_with_tiles(leaves),
        "balances": balances,
        "store": write,
    }
    sides: dict[str, dict[str, Callable[[], object]]] = {
        "provider": {
            "decode": lambda: _decode(body),
            "check": lambda: plainly_valid(channel.own, drafts),
            "encode": lambda: batch_bytes([encode_record(r) for r in deltas_of(drafts, 1)]),
            **both,
            "send": lambda: encrypt(frame(encode_message(Append(channel.id, 1, data, bytes(64))))),
        },
        "consumer": {
            "receive": receive,  # what was encrypted for it is taken off
            "decode": lambda: (decode_message(message), decode_batch(data)),
            "check": lambda: own.rules.check_batch(state, records, own),
            **both,
        },
    }
    return {
        side: {
            name: (work, RECENT_MAX if name == "index" else load.BATCH)
            for name, work in named.items()
        }
        for side, named in sides.items()
    }


def _in_a_row(
    channel: Channel, runs: Path, rows: list[RunRow], bodies: Sequence[bytes]
) -> Iterator[tuple[float, float]]:
    """Microseconds a delta of `COMPUTED` for new batches, in order: at the author's and the peer's
    node.
    """
    own, alive = channel.own, deque[object](maxlen=IN_FLIGHT)
    state = LogState(channel.id, Frontier.empty().extend([channel.id]), LogFacts())
    book = Book(own.folder, lambda _: None)
    with closing(IdIndex(runs, 0, rows)) as index:

        def ids(named: Sequence[Any]) -> list[int]:
            prints = fingerprints([record_name(one.meter, one.id) for one in named], SEED)
            assert not index.find(prints) and len(set(prints)) == len(prints)
            return prints

        def provider(body: bytes) -> bytes:
            drafts = _decode(body)
            prints = ids(drafts)
            assert plainly_valid(own, drafts)
            records = deltas_of(drafts, load.START_US)
            parts = [encode_record(record) for record in records]
            data, leaves = batch_bytes(parts), chain_leaves(channel.id, parts)
            tree = state.frontier.extend_with_tiles(leaves)
            changes = own.folder.fold(records)
            book.apply(changes)
            alive.append((drafts, prints, records, parts, data, leaves, tree, changes))
            return data

        def consumer(data: bytes) -> None:
            records, parts = decode_batch(data)
            own.rules.check_batch(state, records, own)
            prints, leaves = ids(records), chain_leaves(channel.id, parts)
            tree = state.frontier.extend_with_tiles(leaves)
            changes = own.folder.fold(records)
            book.apply(changes)
            alive.append((prints, records, parts, data, leaves, tree, changes))

        def us(began: float) -> float:
            return (time.process_time() - began) / load.BATCH * 1e6

        made = []
        for body in bodies:
            began = time.process_time()
            data = provider(body)
            made.append((us(began), data))
        for author_us, data in made:
            began = time.process_time()
            consumer(data)
            yield author_us, us(began)


def _us(stage: Stage) -> list[float]:
    """Microseconds of processor a delta, of some repeats; the first warms up."""
    work, deltas = stage
    taken = []
    for _ in range(REPEATS + 1):
        began = time.process_time()
        work()
        taken.append((time.process_time() - began) / deltas * 1e6)
    return taken[1:]


async def _refused(party: nodes.Party, bodies: list[bytes]) -> None:
    """Have a node take deltas and refuse them, for it has no such channel."""
    async with RpcClient.connect(open_home(party.home)) as client:
        for body in bodies:
            with suppress(TallyError):
                await client.call("emit", channel="nobody", drafts=body)


def stages(bench: Bench) -> None:
    """Each stage, their sum, and what the nodes took in the same run."""
    figures = bench.figures
    with nodes.channel(bench.folder) as (acme, beta):
        load.emit(acme, load.batches(0, load.BATCH))  # warm up
        bodies = list(load.batches(load.BATCH, bench.records))
        with bench.cpu(provider=acme, consumer=beta) as spent:
            load.emit(acme, bodies)
        with bench.cpu(refusing=acme) as asked:
            trio.run(_refused, acme, bodies)
    whole = bodies[: bench.records // load.BATCH] or [load.drafts(range(load.BATCH))]
    books = Books.open(open_home(acme.home), read_only=True)
    store = Store(bench.folder / "store")
    try:
        channel, _ = next(iter(books.channels.values()))
        runs = bench.folder / "runs"
        rows = _grown(runs, bench.records)
        in_a_row = zip(*_in_a_row(channel, runs, rows, whole), strict=True)
        for side, taken in zip(("provider", "consumer"), in_a_row, strict=True):
            figures.repeated(f"in_a_row_us.{side}", taken)
        for side, named in _stages(channel, bench.folder, store, runs, rows).items():
            total = 0.0
            for name, stage in named.items():
                total += figures.repeated(f"stages_us.{side}.{name}", _us(stage))
            if side == "consumer":
                total -= figures.get("stages_us.provider.send")
            else:
                request = asked["refusing"] / bench.records * 1e6
                request -= figures.get("stages_us.provider.decode")
                figures.put("stages_us.provider.request", request)
                total += request
            same = sum(figures.get(f"stages_us.{side}.{name}", 0) for name in COMPUTED)
            fresh = figures.get(f"in_a_row_us.{side}") - same
            cost = spent[side] / bench.records * 1e6
            figures.put(f"stages_us.{side}.sum", total)
            figures.put(f"fresh_us.{side}", fresh)
            figures.put(f"cpu_us_per_delta.{side}", cost)
            figures.put(f"ratios.of_stages.{side}", cost / total)
            figures.put(f"ratios.of_stages_fresh.{side}", cost / (total + fresh))
    finally:
        store.close()
        books.close()


BENCHMARK = Benchmark("stages", 500_000, stages, limits.EXCHANGE)
