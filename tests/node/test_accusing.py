"""A peer with beta's real keys equivocates at a real socket: acme keeps what convicts it.

One pair of nodes has a channel for every case. Beta's node is stopped while the impostor speaks in
its place, and runs again at the end: the channel in which nothing happened goes on.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import nodes
import pytest
import trio
from accusing import head_note
from impostor import Impostor

from tallystick.node import accusing, cli
from tallystick.node.books import Books
from tallystick.node.home import open_home
from tallystick.node.importing.drafts import Draft
from tallystick.node.rpc import RpcClient
from tallystick.node.store.source import stored_parts
from tallystick.protocol.accusation import Accused
from tallystick.protocol.evidence import build_evidence, parse_evidence
from tallystick.protocol.heads import Head, cosign_head, sign_head
from tallystick.protocol.keys import Identity, origin
from tallystick.protocol.merkle import chain_leaves, root_of
from tallystick.protocol.messages import Halt
from tallystick.protocol.records import Delta

TERMS = nodes.TERMS.replace('source = "provider"', 'source = "both"\npayable = "provider"')
CASES = ("longer", "shorter", "unsigned", "foreign", "cosigned", "imported", "honest")
LIES = [Delta(f"lie-{n}", "context-tokens", "s", 7, 1, 2**51, None) for n in range(400)]
LONG = 600  # records of beta's log where trees of several tiles are wanted
TIME_SECONDS = 1_800_000_000


@dataclass
class World:
    """Acme's running node, beta's stopped one, and a channel of both for each case."""

    acme: nodes.Party
    beta: nodes.Party
    channels: dict[str, str]

    def impostor(self, case: str) -> Impostor:
        return Impostor(self.acme, self.beta, self.channels[case])

    def status(self, case: str) -> Any:
        found = tally_json(self.acme, "status")["channels"]
        return next(one for one in found if one["channel"] == self.channels[case])

    def halted(self, case: str) -> Any:
        """The channel's status once it has halted: the peer hears of it a moment before."""
        nodes.wait_until(lambda: self.status(case)["state"] == "halted")
        return self.status(case)

    def evidence(self, case: str) -> Any:
        key = self.channels[case]
        return tally_json(self.acme, "evidence", "--channel", key)["evidence"]


@dataclass
class Done:
    """What a verb printed, and its exit code."""

    code: int
    out: str
    err: str


def tally(party: nodes.Party, *arguments: str) -> Done:
    """A verb without the cost of a process; the node runs in its own."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli._run(["--home", str(party.home), *arguments])
    return Done(code, out.getvalue(), " ".join(err.getvalue().split()))


def tally_json(party: nodes.Party, *arguments: str) -> Any:
    """A verb's JSON document."""
    return json.loads(tally(party, *arguments, "--json").out)


async def _furnish(acme: nodes.Party, beta: nodes.Party) -> dict[str, str]:
    """Found the channels; in each both have made two emits that the other co-signed."""
    channels = {}
    async with (
        RpcClient.connect(open_home(acme.home)) as ours,
        RpcClient.connect(open_home(beta.home)) as theirs,
    ):
        for case in CASES:
            proposed = await ours.call("propose", source=TERMS.encode(), to=beta.name)
            key = channels[case] = proposed["channel"]
            await theirs.call("accept", selector=key)
            for client in (ours, theirs):
                many = LONG if client is theirs and case in ("longer", "shorter") else 1
                for names in (["first"], [f"next-{n}" for n in range(many)]):
                    drafts = [Draft(name, "context-tokens", "s", 1, 1) for name in names]
                    data = msgspec.msgpack.encode(drafts)
                    done = await client.call("emit", channel=key, drafts=data)
                await client.call("wait", channel=key, size=done["size"], seconds=30)
    return channels


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with nodes.running(tmp_path_factory.mktemp("accusing")) as (acme, beta):
        nodes.pair(acme, beta)
        channels = trio.run(_furnish, acme, beta)
        beta.stop()
        yield World(acme, beta, channels)


def _verify(file: Path) -> tuple[int, Any]:
    """`tally verify` as an auditor runs it: a process of its own, in a folder without a home."""
    environment = {k: v for k, v in os.environ.items() if k != "TALLYSTICK_HOME"}
    done = subprocess.run(
        [sys.executable, "-c", nodes.MAIN, "verify", str(file), "--json"],
        capture_output=True,
        text=True,
        cwd=file.parent,
        env={**environment, "HOME": str(file.parent)},
    )
    return done.returncode, json.loads(done.stdout)


def _identity(party: nodes.Party) -> Identity:
    return open_home(party.home).identity()


def _acme_parts(world: World, case: str) -> list[bytes]:
    """The records of acme's log, as beta's home has them."""
    books = Books.open(open_home(world.beta.home), read_only=True)
    channel, _ = books.channels[bytes.fromhex(world.channels[case])]
    with books.store.read() as txn:
        parts = list(stored_parts(txn, channel.peer.number, 0, channel.peer.durable_size))
    books.close()
    return parts


@pytest.mark.parametrize(("case", "first", "lies"), [("longer", 300, 400), ("shorter", 100, 300)])
def test_a_peer_that_signs_another_history_is_convicted_offline(
    world: World, tmp_path: Path, case: str, first: int, lies: int
) -> None:
    impostor = world.impostor(case)
    head, batch = impostor.rewritten(first, *LIES[:lies])
    signature = sign_head(head, impostor.identity.log)
    append = impostor.append(first, batch, signature)
    trio.run(impostor.talk, impostor.hello(), impostor.holding(), append)

    (listed,) = world.evidence(case)
    assert (listed["accused"], listed["kind"]) == ("beta.example", "author")
    assert listed["sizes"] == sorted([LONG + 2, first + lies])
    status = world.halted(case)
    assert listed["digest"][:16] in status["reason"]
    assert status["evidence"] == [listed["digest"]]
    assert status["theirs"]["size"] == LONG + 2  # what was agreed before is untouched

    file = tmp_path / "beta.evidence"
    tally(world.acme, "evidence", "export", listed["digest"][:8], "-o", str(file))
    code, document = _verify(file)
    assert (code, document["ok"]) == (0, True)
    assert document["checks"][-1]["detail"].startswith("convicts beta.example of signing two")

    data = file.read_bytes()
    place = data.index(b"\nprefix ") + 10
    other = b"A" if data[place : place + 1] != b"A" else b"B"
    file.write_bytes(data[:place] + other + data[place + 1 :])
    assert tally(world.acme, "verify", str(file)).code == 1


def test_an_unsigned_rewriting_is_no_evidence_and_halts_all_the_same(world: World) -> None:
    impostor = world.impostor("unsigned")
    _, batch = impostor.rewritten(2, LIES[0])
    append = impostor.append(2, batch, bytes(64))
    trio.run(impostor.talk, impostor.hello(), impostor.holding(), append)
    assert world.evidence("unsigned") == []
    assert "again" in world.halted("unsigned")["reason"]


def test_our_own_signature_on_another_history_convicts_us(world: World, tmp_path: Path) -> None:
    impostor, acme = world.impostor("foreign"), _identity(world.acme)
    head = Head(origin(acme.name, impostor.channel), 2, b"\x07" * 32)
    shown = impostor.holding(2, head.root, sign_head(head, acme.log))
    heard = trio.run(impostor.talk, impostor.hello(), shown)
    assert any(isinstance(m, Halt) and "our own signature convicts us" in m.reason for m in heard)
    (listed,) = world.evidence("foreign")
    assert (listed["accused"], listed["kind"]) == ("acme.example", "author")
    assert listed["digest"][:16] in world.halted("foreign")["reason"]

    file, out = tmp_path / "acme.evidence", tmp_path / "acme.refutation"
    tally(world.acme, "evidence", "export", listed["digest"], "-o", str(file))
    assert tally(world.beta, "verify", str(file)).code == 0
    refused = tally(world.acme, "evidence", "refute", str(file), "-o", str(out))
    assert refused.code == 1
    assert "the accusation is true" in refused.err
    assert not out.exists()


def test_a_co_signature_on_what_we_never_signed_convicts_the_co_signer(world: World) -> None:
    impostor = world.impostor("cosigned")
    head = Head(origin(world.acme.name, impostor.channel), 2, b"\x08" * 32)
    cosignature = cosign_head(head, impostor.identity.cosigner, TIME_SECONDS)
    shown = impostor.holding(2, head.root, bytes(64), cosignature)
    heard = trio.run(impostor.talk, impostor.hello(), shown)
    assert any(isinstance(m, Halt) and "never signed" in m.reason for m in heard)
    (listed,) = world.evidence("cosigned")
    assert (listed["accused"], listed["kind"]) == ("beta.example", "co-signer")


def _two_heads(world: World, case: str) -> bytes:
    """Evidence against beta that somebody else has: two heads of one size."""
    impostor = world.impostor(case)
    books = Books.open(open_home(world.beta.home), read_only=True)
    terms = books.channels[impostor.channel][0].row.terms
    books.close()
    notes = [head_note(impostor.rewritten(2, lie)[0], impostor.identity) for lie in LIES[:2]]
    who = Accused(impostor.channel, "beta.example", "author", terms)
    return build_evidence(who, notes[0], notes[1], lambda start, end: bytes(32))


def test_evidence_from_elsewhere_halts_the_channel_of_the_running_node(
    world: World, tmp_path: Path
) -> None:
    file = tmp_path / "beta.evidence"
    data = _two_heads(world, "imported")
    file.write_bytes(data[:-20] + b"A" + data[-19:])
    refused = tally(world.acme, "evidence", "import", str(file))
    assert refused.code == 1
    assert "convicts nobody" in refused.err
    assert world.status("imported")["state"] == "confirming"

    file.write_bytes(data)
    stopped = tally(world.beta, "evidence", "import", str(file))
    assert stopped.code == 3
    assert "no node is running" in stopped.err

    said = tally(world.acme, "evidence", "import", str(file)).out
    assert "convicts beta.example" in said
    assert all(len(line) <= 80 for line in said.splitlines())
    (listed,) = world.evidence("imported")
    assert listed["digest"][:16] in world.halted("imported")["reason"]
    again = tally_json(world.acme, "evidence", "import", str(file))
    assert again["digest"] == listed["digest"]
    assert len(world.evidence("imported")) == 1
    refused = tally(world.acme, "evidence", "refute", str(file), "-o", "x")
    assert refused.code == 2
    assert "accuses beta.example, not acme.example" in refused.err


def test_an_honest_party_refutes_offline(world: World, tmp_path: Path) -> None:
    acme, beta = _identity(world.acme), _identity(world.beta)
    key = bytes.fromhex(world.channels["honest"])
    leaves = chain_leaves(key, _acme_parts(world, "honest"))
    notes = [
        head_note(Head(origin(acme.name, key), size, root_of(leaves[:size])), acme, beta)
        for size in (2, 3)
    ]
    books = Books.open(open_home(world.beta.home), read_only=True)
    terms = books.channels[key][0].row.terms
    books.close()
    who = Accused(key, "acme.example", "author", terms)
    # The accuser claims that the larger head's history has another root at size 2.
    false = build_evidence(who, notes[0], notes[1], lambda start, end: bytes(32))
    accusation, note = tmp_path / "false.evidence", tmp_path / "head.note"
    accusation.write_bytes(false)
    note.write_bytes(notes[0])
    assert tally(world.beta, "verify", str(accusation)).code == 1

    for file, answered in ((accusation, [2, 3]), (note, [2])):
        out = tmp_path / f"{file.name}.refutation"
        made = tally_json(world.acme, "evidence", "refute", str(file), "-o", str(out))
        assert (made["answers"], made["agreed"]) == (answered, 3)
        code, document = _verify(out)
        assert (code, document["ok"]) == (0, True)
        assert document["checks"][-1]["detail"].startswith("refutes the accusation of acme")
        data = out.read_bytes()
        out.write_bytes(data.replace(b"\nagreed 3\n", b"\nagreed 2\n"))
        assert tally(world.beta, "verify", str(out)).code == 1

    # What beta co-signed of acme's log it answers for itself, without a running node.
    out = tmp_path / "beta.refutation"
    made = tally_json(world.beta, "evidence", "refute", str(note), "-o", str(out))
    assert made["answers"] == [2]
    assert tally(world.acme, "verify", str(out)).code == 0


def test_what_accuses_nobody_is_not_answered(world: World, tmp_path: Path) -> None:
    key = bytes.fromhex(world.channels["honest"])
    beta = _identity(world.beta)
    file = tmp_path / "head.note"
    head = Head(origin("acme.example", key), 2, b"\x09" * 32)
    for data, said in (
        (b"what\n", "neither evidence nor a signed head"),
        (head_note(head, None, beta), "accuses nobody"),
        (head_note(Head("gamma.example/00", 2, bytes(32)), beta), "not a log of ours"),
    ):
        file.write_bytes(data)
        refused = tally(world.acme, "evidence", "refute", str(file), "-o", "x")
        assert refused.code == 2
        assert said in refused.err


def test_what_people_see_fits_the_terminal(world: World) -> None:
    printed = tally(world.acme, "evidence").out + tally(world.acme, "status").out
    assert "co-signer" in printed
    assert "1 file; see tally evidence" in printed
    assert all(len(line) <= 80 for line in printed.splitlines())
    missing = tally(world.acme, "evidence", "export", "zz", "-o", "x")
    assert missing.code == 2


def test_the_channel_in_which_nothing_happened_goes_on(world: World) -> None:
    world.beta.start()
    key = world.channels["honest"]
    delta = ("context-tokens", "1", "--subject", "s", "--id", "goes-on")
    assert tally(world.acme, "emit", *delta, "--wait", "--channel", key).code == 0
    assert world.status("honest")["state"] == "open"
    assert world.status("longer")["state"] == "halted"
    world.beta.stop()


def test_what_is_kept_convicts(world: World) -> None:
    """Kept evidence parses again from the store, whatever wrote it."""
    books = Books.open(open_home(world.acme.home), read_only=True)
    for channel, _ in books.channels.values():
        for found in accusing.kept(channel):
            assert parse_evidence(found.data) == found.evidence
            assert accusing.convicts(found.data)
    books.close()
