"""A home restored from an old backup with disputes, a declaration and a lapse in it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import nodes
import trio

from tallystick.node import certifying, disputing
from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.declaring import declarations_document
from tallystick.node.doctor.child import examine_apart
from tallystick.node.home import open_home
from tallystick.node.importing.drafts import Draft
from tallystick.node.queries import derive
from tallystick.node.rpc import RpcClient
from tallystick.protocol.records import (
    Answer,
    Close,
    Dispute,
    Lapse,
    Matter,
    Reveal,
    encode_record,
)
from tallystick.protocol.verify_certificate import verify_certificate

CLOCKS = '[clocks]\ngrace = "0s"\ndispute = "1s"\nanswer = "1h"\n[meters.context-tokens]'
TERMS = nodes.TERMS.replace("[meters.context-tokens]", CLOCKS)
HOUR, METER, AT_US = "2026-01-05T10", "context-tokens", 1_767_607_200_000_000
TOTALS = {METER: "9", "generated-tokens": "0"}


def _ask(party: nodes.Party, method: str, **params: object) -> Any:
    async def ask() -> Any:
        async with RpcClient.connect(open_home(party.home)) as client:
            return await client.call(method, channel=None, **params)

    return trio.run(ask)


def _emit(party: nodes.Party, name: str) -> None:
    drafts = msgspec.msgpack.encode([Draft(name, METER, "s", 3, AT_US)])
    _ask(party, "emit", drafts=drafts)


def _say(party: nodes.Party, record: Dispute | Answer) -> bytes:
    digest: bytes = _ask(party, "say", record=encode_record(record))["dispute"]
    return digest


def _dispute(amount: int, reason: str) -> Dispute:
    return Dispute(HOUR, METER, "s", amount, "quantity", reason, (), 0)


def _looked(party: nodes.Party, look: Any) -> Any:
    """What a look at the party's channel, in its store, gives."""
    books = Books.open(open_home(party.home), read_only=True)
    try:
        return look(*books.channels[books.select(None)])
    finally:
        books.close()


def _said(party: nodes.Party, *, own: bool) -> list[tuple[int, Close | Matter]]:
    """The closes and matters of a log, with their indexes."""

    def look(channel: Channel, _: object) -> list[tuple[int, Close | Matter]]:
        log = channel.own if own else channel.peer
        return log.matters(log.durable_size)

    found: list[tuple[int, Close | Matter]] = _looked(party, look)
    return found


def _states(party: nodes.Party) -> dict[str, str]:
    """Where each dispute stands, by its reason."""

    def look(channel: Channel, _: object) -> dict[str, str]:
        return {one.dispute.reason: one.state for one in disputing.standing_all(channel)}

    found: dict[str, str] = _looked(party, look)
    return found


def test_an_old_backup_loses_no_dispute_declaration_or_lapse(tmp_path: Path) -> None:
    with nodes.channel(tmp_path, TERMS) as (acme, beta):
        for name in ("one", "two", "three"):
            _emit(acme, name)
        nodes.wait_until(lambda: _looked(beta, derive)["lines"])
        _let_lapse(acme, beta, "not insisted on")
        _ask(acme, "declare", period=HOUR, totals=TOTALS, early=True)
        acme.tally("backup", "-o", str(tmp_path / "b"))
        # What comes now the backup does not have.
        _say(acme, _dispute(2, "a late one"))
        _let_lapse(acme, beta, "theirs")
        nodes.wait_until(lambda: "a late one" in _states(beta))
        before = [_said(acme, own=own) for own in (True, False)]
        acme.kill()
        beta.stop()
        shutil.rmtree(acme.home)
        acme.tally("restore", str(tmp_path / "b"))
        assert len(_said(acme, own=True)) < len(before[0])
        acme.start()
        _say(acme, _dispute(1, "while in doubt"))
        beta.start()
        nodes.wait_until(lambda: "while in doubt" in _states(beta))
        for own, known in zip((True, False), before, strict=True):
            assert _said(acme, own=own)[: len(known)] == known
        _ask(beta, "declare", period=HOUR, totals=TOTALS, early=True)
        for party in (acme, beta):
            nodes.wait_until(lambda party=party: _revealed(party))  # type: ignore[misc]
        nodes.wait_until(lambda: _looked(acme, derive) == _looked(beta, derive))
        for party in (acme, beta):
            assert _states(party) == {
                "not insisted on": "lapsed",
                "a late one": "open",
                "theirs": "lapsed",
                "while in doubt": "open",
            }
            assert all(check.ok for check in verify_certificate(_certificate(party)))
        _check_once(acme, beta)
        home = open_home(acme.home)
        checks = examine_apart(home.store_path, home.path / "ids", home.name)
        assert [check for check in checks if not check.ok] == []


def _let_lapse(acme: nodes.Party, beta: nodes.Party, reason: str) -> None:
    """Beta disputes, acme answers, and beta does not insist until it is too late."""
    digest = _say(beta, _dispute(1, reason))
    nodes.wait_until(lambda: reason in _states(acme))
    _say(acme, Answer(digest, 0, f"as counted: {reason}", (), 0))
    for party in (acme, beta):
        nodes.wait_until(lambda party=party: _states(party).get(reason) == "lapsed")  # type: ignore[misc]


def _revealed(party: nodes.Party) -> bool:
    """Whether both totals are open in a party's store."""
    document = _looked(party, lambda c, closer: declarations_document(c, closer, HOUR))
    return bool(document["provider"]["totals"] == document["consumer"]["totals"] == TOTALS)


def _check_once(acme: nodes.Party, beta: nodes.Party) -> None:
    """Both hold the same, nothing was said twice, and no record lapsed twice."""
    said = [record for _, record in _said(acme, own=True)]
    assert said == [record for _, record in _said(beta, own=False)]
    reasons = [record.reason for record in said if isinstance(record, Dispute | Answer)]
    assert len(reasons) == len(set(reasons)) == 4
    lapsed = [record.index for record in said if isinstance(record, Lapse)]
    assert len(lapsed) == len(set(lapsed)) == 2
    assert sum(isinstance(record, Reveal) for record in said) == 1


def _certificate(party: nodes.Party) -> bytes:
    def look(channel: Channel, _: object) -> bytes:
        standing = disputing.standing_all(channel)
        (one,) = [one for one in standing if one.dispute.reason == "not insisted on"]
        return certifying.of_dispute(channel, one)

    data: bytes = _looked(party, look)
    return data
