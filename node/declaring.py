"""Declaring one's own totals of a period: commit, wait for the peer's, reveal.

What opens a declaration (salt and totals) is on the disk before the declaration is in our log, and
stays until the period is closed. The reveal follows by itself once the peer has declared too
(`protocol.declarations.next_opening`): it is found from the two logs and those rows each time anew,
so a crash at any moment changes nothing. A home that lost the rows cannot reveal; its people
declare again, as long as nobody has revealed.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import trio

from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.errands import WHEN_CALLED
from tallystick.node.errors import StoreError
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import DeclarationRow, declaration_key, encode_row, log_key
from tallystick.node.upkeep import RETRY_SECONDS
from tallystick.node.verdicts import commitments_of, durable_sizes, verdict_on
from tallystick.protocol.declarations import (
    SALT_SIZE,
    Commitments,
    Declared,
    commitment,
    declared,
    next_opening,
    periods_of,
    somebody_revealed,
    totals_of,
)
from tallystick.protocol.derive import period_lines
from tallystick.protocol.errors import InputError, InvalidRecord, TallyError
from tallystick.protocol.records import (
    ROLES,
    Declaration,
    DeclaredTotal,
    Reveal,
    record_digest,
)
from tallystick.protocol.rendering import verdict_document
from tallystick.protocol.verdict import decode_verdict

LOOK_PAUSE_SECONDS = 0.2  # between two looks, however often something changes
LOOK_AGAIN_SECONDS = 3_600

_log = logging.getLogger("tallystick.declaring")
_decode = msgspec.msgpack.Decoder(DeclarationRow).decode


def kept_rows(channel: Channel) -> dict[bytes, DeclarationRow]:
    """What opens our declarations, by their commitments."""
    number = channel.row.number
    with channel.store.read() as txn:
        scan = txn.scan("declarations", log_key(number), log_key(number + 1))
        return {key[4:]: _decode(value) for key, value in scan}


def openable(channel: Channel) -> dict[bytes, DeclarationRow]:
    """What opens the declarations in our log, by their digests."""
    kept = kept_rows(channel)
    return {
        record_digest(record): kept[record.commitment]
        for _, record in channel.own.matters(channel.own.durable_size)
        if isinstance(record, Declaration) and record.commitment in kept
    }


def _sides(channel: Channel, label: str) -> tuple[Commitments, Commitments]:
    """What both logs say of a period here: ours, the peer's."""
    found = commitments_of(channel, label, durable_sizes(channel))
    return found if channel.role == ROLES[0] else (found[1], found[0])


class Declarer:
    """The declarations of one node. `caught_up` says whether a channel's link is live and nothing
    of the peer's log is missing here.
    """

    def __init__(self, books: Books, caught_up: Callable[[Channel], bool]) -> None:
        self._books = books
        self._caught_up = caught_up
        self._waits: set[Channel] = set()

    async def declare(
        self, channel: Channel, closer: Closer, label: str, totals: Mapping[str, int], early: bool
    ) -> tuple[int, bool]:
        """Commit to our totals (in each meter's scale) of a period, durably.

        The index of the declaration in our log, and whether it stood there before.
        """
        period = channel.own.folder.calendar.parse(label)
        if closer.row_of(period) is not None:
            raise InputError(
                f"{period.label} is closed", "What was declared before is in its checkpoint"
            )
        if closer.last is not None and period.end_us <= closer.last.end_us:
            raise InputError(
                f"{period.label} is before {closer.last.period}, which is closed",
                "It cannot be closed any more, so nothing would come of a declaration",
            )
        if self._books.clock_us() < period.end_us and not early:
            raise InputError(
                f"{period.label} is not over by the clock here",
                "Wait for its end, or declare with --early what you know to be all of it",
            )
        shown = totals_of(channel.terms, totals)
        if not shown:
            raise InputError("there is no total to declare")
        before = self._same(channel, period.label, shown)
        if before is not None:
            return before, True
        _check_unrevealed(channel, period.label)
        salt = secrets.token_bytes(SALT_SIZE)
        made = commitment(channel.terms, channel.role, period.label, salt, shown)
        key = declaration_key(channel.row.number, made)
        row = encode_row(DeclarationRow(period.label, salt, shown))
        # If we stop after this, the row opens nothing, and goes when the period is closed.
        await channel.store.commit(lambda txn: txn.put("declarations", key, row))

        def make() -> Declaration | None:
            nonlocal before
            before = self._same(channel, period.label, shown)  # said by another command meanwhile
            if before is not None:
                return None
            _check_unrevealed(channel, period.label)
            return Declaration(period.label, made, channel.now_recorded_at())

        try:
            index = await channel.append_made(make)
        except InvalidRecord as error:
            raise InputError(error.message, error.advice) from None
        if index is None:
            assert before is not None, "a declaration was made, or is there"
            return before, True
        return index, False

    def _same(self, channel: Channel, label: str, totals: tuple[DeclaredTotal, ...]) -> int | None:
        """Where our newest declaration of a period stands, if it is of these very totals."""
        own, _ = _sides(channel, label)
        row = openable(channel).get(own.newest) if own.newest else None
        if own.newest is None or row is None or row.totals != totals:
            return None
        return own.declarations[own.newest]

    def hears(self, channel: Channel) -> bool:
        """Whether a co-signature, or that the peer is here, may let something be revealed."""
        return channel in self._waits

    async def follow(self, channel: Channel) -> float:
        """Reveal in a channel what is to be revealed now; when to look again."""
        _, closer = self._books.channels[channel.id]
        seconds: float = LOOK_AGAIN_SECONDS
        waits = True
        self._waits.add(channel)  # what comes meanwhile is looked at next
        try:
            await self._forget_closed(channel, closer)
            labels = self._waiting(channel, closer)
            waits = bool(labels)
            for label in labels if self._may_write(channel) else ():
                await self._reveal(channel, label)
        except StoreError as error:
            _log.warning("a reveal waits for the disk", extra={"reason": error})
            seconds = RETRY_SECONDS
        except TallyError as error:
            _log.error("a reveal failed", extra={"peer": channel.peer_keys.name, "reason": error})
        await trio.sleep(LOOK_PAUSE_SECONDS)
        if not waits:
            self._waits.discard(channel)
            return WHEN_CALLED
        return seconds

    def _may_write(self, channel: Channel) -> bool:
        state = self._books.founding.rows[channel.id].state
        return state == "open" and channel.live and not channel.doubt and self._caught_up(channel)

    def _waiting(self, channel: Channel, closer: Closer) -> list[str]:
        """The open periods of which both parties have declared, and we could open something."""
        labels = periods_of(channel.own.matters(channel.own.durable_size))
        kept = openable(channel) if labels else {}
        calendar = channel.own.folder.calendar
        found = []
        for label in labels:
            if closer.row_of(calendar.parse(label)) is None:
                own, peer = _sides(channel, label)
                unopened = own.declarations.keys() - own.openings.keys()
                if peer.declarations and unopened & kept.keys():
                    found.append(label)
        return found

    async def _reveal(self, channel: Channel, label: str) -> None:
        """Open what the rule says for a period, if it says so now."""
        kept = openable(channel)

        def find() -> tuple[bytes, bytes] | None:
            own, peer = _sides(channel, label)
            cosigned = (channel.own.cosigned_size, channel.peer.cosigned_size)
            return next_opening(own, peer, cosigned, kept.keys())

        def make() -> Reveal | None:
            found = find()
            if found is None:
                return None
            row = kept[found[0]]
            return Reveal(*found, row.salt, row.totals, channel.now_recorded_at())

        if find() is not None and await channel.append_made(make) is not None:
            _log.info(
                "our totals are revealed",
                extra={"period": label, "peer": channel.peer_keys.name},
            )

    async def _forget_closed(self, channel: Channel, closer: Closer) -> None:
        """Remove what opens declarations of closed periods: nothing of it counts any more."""
        calendar = channel.own.folder.calendar
        keys = [
            declaration_key(channel.row.number, made)
            for made, row in kept_rows(channel).items()
            if closer.row_of(calendar.parse(row.period)) is not None
        ]

        def job(txn: Txn) -> None:
            for key in keys:
                txn.delete("declarations", key)

        if keys:
            await channel.store.commit(job)


def _check_unrevealed(channel: Channel, label: str) -> None:
    own, peer = _sides(channel, label)
    if somebody_revealed(own, peer):
        who = channel.own.party.name if own.openings else channel.peer_keys.name
        raise InputError(
            f"{who} has revealed its totals of {label}, so nobody can declare it any more",
            "See tally declare --show; a wrong total is put right by a dispute or a correction",
        )


# What people ask


def declarations_document(channel: Channel, closer: Closer, label: str) -> dict[str, Any]:
    """How the declarations of a period stand here, and the verdict so far or as it was signed."""
    period = channel.own.folder.calendar.parse(label)
    row = closer.row_of(period)
    sizes = row.sizes if row else durable_sizes(channel)
    sides = commitments_of(channel, period.label, sizes)
    counted = declared(*sides)
    if row is not None:
        verdict = decode_verdict(row.verdict) if row.verdict else None
    else:
        lines = period_lines(closer.open_lines(), period.label)
        verdict = verdict_on(channel, period.label, lines, sizes)
    logs = (channel.provider_log, channel.consumer_log)
    own = sides[ROLES.index(channel.role)]
    kept = openable(channel).get(own.newest) if own.newest else None
    return {
        "channel": channel.id.hex(),
        "period": period.label,
        "closed": row is not None,
        **{
            role: _side_document(channel, log.party.name, one)
            for role, log, one in zip(ROLES, logs, counted, strict=True)
        },
        "ours": channel.role,
        "kept": None if kept is None else _totals_document(kept.totals),
        "verdict": None if verdict is None else verdict_document(verdict),
    }


def _side_document(channel: Channel, party: str, side: Declared) -> dict[str, Any]:
    totals = None if side.totals is None else totals_of(channel.terms, side.totals)
    return {
        "party": party,
        "declarations": side.committed,
        "revealed": side.revealed,
        "totals": None if totals is None else _totals_document(totals),
        "problem": side.problem,
    }


def _totals_document(totals: tuple[DeclaredTotal, ...]) -> dict[str, str]:
    return {row.meter: row.total for row in totals}
