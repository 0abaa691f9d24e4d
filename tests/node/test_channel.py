"""A channel on two real stores, without a network: what is kept up to date equals what is replayed.

Two parties' channels hand each other their batches directly. Whatever is emitted, corrected and
closed, in whatever batches, and however often either side starts again, both derive the same lines,
and the same that `replay` derives from the records alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import builders
import msgspec
import pytest
import quarrels
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.node import highest
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.errors import StoreError
from tallystick.node.importing.drafts import Draft
from tallystick.node.logs import ChannelLog
from tallystick.node.proving import prove_record
from tallystick.node.recovery import set_aside
from tallystick.node.store.disk import Store
from tallystick.node.store.keyspace import ChannelRow, HeadRow
from tallystick.node.upkeep import flush
from tallystick.protocol.errors import InvalidRecord, PeerBreach
from tallystick.protocol.heads import Head, verify_head_cosignature, verify_head_signature
from tallystick.protocol.keys import ED25519_COSIGNATURE, ED25519_NOTE, Vkey, origin
from tallystick.protocol.messages import Append, Message
from tallystick.protocol.proof import parse_proof, verify_proof
from tallystick.protocol.records import (
    TIME_MAX_US,
    Answer,
    Correction,
    Delta,
    Job,
    Resolution,
    Rotation,
    batch_bytes,
    encode_record,
)
from tallystick.protocol.replay import rederive
from tallystick.protocol.statement import Line

HOUR_US = builders.HOUR_US
NOW_US = builders.DECEMBER_US + 40 * builders.DAY_US
PROVIDER, CONSUMER = "acme.example", "beta.example"


@dataclass
class Side:
    """One party's channel, its clock, and what it would say on the wire."""

    folder: Path
    name: str
    now_us: int = NOW_US
    said: list[Message] = field(default_factory=list)

    def open(self) -> None:
        terms = builders.make_terms(builders.identity(PROVIDER), builders.identity(CONSUMER))
        other = CONSUMER if self.name == PROVIDER else PROVIDER
        (self.folder / "ids").mkdir(parents=True, exist_ok=True)
        self.store = Store(self.folder / "store")
        row = ChannelRow(0, encode_record(terms), other, "open", b"", "", 0)
        identity = builders.identity(self.name)
        self.channel = Channel(
            self.store, self.folder / "ids", 7, identity, row, lambda: self.now_us
        )
        self.channel.live = True
        self.store.on_failure.append(self.channel.load)
        self.scope = trio.CancelScope()
        self.stopped = trio.Event()
        self.closer = Closer(self.channel, agree_early=True, clock_us=lambda: self.now_us)

    async def run(self) -> None:
        with self.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.store.run)
                self.channel.errands.start(nursery)
        self.stopped.set()

    def close(self) -> None:
        self.channel.own.index.close()
        self.channel.peer.index.close()
        self.store.close()

    def lines(self) -> list[Line]:
        return self.closer.open_lines()


@asynccontextmanager
async def two(folder: Path) -> Iterator[tuple[Side, Side]]:  # type: ignore[misc]
    """Both sides with a founded channel."""
    sides = (Side(folder / "a", PROVIDER), Side(folder / "b", CONSUMER))
    async with trio.open_nursery() as nursery:
        for side in sides:
            side.open()
            nursery.start_soon(side.run)
            await side.channel.found().wait()
        await exchange(*sides)
        yield sides
        for side in sides:
            side.scope.cancel()
            await side.stopped.wait()
    for side in sides:
        side.close()


async def exchange(a: Side, b: Side) -> None:
    """Bring each side's copy of the other's log up to date."""
    for author, reader in ((a, b), (b, a)):
        while author.channel.own.durable_size > reader.channel.peer.state.size:
            batch = await author.channel.signed_batch(
                reader.channel.peer.state.size, author.channel.own.durable_size
            )
            message = Append(author.channel.id, batch.first, batch.data, batch.signature)
            await reader.channel.receive(message, author.channel.take_cosignature).wait()
            await author.store.commit(lambda txn: None)


async def pass_month(a: Side, b: Side) -> None:
    """All is exchanged, and a month later it is later on both clocks."""
    await exchange(a, b)
    for side in (a, b):
        side.now_us += 31 * builders.DAY_US


async def restart(side: Side, nursery: trio.Nursery) -> None:
    """Stop without writing anything more, and start again from what is on disk."""
    side.scope.cancel()
    await side.stopped.wait()
    side.close()
    side.open()
    nursery.start_soon(side.run)


def replayed(side: Side, sizes: tuple[int, int] | None = None) -> list[Line]:
    """The open lines, from the records alone, at the durable sizes or earlier ones."""
    channel = side.channel

    def source(log: ChannelLog) -> object:
        def batches() -> Iterator[bytes]:
            for _, records in log.records(0, log.durable_size):
                yield batch_bytes([encode_record(record) for record in records])

        return batches

    logs = (channel.provider_log, channel.consumer_log)
    sizes = sizes or (logs[0].durable_size, logs[1].durable_size)
    return rederive(channel.terms, channel.id, source(logs[0]), source(logs[1]), sizes)  # type: ignore[arg-type]


METERS = ("calls", "peak", "tokens")
_deltas = st.tuples(
    st.sampled_from(METERS),
    st.integers(0, 8),
    st.sampled_from(("x", "y")),
    st.integers(-5, 50),
    st.integers(0, 70),  # days after the beginning of October
)
_late = st.tuples(
    st.sampled_from(METERS), st.integers(9, 99), st.just("x"), st.integers(-5, 50), st.just(3)
)
_correction = st.tuples(st.sampled_from(METERS), st.integers(0, 8), st.none() | st.integers(-5, 50))
_amount = st.integers(-60, 60)
_disputes = st.tuples(
    st.just("dispute"),
    st.booleans(),
    st.tuples(st.sampled_from(METERS), st.booleans(), _amount.filter(bool)),
)
_closings = st.tuples(
    st.sampled_from(["close", "accept"]),
    st.booleans(),
    st.tuples(st.lists(_deltas, max_size=3), _correction),
)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("emit"), st.booleans(), st.lists(_deltas, min_size=1, max_size=8)),
        st.tuples(st.just("correct"), st.booleans(), _correction),
        _disputes,
        st.tuples(
            st.sampled_from(["answer", "resolve", "withdraw", "lapse"]),
            st.booleans(),
            st.tuples(st.integers(0, 8), _amount),
        ),
        st.tuples(st.just("flush"), st.booleans(), st.none()),
        st.tuples(st.just("restart"), st.booleans(), st.none()),
        _closings,
    ),
    max_size=20,
) | st.lists(  # lines that are accepted and grow
    st.one_of(
        _closings,
        st.tuples(
            st.just("late"),
            st.booleans(),
            st.tuples(st.lists(_late, min_size=1, max_size=2), _amount.filter(bool)),
        ),
        _disputes,
    ),
    max_size=8,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_steps)
def test_both_sides_derive_what_replay_derives(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bool, object]]
) -> None:
    trio.run(_world, tmp_path_factory.mktemp("world"), steps)


async def _world(folder: Path, steps: list[tuple[str, bool, object]]) -> None:
    async with trio.open_nursery() as nursery, two(folder) as (a, b):
        closed = 0
        for what, first, details in steps:
            side = a if first else b
            if what == "emit":
                await side.channel.emit([_draft(*fields) for fields in details])  # type: ignore[attr-defined]
            elif what == "correct":
                await _correct(side, details)  # type: ignore[arg-type]
            elif what == "dispute":
                await quarrels.dispute(side.channel, *details)  # type: ignore[misc]
            elif what in ("answer", "resolve", "withdraw"):
                await quarrels.say(side.channel, what, *details)  # type: ignore[misc]
            elif what == "lapse":
                await quarrels.lapse(side.channel, lambda: pass_month(a, b), details[0])  # type: ignore[index]
            elif what == "late":
                await side.channel.emit([_draft(*fields) for fields in details[0]])  # type: ignore[index]
                await exchange(a, b)
                other = b if first else a
                await quarrels.dispute(other.channel, details[0][0][0], True, details[1])  # type: ignore[index]
            elif what == "flush":
                await flush([side.channel.own, side.channel.peer])
            elif what == "restart":
                await restart(side, nursery)
            elif closed < 2:
                await exchange(a, b)
                # What the answering side has beyond the proposal's heads must not count.
                drafts, correction = details  # type: ignore[misc]
                await b.channel.emit([_draft(*fields) for fields in drafts])
                await _correct(b, correction)
                await _close(a, b, ("2026-10", "2026-11")[closed])
                closed += 1
                if what == "accept":
                    await quarrels.accept(side.channel, lambda: pass_month(a, b))
            await exchange(a, b)
        assert a.lines() == b.lines()
        assert a.lines() == replayed(a)
        for sizes in quarrels.earlier(a.channel):
            lines = a.closer.open_lines(sizes)
            assert lines == b.closer.open_lines(sizes) == replayed(a, sizes)
        await restart(a, nursery)
        assert a.lines() == b.lines()


def _draft(meter: str, id_: int, subject: str, quantity: int, days: int) -> Draft:
    occurred = builders.OCTOBER_US + days * builders.DAY_US + 12 * HOUR_US
    return Draft(f"id-{id_}", meter, subject, quantity, occurred)


async def _correct(side: Side, correction: tuple[str, int, int | None]) -> None:
    """Correct a delta if it is there and not voided."""
    meter, id_, quantity = correction
    with contextlib.suppress(InvalidRecord):
        await side.channel.append_own(
            Correction(f"id-{id_}", meter, quantity, "wrong", side.channel.now_recorded_at())
        )


async def _close(a: Side, b: Side, label: str) -> None:
    """Close a period through the two closers, their messages handed over directly."""
    async with trio.open_nursery() as nursery:
        to_a, to_b = trio.open_memory_channel[Message](9), trio.open_memory_channel[Message](9)

        async def serve(
            side: Side, incoming: trio.MemoryReceiveChannel[Message], out: object
        ) -> None:
            async for message in incoming:
                await side.closer.handle(message, out.send_nowait)  # type: ignore[attr-defined]

        nursery.start_soon(serve, a, to_a[1], to_b[0])
        nursery.start_soon(serve, b, to_b[1], to_a[0])
        row = await a.closer.close(label, force=True, send=to_b[0].send_nowait)
        for log in (a.channel.own, b.channel.own):
            while log.state.facts.checkpoint != row.digest or log.durable_size < log.state.size:
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    await exchange(a, b)


async def test_a_batch_of_corrections_reads_the_log_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a peer could hold up the node with one small message."""
    async with two(tmp_path) as (a, b):
        await a.channel.emit([_draft("peak", n, "x", n, 1) for n in range(20)])
        await exchange(a, b)
        corrections = [Correction(f"id-{n}", "peak", -n, "wrong", NOW_US) for n in range(20)]
        parts = [encode_record(record) for record in corrections]
        passes, stored = [], highest.batches
        monkeypatch.setattr(
            highest, "batches", lambda *given: passes.append(given) or stored(*given)
        )
        own = a.channel.own
        await own.submit(corrections, parts, [], a.channel._sign, lambda batch: None).wait()
        assert len(passes) == 1
        monkeypatch.undo()
        await exchange(a, b)
        assert a.lines() == b.lines() == replayed(a)
        assert a.lines()[0].provider == "0"


async def test_a_lowered_highest_is_found_in_whatever_batch_it_is(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, b):
        for n, subject in enumerate(["x", "y", "ü", "x", "y", "ü", "z"]):
            await a.channel.emit([_draft("peak", n, subject, n + 1, 1)])
        for n in (3, 5):
            await _correct(a, ("peak", n, None))
        await exchange(a, b)
        assert a.lines() == b.lines() == replayed(a)
        found = {line.subject: line.provider for line in a.lines()}
        assert found == {"x": "1", "y": "5", "z": "7", "ü": "3"}


@pytest.mark.parametrize("occurred_at", [-1, 2**62])
def test_a_draft_of_no_time_is_refused_where_it_comes_in(occurred_at: int) -> None:
    data = msgspec.msgpack.encode([("id", "tokens", "x", 1, occurred_at)])
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(data, type=list[Draft])


async def test_a_full_disk_answers_with_an_error_and_recording_goes_on(tmp_path: Path) -> None:
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    async with two(tmp_path) as (a, b):
        await a.channel.emit([_draft("tokens", 1, "x", 5, 1)])
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            with pytest.raises(StoreError, match="cannot be written"):
                await a.channel.emit([_draft("tokens", n, "y" * 100, 5, 1) for n in range(2, 3000)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        result = await a.channel.emit([_draft("tokens", 2, "x", 7, 1)])
        assert result.indexes == [2]
        await exchange(a, b)
        assert a.lines() == b.lines() == replayed(a)


async def test_what_the_peer_could_not_read_is_not_recorded(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, _):
        for record in (
            Resolution(bytes(32), 2**63, "so", NOW_US),
            Answer(bytes(32), 0, "x" * 501, (), NOW_US),
        ):
            with pytest.raises(InvalidRecord, match="not a record"):
                await a.channel.append_own(record)
        assert a.channel.own.state.size == 1


async def test_a_clock_that_goes_back_does_not_stop_anything(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, b):
        await a.channel.emit([_draft("tokens", 1, "x", 5, 1)])
        a.now_us -= HOUR_US
        await a.channel.emit([_draft("tokens", 2, "x", 5, 1)])
        await exchange(a, b)
        first, second = (b.channel.peer.record(index) for index in (1, 2))
        assert isinstance(first, Delta)
        assert isinstance(second, Delta)
        assert first.recorded_at == second.recorded_at == NOW_US


async def test_a_record_that_waited_for_its_turn_is_not_older_than_the_one_before(
    tmp_path: Path,
) -> None:
    async with two(tmp_path) as (a, b):
        await a.channel.emit([_draft("tokens", 1, "x", 5, 1)])
        correction = Correction("id-1", "tokens", 3, "miscounted", a.channel.now_recorded_at())
        a.now_us += HOUR_US
        await a.channel.emit([_draft("tokens", 2, "x", 5, 1)])
        assert await a.channel.append_own(correction) == 3
        await exchange(a, b)
        assert a.lines() == b.lines() == replayed(a)


async def test_balances_at_a_size_while_a_commit_is_over_and_not_counted_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path) as (a, _):
        await a.channel.emit([_draft("tokens", 1, "x", 5, 1)])
        own = a.channel.own
        before = own.tallies_at(2)
        commit, on_disk, counted = a.store.off_thread, trio.Event(), trio.Event()

        async def slowly(*work: Any) -> None:
            await commit(*work)
            on_disk.set()
            await counted.wait()

        monkeypatch.setattr(a.store, "off_thread", slowly)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.channel.emit, [_draft("tokens", 2, "x", 5, 1)])
            await on_disk.wait()
            assert own.durable_size == 2
            assert own.tallies_at(2) == before
            counted.set()
        assert own.tallies_at(2) == before != own.tallies_at(3)


async def test_emits_at_once_share_a_batch_and_each_gets_its_own_answer(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, _):
        results = {}

        async def emit(n: int) -> None:
            results[n] = await a.channel.emit([_draft("tokens", n % 25, "x", 5, 1)])

        async with trio.open_nursery() as nursery:
            for n in range(50):
                nursery.start_soon(emit, n)
        assert sorted({r.indexes[0] for r in results.values()}) == list(range(1, 26))
        assert sum(len(r.repeated) for r in results.values()) == 25
        assert all(results[n].indexes == results[n + 25].indexes for n in range(25))


async def test_a_peers_batch_with_a_known_id_is_refused_and_nothing_is_stored(
    tmp_path: Path,
) -> None:
    async with two(tmp_path) as (a, b):
        await a.channel.emit([_draft("tokens", 1, "x", 5, 1)])
        await exchange(a, b)
        delta = a.channel.own.record(1)
        again = batch_bytes([encode_record(delta)])
        message = Append(a.channel.id, 2, again, bytes(64))
        with pytest.raises(PeerBreach, match="there twice"):
            b.channel.receive(message, lambda *answer: None)
        twice = Append(a.channel.id, 2, batch_bytes([encode_record(delta)] * 2), bytes(64))
        with pytest.raises(PeerBreach, match="there twice"):
            b.channel.receive(twice, lambda *answer: None)
        assert b.channel.peer.state.size == 2


async def test_a_wrong_signature_leaves_no_trace(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, b):
        await a.channel.emit([_draft("tokens", 1, "x", 5, 1)])
        batch = await a.channel.signed_batch(1, a.channel.own.durable_size)
        bad = Append(a.channel.id, 1, batch.data, bytes(64))
        with pytest.raises(PeerBreach, match="signature does not hold"):
            b.channel.receive(bad, lambda *answer: None)
        await exchange(a, b)
        assert a.lines() == b.lines()


async def test_a_lost_index_is_made_anew_from_the_records(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery, two(tmp_path) as (a, b):
        drafts = [_draft("tokens", n, "x", 5, 1) for n in range(500)]
        await a.channel.emit(drafts)
        await flush([a.channel.own, a.channel.peer])
        await a.channel.emit([_draft("calls", 1, "x", 5, 1)])
        for file in (a.folder / "ids").iterdir():
            file.write_bytes(file.read_bytes()[:-8])
        await restart(a, nursery)
        result = await a.channel.emit([*drafts, _draft("calls", 1, "x", 5, 1)])
        assert (len(result.repeated), result.problems) == (501, [])
        await exchange(a, b)
        assert a.lines() == b.lines()


async def test_a_half_written_run_of_a_crash_is_no_harm(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery, two(tmp_path) as (a, _):
        await a.channel.emit([_draft("tokens", n, "x", 5, 1) for n in range(50)])
        name = a.channel.own.index.run_name(0, 51)
        (a.folder / "ids" / name).write_bytes(b"half")
        await restart(a, nursery)
        await flush([a.channel.own])
        assert a.channel.own.find("tokens", "id-7") is not None


async def test_any_record_is_provable_wherever_tiles_and_batches_end(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, b):
        done = 1
        for count in (254, 1, 1, 300, 700, 3):
            drafts = [_draft("tokens", n, "x", 5, 1) for n in range(done, done + count)]
            await a.channel.emit(drafts)
            done += count
        await exchange(a, b)
        for channel, log in ((a.channel, a.channel.own), (b.channel, b.channel.peer)):
            author, peer = log.party, channel.own.party
            if log is channel.own:
                peer = channel.peer.party
            keys = (
                Vkey(origin(author.name, channel.id), ED25519_NOTE, author.log_key),
                Vkey(peer.name, ED25519_COSIGNATURE, peer.cosigner_key),
            )
            for index in (0, 1, 254, 255, 256, 257, 511, 512, 600, 1023, 1024, done - 1):
                proof = prove_record(channel, log, index)
                head = verify_proof(parse_proof(proof.proof), proof.leaf, *keys)
                assert head.head.size == done
                assert proof.leaf[32:] == encode_record(log.record(index))


async def _rotate(side: Side, job: Job) -> Rotation:
    """A side takes its next key for a job, in its own log."""
    channel = side.channel
    who = builders.identity(side.name)
    record = builders.next_rotation(channel.own.keyring, who, channel.role, job, side.now_us, 0)
    await channel.append_own(record)
    return record


def _head(side: Side, size: int) -> tuple[Head, HeadRow]:
    with side.store.read() as txn:
        row = side.channel.own.head_row(txn, size)
    assert row is not None
    return side.channel.own.head(size, row.root), row


async def test_what_was_recorded_before_a_rotation_is_signed_by_the_key_before_it(
    tmp_path: Path,
) -> None:
    async with trio.open_nursery() as nursery, two(tmp_path) as (a, b):
        a.channel.part()
        await a.channel.emit([_draft("tokens", 1, "x", 5, 1)])
        record = await _rotate(a, "log")
        a.now_us += builders.DAY_US  # the overlap of no time is long over
        await a.channel.emit([_draft("tokens", 2, "x", 5, 1)])
        await restart(a, nursery)  # goes live, and its peer comes back
        for stop in (2, 4):
            batch = await a.channel.signed_batch(a.channel.own.signed_size, stop)
            message = Append(a.channel.id, batch.first, batch.data, batch.signature)
            await b.channel.receive(message, a.channel.take_cosignature).wait()
            await a.store.commit(lambda txn: None)
        for size, key in ((2, builders.identity(a.name).log_key), (4, record.key)):
            head, row = _head(a, size)
            verify_head_signature(head, key, row.signature)
        assert a.channel.own.cosigned_size == 4
        assert a.lines() == b.lines() == replayed(b)


async def test_a_log_is_cosigned_by_the_key_that_it_knows(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, b):
        old = builders.identity(a.name).cosigner_key
        record = await _rotate(a, "cosigner")
        a.now_us += builders.DAY_US
        await b.channel.emit([_draft("tokens", 1, "x", 5, 1)])  # before it hears of the rotation
        await exchange(b, a)
        await b.channel.append_own(record)
        b.now_us = a.now_us
        await b.channel.emit([_draft("tokens", 2, "x", 5, 1)])
        await exchange(a, b)
        for size, key in ((2, old), (b.channel.own.durable_size, record.key)):
            head, row = _head(b, size)
            verify_head_cosignature(head, a.name, key, row.cosignature)
        proof = prove_record(b.channel, b.channel.own, 1)
        verify_proof(parse_proof(proof.proof), proof.leaf, proof.vkeys[0], proof.vkeys[1])
        assert proof.vkeys[1].key == record.key


async def test_a_tail_that_is_set_aside_takes_its_keys_with_it(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, b):
        await _rotate(a, "log")
        await exchange(a, b)
        a.channel.part()
        kept = a.channel.own.keyring.announced
        await _rotate(a, "cosigner")
        await set_aside(a.channel)
        assert a.channel.own.keyring.announced == kept
        a.channel.resume()
        await _rotate(a, "cosigner")
        a.channel.go_live()
        await exchange(a, b)
        assert b.channel.peer.keyring.number("provider", "cosigner") == 1


async def test_a_clock_before_1970_or_after_9998_spoils_no_log(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, b):
        for now_us in (-1, TIME_MAX_US + 1):
            a.now_us = now_us
            wrong = Draft(f"now-{now_us}", "calls", "x", 1, now_us)
            right = Draft(f"at-{now_us}", "calls", "x", 1, NOW_US)
            result = await a.channel.emit([wrong, right])
            assert [index >= 0 for index in result.indexes] == [False, True]
            ((place, kind, said),) = result.problems
            assert (place, kind) == (0, "rejected")
            assert "this machine's clock" in said
            await exchange(a, b)
        assert b.channel.peer.state.size == 3
        assert a.lines() == b.lines() == replayed(a)
