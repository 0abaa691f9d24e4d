"""A node as a witness: the statuses of the standard, what is durable, and what strangers can do."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import builders
import homes
import httpx
import pytest
import trio
from nacl.signing import SigningKey
from witnesses import OneWitness

from tallystick.node.books import Books
from tallystick.node.doctor.examination import AnyStore, examine
from tallystick.node.doctor.mending import mend
from tallystick.node.errors import HomeError, StoreError
from tallystick.node.home import open_home
from tallystick.node.witnessing import serving
from tallystick.node.witnessing.known import KnownLogs
from tallystick.node.witnessing.ledger import Ledger, origin_key
from tallystick.node.witnessing.serving import WitnessDoor
from tallystick.protocol.errors import InputError, lone_error
from tallystick.protocol.heads import Head, head_text
from tallystick.protocol.keys import ED25519_COSIGNATURE, ED25519_NOTE, Vkey
from tallystick.protocol.merkle import EMPTY_ROOT, consistency_path, leaf_hash, root_of
from tallystick.protocol.notes import Note, Signature, parse_note, sign_note
from tallystick.protocol.signers import verify_line
from tallystick.protocol.witness import (
    REQUEST_BYTES_MAX,
    AddCheckpoint,
    Cosigned,
    format_request,
    origin_hash,
    read_answer,
)

ORIGIN = "log.example/7"
KEY, OTHER = SigningKey(b"l" * 32), SigningKey(b"o" * 32)
LOG = Vkey(ORIGIN, ED25519_NOTE, bytes(KEY.verify_key))
LEAVES = [leaf_hash(bytes([at])) for at in range(100)]
FORK = LEAVES[:3] + [leaf_hash(bytes([at, at])) for at in range(3, 100)]


def request(
    old: int,
    size: int,
    *,
    key: SigningKey = KEY,
    origin: str = ORIGIN,
    leaves: list[bytes] = LEAVES,
    more: Iterable[Signature] = (),
) -> bytes:
    root = root_of(leaves[:size]) if size else EMPTY_ROOT
    text = head_text(Head(origin, size, root))
    path = consistency_path(old, size, lambda a, b: root_of(leaves[a:b])) if old <= size else []
    note = Note(text, (sign_note(text, origin, key), *more))
    return format_request(AddCheckpoint(old, tuple(path), note))


async def post(door: WitnessDoor, body: bytes) -> httpx.Response:
    async with httpx.AsyncClient(verify=False) as client:
        return await client.post(f"{door.address}/add-checkpoint", content=body)


def line_of(door: WitnessDoor, answer: httpx.Response, size: int) -> Cosigned:
    assert door.ledger is not None and answer.status_code == 200
    text = head_text(Head(ORIGIN, size, root_of(LEAVES[:size])))
    found = read_answer(200, "text/plain", answer.content, text, [door.ledger.vkey])
    assert isinstance(found, tuple)
    return found[0]


async def test_the_standards_statuses(tmp_path: Path) -> None:
    async with OneWitness(tmp_path, LOG).serving() as door:
        statuses = {
            "first": request(0, 5),
            "the same again": request(5, 5),
            "longer": request(5, 9),
            "stale": request(5, 9),
            "another history": request(9, 12, leaves=FORK),
            "another root": request(9, 9, leaves=FORK),
            "old is larger": request(12, 9),
            "signed by another": request(9, 12, key=OTHER),
            "unknown": request(0, 5, origin="log.example/8"),
            "garbage": b"old nine\n\n",
            "nothing": b"",
        }
        found = {}
        for name, body in statuses.items():
            answer = await post(door, body)
            found[name] = answer.status_code
            if answer.status_code == 409:
                assert answer.headers["content-type"] == "text/x.tlog.size"
                assert answer.content == b"9\n"
        assert found == {
            "first": 200,
            "the same again": 200,
            "longer": 200,
            "stale": 409,
            "another history": 422,
            "another root": 422,
            "old is larger": 400,
            "signed by another": 403,
            "unknown": 404,
            "garbage": 400,
            "nothing": 400,
        }
        async with httpx.AsyncClient(verify=False) as client:
            for method, path, status in (
                ("GET", "/add-checkpoint", 405),
                ("POST", "/", 404),
                ("POST", "/sign-subtree", 404),
                ("GET", f"/{'0' * 64}/checkpoint", 404),
                ("POST", f"/{origin_hash(ORIGIN)}/checkpoint", 405),
            ):
                answer = await client.request(method, door.address + path)
                assert answer.status_code == status, path
            shown = await client.get(f"{door.address}/{origin_hash(ORIGIN)}/checkpoint")
        note = parse_note(shown.content)
        assert door.ledger is not None
        assert note.text == head_text(Head(ORIGIN, 9, root_of(LEAVES[:9])))
        author, witness = note.signatures
        assert verify_line(LOG, note.text, author.blob) == 0
        assert verify_line(door.ledger.vkey, note.text, witness.blob) > 0


async def test_its_key_is_not_the_co_signers(tmp_path: Path) -> None:
    """Else its line on a head of our own channel would be a receipt for what nobody here holds."""
    async with OneWitness(tmp_path, LOG).serving() as door:
        line = line_of(door, await post(door, request(0, 5)), 5).line
        assert door.ledger is not None
        assert door.ledger.vkey.name == "gamma.example/witness"
        gamma = builders.identity("gamma.example")
        assert door.ledger.vkey.key not in (gamma.cosigner_key, gamma.log_key)
        cosigner = Vkey("gamma.example", ED25519_COSIGNATURE, gamma.cosigner_key)
        assert (line.name, line.key_id) != (cosigner.name, cosigner.id)


async def test_of_many_at_once_one_history_comes_out(tmp_path: Path) -> None:
    async with OneWitness(tmp_path, LOG, heads_per_minute=1000).serving() as door:
        answers: dict[tuple[int, bool], int] = {}

        async def ask(size: int, fork: bool) -> None:
            answer = await post(door, request(0, size, leaves=FORK if fork else LEAVES))
            answers[size, fork] = answer.status_code

        async with trio.open_nursery() as nursery:
            for size in range(10, 40):
                nursery.start_soon(ask, size, False)
                nursery.start_soon(ask, size, True)
        assert sorted(answers.values()) == [200] + [409] * 59
        (won,) = [which for which, status in answers.items() if status == 200]
        assert door.ledger is not None
        row = door.ledger.find(origin_key(ORIGIN))
        assert row is not None
        leaves = FORK if won[1] else LEAVES
        assert (row.size, row.root) == (won[0], root_of(leaves[: won[0]]))


async def test_what_it_saw_is_there_after_a_restart_and_its_times_never_go_back(
    tmp_path: Path,
) -> None:
    witness = OneWitness(tmp_path, LOG)
    async with witness.serving() as door:
        first = line_of(door, await post(door, request(0, 5)), 5)
        port = door.address
    witness.side.books.close()
    books = Books.open(open_home(witness.side.home.path), read_only=False)
    books.clock_us = lambda: (first.at_s - 1000) * 1_000_000
    witness.side.books = books
    witness.set()
    async with witness.serving() as door:
        assert door.address == port
        assert (await post(door, request(0, 9))).content == b"5\n"
        assert line_of(door, await post(door, request(5, 9)), 9).at_s == first.at_s
    books.close()


async def test_a_restored_witness_waits_for_its_owner(tmp_path: Path) -> None:
    witness = OneWitness(tmp_path, LOG)
    async with witness.serving() as door:
        await post(door, request(0, 5))
    witness.side.books.close()
    path = witness.side.home.path
    shutil.copytree(path, tmp_path / "copy")
    books = Books.open(open_home(tmp_path / "copy"), read_only=False)
    witness.side.books = books
    witness.set()
    async with witness.serving() as door:
        assert (await post(door, request(5, 9))).status_code == 503
        assert (await post(door, request(5, 9, key=OTHER))).status_code == 403
        assert door.ledger is not None
        await door.ledger.settle()
        assert (await post(door, request(5, 9))).status_code == 200
    books.close()


async def test_a_flood_of_unknown_logs_and_false_signatures_leaves_nothing(tmp_path: Path) -> None:
    async with OneWitness(tmp_path, LOG, requests_per_second=1000).serving() as door:
        async with httpx.AsyncClient(verify=False) as client:
            url = f"{door.address}/add-checkpoint"
            for number in range(300):
                body = request(0, 5, origin=f"stranger.example/{number}", key=OTHER)
                assert (await client.post(url, content=body)).status_code == 404
                body = request(0, 5, key=OTHER)
                assert (await client.post(url, content=body)).status_code == 403
        assert (await post(door, request(0, 5))).status_code == 200  # its own quota is untouched
        assert door.ledger is not None and door.ledger.origins == 1
        assert len(door._by_log._buckets) == 1
        assert len(door._by_address._buckets) == 1


async def test_who_asks_too_often_is_told_so(tmp_path: Path) -> None:
    witness = OneWitness(tmp_path, LOG, requests_per_second=1, heads_per_minute=3)
    async with witness.serving() as door:
        statuses = [(await post(door, request(0, 5))).status_code for _ in range(11)]
    assert statuses == [200, 409, 409, *[429] * 8]


async def test_bodies_are_bounded(tmp_path: Path) -> None:
    async with OneWitness(tmp_path, LOG).serving() as door:
        assert (await post(door, b"x" * (REQUEST_BYTES_MAX + 1))).status_code == 413
        many = [Signature("x.example", b"abcd", bytes([at] * 72)) for at in range(90)]
        assert (await post(door, request(0, 5, more=many))).status_code == 200
        more = [Signature("x.example", b"abcd", bytes([at] * 72)) for at in range(101)]
        assert (await post(door, request(5, 9, more=more))).status_code == 400
        row = door.ledger and door.ledger.find(origin_key(ORIGIN))
        assert row is not None
        assert len(row.checkpoint) < 1000  # strangers' lines are not kept


async def test_a_paired_peers_logs_count_by_its_name_and_key(tmp_path: Path) -> None:
    witness = OneWitness(tmp_path, origins=2)
    acme = builders.identity("acme.example")
    witness.side.books.peers[acme.name] = homes.peer_of(acme)
    async with witness.serving() as door:
        found = []
        for number in range(3):
            origin = f"acme.example/{bytes([number] * 32).hex()}"
            found.append((await post(door, request(0, 5, origin=origin, key=acme.log))).status_code)
        assert found == [200, 200, 403]
        origin = f"acme.example/{bytes(32).hex()}"
        assert (await post(door, request(5, 9, origin=origin, key=acme.log))).status_code == 200
        assert (await post(door, request(9, 12, origin=origin, key=KEY))).status_code == 403
        other = f"beta.example/{bytes(32).hex()}"
        assert (await post(door, request(0, 5, origin=other, key=acme.log))).status_code == 404
        odd = "acme.example/short"
        assert (await post(door, request(0, 5, origin=odd, key=acme.log))).status_code == 404


async def test_a_damaged_row_stops_the_start_and_mending_it_leaves_a_doubt(tmp_path: Path) -> None:
    witness = OneWitness(tmp_path, LOG)
    async with witness.serving() as door:
        await post(door, request(0, 5))
    books = witness.side.books
    key = origin_key(ORIGIN)
    with books.store.read() as txn:
        stored = txn.raw("seen", key)
    bad = bytes([stored[0] ^ 1]) + stored[1:]
    books.store.commit_now(lambda txn: txn.put_raw("seen", key, bad))
    with pytest.raises(StoreError, match="run: tally doctor"):
        Ledger(books.store, "gamma.example", KEY, KnownLogs(books, door.settings), 9, lambda: 0)
    books.close()
    path, name = witness.side.home.path, "gamma.example"
    store = AnyStore(path / "store", read_only=True)
    assert [c.name for c in examine(store, path / "ids", name).checks if c.ok is False] == ["sums"]
    store.close()
    mend(path / "store", path / "ids", name, tmp_path / "aside")
    books = Books.open(open_home(witness.side.home.path), read_only=False)
    ledger = Ledger(
        books.store, "gamma.example", KEY, KnownLogs(books, door.settings), 9, lambda: 0
    )
    assert ledger.doubtful and not ledger.origins
    books.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"listen": "0.0.0.0:0"}, "witness.remote = true"),
        ({"listen": "nonsense"}, "not an address"),
    ],
)
async def test_a_wrong_address_stops_the_start(
    tmp_path: Path, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with OneWitness(tmp_path, LOG, **settings).serving():
            pass
    error = lone_error(caught.value)
    assert isinstance(error, HomeError | InputError)
    assert said in str(error)


async def test_a_body_that_creeps_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "BODY_SECONDS", 0.2)
    async with OneWitness(tmp_path, LOG).serving() as door:
        host, port = door.address.removeprefix("http://").split(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            head = b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 100\r\n\r\nold 0"
            await stream.send_all(head)
            assert b" 408 " in await stream.receive_some(4096)
        assert (await post(door, request(0, 5))).status_code == 200
