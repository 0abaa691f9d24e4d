"""Heads shown to witnesses: what is kept of honest ones, and what liars can and cannot do."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import builders
import homes
import msgspec
import pytest
import trio
from witnesses import Answer, OneWitness, ScriptedWitness

from tallystick.node import proving
from tallystick.node.config import AskedWitness, Witnessing
from tallystick.node.errors import PeerUnreachable
from tallystick.node.importing.drafts import Draft
from tallystick.node.witnessing.lines import lines_of, read_asked
from tallystick.node.witnessing.submitting import Submitter
from tallystick.protocol.contradiction import verify_contradiction
from tallystick.protocol.errors import InputError, lone_error
from tallystick.protocol.keys import Vkey
from tallystick.protocol.notes import parse_note
from tallystick.protocol.policy import judge
from tallystick.protocol.proof import parse_proof
from tallystick.protocol.witness import ANSWER_BYTES_MAX, AddCheckpoint, Seen

SOON_SECONDS = 60.0


class World:
    """Both parties, and the provider's submitter."""

    def __init__(self, a: homes.Side, b: homes.Side, submitter: Submitter) -> None:
        self.a, self.b, self.submitter = a, b, submitter
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._emitted = 0

    async def grow(self, records: int = 1) -> int:
        """Emit, and have it co-signed; our log's size then."""
        for _ in range(records):
            self._emitted += 1
            draft = Draft(f"g{self._emitted}", "tokens", "s", 1, builders.OCTOBER_US)
            await self.a.channel.emit([draft])
        await homes.exchange(self.a, self.b)
        return self.a.channel.own.cosigned_size

    def names(self, size: int) -> list[str]:
        """Whose lines are on the head of a size of our log."""
        return [line.name for line in lines_of(self.a.channel.own, size)]

    def breach(self, witness: ScriptedWitness) -> str:
        """What the witness did on our log that none may do."""
        own = self.a.channel.own
        with own.store.read() as txn:
            return read_asked(txn, own.number, witness.vkey).breach

    def evidence(self, witness: ScriptedWitness) -> bytes:
        """The file that convicts the witness, if there is one."""
        own = self.a.channel.own
        with own.store.read() as txn:
            return read_asked(txn, own.number, witness.vkey).evidence

    def refusal(self) -> str:
        """What the first witness says to our log in place of a line."""
        return " ".join(self.submitter.contacts[0].standing.refused.values())


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(SOON_SECONDS):
        while not condition():
            await trio.sleep(0.01)


@asynccontextmanager
async def world(
    folder: Path, *witnesses: ScriptedWitness | AskedWitness, **settings: object
) -> AsyncIterator[World]:
    """Two parties; the provider asks these witnesses."""
    async with homes.founded(folder) as (a, b), trio.open_nursery() as nursery:
        named = []
        for one in witnesses:
            if isinstance(one, ScriptedWitness):
                await nursery.start(one.serve)
                named.append(AskedWitness(str(one.vkey), one.url))
            else:
                named.append(one)
        chosen = Witnessing(witnesses=named, every_seconds=0.0, timeout_seconds=5.0)
        chosen = msgspec.structs.replace(chosen, **settings)  # type: ignore[arg-type]
        a.books.config = msgspec.structs.replace(a.books.config, witnessing=chosen)
        made = World(a, b, Submitter(a.books))
        a.books.news.on_happened.append(
            lambda kind, channel, data: made.events.append((kind, data))
        )
        nursery.start_soon(made.submitter.run)
        yield made
        nursery.cancel_scope.cancel()


async def test_an_honest_witnesss_lines_come_into_heads_and_proofs(tmp_path: Path) -> None:
    witness = ScriptedWitness()
    async with world(tmp_path, witness) as made:
        for _ in range(4):
            size = await made.grow(3)
            await until(lambda: made.names(size) == ["w.example"])  # noqa: B023
        assert not made.breach(witness) and not made.events
        own = made.a.channel.own
        proof = proving.prove_record(made.a.channel, own, 2)
        note = parse_note(parse_proof(proof.proof).note)
        assert [line.name for line in note.signatures[1:]] == ["beta.example", "w.example"]
        assert judge(made.submitter.policy, note).satisfied
        sizes = [request.head.size for request in witness.asked]
        assert sizes == sorted(sizes) and sizes[-1] == size
        with own.store.read() as txn:
            assert txn.entries("witnessed") == 1  # the older ones' lines are gone
        # The second question, with no proof, is one that it has to refuse.
        assert [r.old_size for r in witness.asked].count(0) == 2


async def test_a_real_witness_and_kept_lines_of_checkpoints(tmp_path: Path) -> None:
    acme = builders.identity("acme.example")
    gamma = OneWitness(tmp_path, paired=True)
    for name in homes.NAMES:
        gamma.side.books.peers[name] = homes.peer_of(builders.identity(name))
    async with gamma.serving() as door:
        assert door.ledger is not None
        asked = AskedWitness(str(door.ledger.vkey), door.address)
        async with world(tmp_path / "pair", asked) as made:
            await made.grow(3)
            await homes.close(made.a, made.b, "2026-10")
            row = made.a.closer.rows[0]
            await until(lambda: made.names(row.provider_size))
            theirs = made.a.channel.peer
            await until(lambda: lines_of(theirs, row.consumer_size))
            for _ in range(3):
                size = await made.grow(2)
                await until(lambda: made.names(size))  # noqa: B023
            assert made.names(row.provider_size) == ["gamma.example/witness"]
            text = proving.signed_head
            with theirs.store.read() as txn:
                note = parse_note(text(theirs, txn, row.consumer_size, witnessed=True))
            assert judge(made.submitter.policy, note).held
            assert acme.name in note.signatures[1].name


async def test_a_witness_that_was_away_is_shown_the_newest_head(tmp_path: Path) -> None:
    witness = ScriptedWitness()
    async with trio.open_nursery() as nursery:
        await nursery.start(witness.serve)
        nursery.cancel_scope.cancel()
    gone = AskedWitness(str(witness.vkey), witness.url)
    async with world(tmp_path, gone) as made, trio.open_nursery() as nursery:
        contact = made.submitter.contacts[0]
        size = 0
        for _ in range(5):  # deltas do not wait
            size = await made.grow()
        await until(lambda: contact.standing.failing)
        assert contact.waiting == 1
        await nursery.start(witness.serve)
        await until(lambda: made.names(size))
        await until(lambda: not contact.standing.failing)
        assert len({request.head.size for request in witness.asked}) == 1
        nursery.cancel_scope.cancel()


async def test_a_witness_that_says_nothing_holds_up_nothing(tmp_path: Path) -> None:
    silent, good = ScriptedWitness("silent"), ScriptedWitness("good")
    silent.say = lambda request: None
    async with world(tmp_path, silent, good, timeout_seconds=0.2) as made:
        for _ in range(3):
            size = await made.grow()
            await until(lambda: made.names(size) == ["good.example"])  # noqa: B023
        contact = made.submitter.contacts[0]
        await until(lambda: contact.standing.failing == "no answer within 0.2 seconds")
        assert contact.waiting == 1


async def test_a_witness_that_signs_anything_is_found_out(tmp_path: Path) -> None:
    witness = ScriptedWitness()
    witness.say = lambda request: witness.line(request.checkpoint.text)
    async with world(tmp_path, witness) as made:
        size = await made.grow(2)
        await until(lambda: made.breach(witness))
        assert "co-signs without a proof" in made.breach(witness)
        # The line holds; what it is worth is another matter.
        await until(lambda: made.names(size) == ["w.example"])
        assert [kind for kind, _ in made.events] == ["witness.breach"]


async def test_a_witness_that_goes_back_is_named_and_told_anew(tmp_path: Path) -> None:
    witness = ScriptedWitness()
    async with world(tmp_path, witness) as made:
        first = await made.grow(2)
        await until(lambda: made.names(first))
        await until(lambda: not made.submitter.contacts[0].waiting)
        second = await made.grow(2)
        await until(lambda: made.names(second))
        (origin,) = witness.seen
        root = made.a.channel.own.root_at(first)
        witness.seen[origin] = Seen(first, root)
        third = await made.grow(2)
        await until(lambda: made.names(third))
        assert f"went back from {second} records, which it co-signed, to {first}" in (
            made.breach(witness)
        )
        # It gave both lines within a second, so neither speaks against the other.
        assert not made.evidence(witness)


async def test_a_witness_whose_times_go_back_is_named(tmp_path: Path) -> None:
    witness = ScriptedWitness()
    async with world(tmp_path, witness) as made:
        size = await made.grow()
        await until(lambda: made.names(size))
        witness.now_s -= 1
        size = await made.grow()
        await until(lambda: made.names(size))
        assert made.breach(witness) == "its times go back"
        checks = verify_contradiction(made.evidence(witness))
        assert all(check.ok for check in checks)
        assert f"co-signed {size} records and, 1 seconds later, {size - 1}" in checks[-1].detail


async def test_a_witness_that_knows_more_of_our_log_than_we_do(tmp_path: Path) -> None:
    """Our home was put back, another node signs with our key, or the witness lies."""
    witness = ScriptedWitness()
    witness.say = lambda request: (409, "text/x.tlog.size", b"1000\n")
    async with world(tmp_path, witness) as made:
        await made.grow()
        await until(lambda: made.breach(witness))
        assert "it has seen 1000 records of our log" in made.breach(witness)
        assert "1000 records" in made.refusal()
        await until(lambda: len(made.events) == 1)


async def test_a_witness_that_holds_another_history(tmp_path: Path) -> None:
    witness = ScriptedWitness()
    async with world(tmp_path, witness) as made:
        size = await made.grow(3)
        await until(lambda: made.names(size))
        (origin,) = witness.seen
        witness.seen[origin] = Seen(size, bytes(32))
        await made.grow()
        await until(lambda: made.breach(witness))
        assert f"does not believe that {size + 1} records follow on {size}" in made.breach(witness)


def _other_text(witness: ScriptedWitness, request: AddCheckpoint) -> Answer:
    return witness.line("acme.example/other\n1\n" + "A" * 43 + "=\n")


@pytest.mark.parametrize(
    ("say", "words"),
    [
        (_other_text, "does not hold"),
        (lambda w, r: (200, "text/plain", b""), "not made of signature lines"),
        (lambda w, r: (200, "text/plain", b"hello\n"), "not made of signature lines"),
        (lambda w, r: (200, "text/plain", b"x" * (2 * ANSWER_BYTES_MAX)), "more than"),
        (lambda w, r: (409, "text/x.tlog.size", b"many\n"), "size is not a decimal"),
        (lambda w, r: (409, "text/x.tlog.size", b"0\n"), "refuses a proof from there"),
        (
            lambda w, r: ScriptedWitness("x").line(r.checkpoint.text),
            "no line of a key that the witness is known by",
        ),
    ],
    ids=["of another head", "nothing", "words", "hugely", "no size", "our size", "by a stranger"],
)
async def test_nonsense_is_not_kept_and_named(
    tmp_path: Path, say: Callable[[ScriptedWitness, AddCheckpoint], Answer], words: str
) -> None:
    witness = ScriptedWitness()
    witness.say = lambda request: say(witness, request)
    async with world(tmp_path, witness) as made:
        size = await made.grow()
        await until(lambda: made.breach(witness))
        assert words in made.breach(witness)
        assert made.names(size) == []
        for _ in range(20):
            await made.grow()
        assert len(witness.asked) <= 2  # it is asked again later, however fast the log grows


@pytest.mark.parametrize("status", [302, 400, 403, 404])
async def test_a_refusal_is_said_and_no_breach(tmp_path: Path, status: int) -> None:
    witness = ScriptedWitness()
    witness.say = lambda request: (status, "text/plain", b"go away\x1b[2J\n")
    async with world(tmp_path, witness) as made:
        await made.grow()
        await until(made.refusal)
        assert made.refusal().startswith(f"{status}: go away")
        assert "\x1b" not in made.refusal()
        assert not made.breach(witness)


async def test_a_required_line_is_waited_for_before_a_checkpoint_is_signed(tmp_path: Path) -> None:
    one, two = ScriptedWitness("one"), ScriptedWitness("two")
    two.say = lambda request: (404, "text/plain", b"unknown\n")
    async with world(tmp_path, one, two, require=2, wait_seconds=0.5) as made:
        await made.grow(2)
        with pytest.raises(ExceptionGroup) as caught:
            await homes.close(made.a, made.b, "2026-10")
        error = lone_error(caught.value)
        assert isinstance(error, PeerUnreachable)
        assert re.search(r"1 of 2 witnesses.*not two\.example", error.message)
        assert not made.a.closer.rows and not made.b.closer.rows
        two.say = two.honest
        await homes.close(made.a, made.b, "2026-10")
        row = made.a.closer.rows[0]
        assert made.names(row.provider_size) == ["one.example", "two.example"]


async def test_who_answers_a_proposal_waits_for_its_lines_too(tmp_path: Path) -> None:
    witness = ScriptedWitness()
    witness.say = lambda request: (404, "text/plain", b"unknown\n")
    async with world(tmp_path, witness, require=1, wait_seconds=0.3) as made:
        await made.grow(2)
        with pytest.raises(ExceptionGroup) as caught:
            await homes.close(made.b, made.a, "2026-10")
        error = lone_error(caught.value)
        assert isinstance(error, InputError)
        assert "0 of 1 witnesses that are required" in error.message
        witness.say = witness.honest
        await homes.close(made.b, made.a, "2026-10")
        assert made.names(made.a.closer.rows[0].provider_size) == ["w.example"]


async def test_no_thousand_logs_are_asked_one_by_one_while_the_witness_is_away(
    tmp_path: Path,
) -> None:
    from random import Random

    from tallystick.node.witnessing.asked import Asked
    from tallystick.node.witnessing.contact import Contact, Which

    key = Vkey("w.example", 4, bytes(32))
    contact = Contact(Asked("https://w.example", (key,)), 10.0, Random(1))
    for number in range(1000):
        contact.want(Which(number.to_bytes(32, "big"), ours=True), trio.current_time())
    first = await contact.take()
    contact.failed(first, "away")
    with trio.move_on_after(0.3) as waiting:
        await contact.take()
    assert waiting.cancelled_caught
    assert contact.waiting == 1000
    with trio.fail_after(SOON_SECONDS):
        again = await contact.take()  # one alone is tried
        with trio.move_on_after(0.3) as waiting:
            await contact.take()
        assert waiting.cancelled_caught
        contact.done(again, 0.0)
        for _ in range(999):
            contact.done(await contact.take(), 0.0)
    assert contact.waiting == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"witnesses": [AskedWitness("x", "https://w.example")]}, "not a verifier key"),
        (
            {"witnesses": [AskedWitness(str(ScriptedWitness().vkey), "http://w.example")]},
            "asked unencrypted",
        ),
        (
            {"witnesses": [AskedWitness(str(ScriptedWitness().vkey), "ftp://w.example")]},
            "not an address of the web",
        ),
        ({"require": 1}, "1 witnesses are required and 0 are named"),
        (
            {"witnesses": [AskedWitness(str(ScriptedWitness().vkey), "https://w.example")] * 2},
            "named twice",
        ),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], words: str) -> None:
    from tallystick.node.witnessing.asked import asked_witnesses

    with pytest.raises(InputError) as caught:
        asked_witnesses(Witnessing(**settings))
    assert words in str(caught.value)
