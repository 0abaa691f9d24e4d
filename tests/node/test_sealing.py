"""What is kept beside a delta: in its transaction, with its digest in the record that both sign."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import builders
import homes

from tallystick.node.importing.drafts import Draft
from tallystick.node.recovery import record_aside, set_aside
from tallystick.node.sealing import SEALED_BYTES_MAX, content_of, seal, sealed_of
from tallystick.node.store.keyspace import delta_key
from tallystick.protocol.records import Delta


def _draft(id_: str, content: bytes | None = b"why", meter: str = "tokens") -> Draft:
    sealed = b"" if content is None else seal(content)
    return Draft(id_, meter, "s", 5, builders.OCTOBER_US, sealed)


def _found(side: homes.Side, id_: str) -> Delta:
    found = side.channel.own.find("tokens", id_)
    assert found is not None
    return found[1]


async def test_the_record_has_the_digest_and_the_peer_nothing_else(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        drafts = [_draft("with"), _draft("without", None)]
        await a.channel.emit(drafts)
        await homes.exchange(a, b)
        delta = _found(a, "with")
        assert delta.attributes == sha256(drafts[0].sealed).digest()
        assert content_of(a.channel.own, delta) == b"why"
        plain = _found(a, "without")
        assert (plain.attributes, content_of(a.channel.own, plain)) == (None, None)
        theirs = b.channel.peer.find("tokens", "with")
        assert theirs is not None
        assert theirs[1] == delta
        assert content_of(b.channel.peer, theirs[1]) is None
        # Erased, it is gone, and the log is as valid as before.
        key = delta_key(a.channel.own.number, "tokens", "with")
        await a.books.store.commit(lambda txn: txn.delete("attributes", key))
        assert content_of(a.channel.own, delta) is None
        other = seal(b"another")
        await a.books.store.commit(lambda txn: txn.put("attributes", key, other))
        assert sealed_of(a.channel.own, delta) == b""


async def test_the_salt_is_fresh_and_what_came_first_stays(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, _):
        one, two = _draft("x", b"first"), _draft("x", b"second")
        assert one.sealed[:16] != two.sealed[:16]
        for drafts in ([one, two], [two]):
            result = await a.channel.emit(drafts)
            assert result.problems == []
        assert content_of(a.channel.own, _found(a, "x")) == b"first"


async def test_too_much_is_refused(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, _):
        large = _draft("large", b"x" * SEALED_BYTES_MAX)
        result = await a.channel.emit([large, _draft("small")])
        ((place, kind, said),) = result.problems
        assert (place, kind) == (0, "rejected")
        assert "are allowed" in said
        assert content_of(a.channel.own, _found(a, "small")) == b"why"


async def test_it_comes_back_with_what_was_set_aside(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await homes.exchange(a, b)
        a.channel.live = False
        await a.channel.emit([_draft("tail", b"kept")])
        before = _found(a, "tail")
        await set_aside(a.channel)
        assert a.channel.own.find("tokens", "tail") is None
        await a.channel.emit_paused([_draft("between")])
        await record_aside(a.channel)
        a.channel.resume()
        after = a.channel.own.find("tokens", "tail")
        assert after is not None
        assert after[1].attributes == before.attributes
        assert content_of(a.channel.own, after[1]) == b"kept"
