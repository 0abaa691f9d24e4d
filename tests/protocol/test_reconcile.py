"""Sessions in memory: honest ones find exactly what differs, and every cheat is stopped.

Each cheat is a change of one kind of message on its way; the side that gets it must stop, and never
open more than was agreed on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reconciling import BY_CONTENT, BY_ID, END_US, SCOPE, START_US, row_set, sides, talk

from tallystick.protocol.errors import SessionStopped
from tallystick.protocol.messages import (
    CELLS_MAX,
    FINGERPRINTS_MAX,
    PAGE_ROWS,
    AskReconcile,
    ConsentReconcile,
    InReconciliation,
    OpenRows,
    ReconcileDone,
    RevealNonce,
    SketchCells,
    SliceSums,
    WantCells,
    WantRows,
)
from tallystick.protocol.reconcile import cells_max
from tallystick.protocol.rowset import Likeness, Row, decode_row, encode_row

SECOND_US = 1_000_000
ROWS = st.builds(
    Row,
    st.sampled_from(["tokens", "calls"]),
    st.sampled_from(["a", "b", "c", "d"]),
    st.sampled_from(["x", "y"]),
    st.integers(-3, 3),
    st.integers(START_US, START_US + 5 * SECOND_US),
    st.just(0),
)


def _rows(first: int, stop: int, **fields: object) -> list[Row]:
    rows = [Row("tokens", f"e{n}", "x", n, START_US + n * SECOND_US, 0) for n in range(first, stop)]
    return [msgspec.structs.replace(row, **fields) for row in rows]


def _seen(likeness: Likeness, rows: list[Row]) -> Counter[bytes]:
    return Counter(likeness.digest(row) for row in rows)


@settings(max_examples=40)
@given(
    ours=st.lists(ROWS, max_size=25),
    theirs=st.lists(ROWS, max_size=25),
    both=st.lists(ROWS, max_size=25),
    likeness=st.sampled_from([BY_ID, BY_CONTENT]),
)
def test_what_is_opened_is_what_differs(
    ours: list[Row], theirs: list[Row], both: list[Row], likeness: Likeness
) -> None:
    ours, theirs = ours + both, theirs + both
    asker, consenter = sides(row_set(ours, likeness), row_set(theirs, likeness))
    talk(asker, consenter)
    found, other = asker.found, consenter.found
    assert found and other
    assert (found.opened, found.received) == (other.received, other.opened)
    assert (found.opened_digest, found.received_digest) == (
        other.received_digest,
        other.opened_digest,
    )
    assert found.session == other.session
    opened, received = (
        _seen(likeness, [msgspec.structs.replace(decode_row(data), copy=0) for data in rows])
        for rows in (found.opened, found.received)
    )
    assert opened == _seen(likeness, ours) - _seen(likeness, theirs)
    assert received == _seen(likeness, theirs) - _seen(likeness, ours)
    if likeness is BY_ID:  # quantities are equal where ids are, so the sums say the same
        gap = sum(row.quantity for row in ours) - sum(row.quantity for row in theirs)
        sums = [
            sum(decode_row(d).quantity for d in rows) for rows in (found.opened, found.received)
        ]
        assert sums[0] - sums[1] == gap


def test_many_pages_and_slices() -> None:
    ours, theirs = _rows(0, 4000), _rows(2 * PAGE_ROWS + 5, 4040)
    asker, consenter = sides(row_set(ours), row_set(theirs))
    talk(asker, consenter)
    assert asker.found and consenter.found
    assert len(asker.found.opened) == 2 * PAGE_ROWS + 5
    assert len(asker.found.received) == 40
    assert asker.slices_differ.sum() == 1  # all within the first day
    assert asker.found.cells == consenter.found.cells


def test_more_wanted_fingerprints_than_a_message_holds() -> None:
    ours = row_set(_rows(0, FINGERPRINTS_MAX + 10))
    asker, consenter = sides(ours, row_set([]), (10_000, 0))
    talk(asker, consenter)
    assert asker.found and len(asker.found.opened) == FINGERPRINTS_MAX + 10


def test_equal_sets_need_no_sketch_and_open_nothing() -> None:
    asker, consenter = sides(row_set(_rows(0, 100)), row_set(_rows(0, 100)))
    assert talk(asker, consenter) < 2500
    assert asker.found and (asker.found.cells, asker.found.opened) == (0, [])


def test_a_row_in_the_neighbouring_period_is_shown_to_who_has_its_kin() -> None:
    edge = Row("tokens", "edge", "x", 7, START_US + 1, 0)
    before = msgspec.structs.replace(edge, occurred_at=START_US - 1)
    other = Row("tokens", "other", "x", 7, START_US - 1, 0)
    # With ids only the one is of kin; without them both are equally near.
    for likeness, expected in ((BY_ID, {"edge"}), (BY_CONTENT, {"edge", "other"})):
        near = row_set([], likeness, near=[before, other])
        asker, consenter = sides(row_set([edge], likeness), near)
        talk(asker, consenter)
        assert asker.found and consenter.found
        kin = asker.found.kin_received
        assert {decode_row(data).id for data in kin} == expected
        assert consenter.found.kin_opened == kin


def test_two_sessions_share_no_key() -> None:
    names, cells = set(), set()

    def note(message: InReconciliation) -> InReconciliation:
        if isinstance(message, SketchCells):
            cells.add(message.cells)
        return message

    for seed in range(3):
        asker, consenter = sides(row_set(_rows(0, 50)), row_set(_rows(1, 50)), seed=seed)
        talk(asker, consenter, note)
        names.add(asker.name)
    assert len(names) == len(cells) == 3


# Bounds


def test_sets_that_must_differ_in_too_much_are_refused_before_the_key() -> None:
    asker, consenter = sides(row_set(_rows(0, 50)), row_set(_rows(0, 10)), (39, 1000))
    with pytest.raises(SessionStopped, match="differ in more than the 39"):
        talk(asker, consenter)
    assert consenter.step == "starting" and asker.opening is None


def test_more_differences_than_may_be_opened_open_nothing() -> None:
    asker, consenter = sides(row_set(_rows(0, 3000)), row_set(_rows(500, 3500)), (20, 20))
    with pytest.raises(SessionStopped, match="more rows differ than the 20"):
        talk(asker, consenter)
    assert consenter.cells == cells_max(40)
    assert asker.opening is consenter.opening is None


def test_one_side_too_many_opens_nothing() -> None:
    asker, consenter = sides(row_set(_rows(0, 100)), row_set(_rows(2, 103)), (2, 2))
    with pytest.raises(SessionStopped, match="more rows differ than the 2 here and 2 there"):
        talk(asker, consenter)
    assert asker.opening is consenter.opening is None


# Cheats

Cheat = Callable[[Any], InReconciliation]


def _with(**fields: Any) -> Cheat:
    return lambda message: msgspec.structs.replace(message, **fields)


def _flipped(name: str, at: int = 0) -> Cheat:
    def change(message: Any) -> InReconciliation:
        data = bytearray(getattr(message, name))
        data[at] ^= 1
        return msgspec.structs.replace(message, **{name: bytes(data)})

    return change


def _other_row(**fields: Any) -> Cheat:
    """The first row that is opened is another one."""

    def change(message: Any) -> InReconciliation:
        if not message.rows or message.kin:
            return message  # type: ignore[no-any-return]
        row = encode_row(msgspec.structs.replace(decode_row(message.rows[0]), **fields))
        return msgspec.structs.replace(message, rows=[row, *message.rows[1:]])

    return change


def _kin(row: Row) -> Cheat:
    def change(message: Any) -> InReconciliation:
        rows = [encode_row(row)] if message.kin else message.rows
        return msgspec.structs.replace(message, rows=rows)

    return change


def _sums(message: Any) -> InReconciliation:
    return SliceSums(message.channel, message.session, bytes(16))


def _noise(message: Any) -> InReconciliation:
    cells = bytes(range(1, 16)) * (len(message.cells) // 15)
    return msgspec.structs.replace(message, cells=cells)


NEAR = Row("tokens", "e0", "x", 0, START_US - 5, 0)
CHEATS: dict[str, tuple[type, Cheat]] = {
    "sums instead of consent": (ConsentReconcile, _sums),
    "an absurd number of rows": (ConsentReconcile, _with(rows=100_000_000)),
    "a nonce that was not committed to": (RevealNonce, _flipped("nonce")),
    "sums of fewer slices": (RevealNonce, _with(sums=bytes(16))),
    "sums of more slices": (SliceSums, _with(sums=bytes(16 * 64))),
    "sums of another set": (RevealNonce, _flipped("sums")),
    "sums of another set, from who consents": (SliceSums, _flipped("sums")),
    "cells again": (WantCells, _with(first=1)),
    "too many cells": (WantCells, _with(count=CELLS_MAX)),
    "cells that were not asked for": (SketchCells, _with(first=99)),
    "too few cells": (SketchCells, lambda m: _with(cells=m.cells[:15])(m)),
    "half a cell": (SketchCells, lambda m: _with(cells=m.cells[:-1])(m)),
    "cells of noise": (SketchCells, _noise),
    "zeros instead of cells": (SketchCells, lambda m: _with(cells=bytes(len(m.cells)))(m)),
    "half a fingerprint": (WantRows, _with(fingerprints=bytes(7))),
    "a row that is not ours": (WantRows, _with(fingerprints=bytes(8))),
    "a row wanted twice": (WantRows, lambda m: _with(fingerprints=m.fingerprints[:8] * 2)(m)),
    "a page of fingerprints that is not full": (WantRows, _with(last=False)),
    "a wrong count": (WantRows, _with(ours=3)),
    "a row with another quantity": (OpenRows, _other_row(quantity=99)),
    "a row with another id": (OpenRows, _other_row(id="f")),
    "a row without an id": (OpenRows, _other_row(id="")),
    "a row of another meter": (OpenRows, _other_row(meter="calls")),
    "a row of no meter of the session": (OpenRows, _other_row(meter="secrets")),
    "a row of another period": (OpenRows, _other_row(occurred_at=END_US)),
    "a row that is no row": (OpenRows, _with(rows=[b"\x90"])),
    "a row in another form": (OpenRows, lambda m: _with(rows=[r + b"\0" for r in m.rows])(m)),
    "fewer rows": (OpenRows, _with(rows=[])),
    "the same row again": (OpenRows, lambda m: _with(rows=m.rows[:1] * 2)(m)),
    "a page of rows that is not full": (OpenRows, _with(last=False)),
    "kin before its time": (OpenRows, _with(kin=True)),
    "kin of nothing": (OpenRows, _kin(msgspec.structs.replace(NEAR, id="strange"))),
    "kin of the period": (OpenRows, _kin(msgspec.structs.replace(NEAR, occurred_at=START_US))),
    "kin from far away": (OpenRows, _kin(msgspec.structs.replace(NEAR, occurred_at=0))),
    "another digest": (ReconcileDone, _flipped("opened")),
    "another digest of what was received": (ReconcileDone, _flipped("received")),
}  # fmt: skip


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_stopped(name: str) -> None:
    kind, cheat = CHEATS[name]
    ours, theirs = _rows(0, 60), _rows(5, 60) + _rows(60, 64)
    asker, consenter = sides(row_set(ours), row_set(theirs), (40, 40))
    changed = []

    def change(message: InReconciliation) -> InReconciliation:
        if isinstance(message, kind):
            changed.append(cheat(message))
            return changed[-1]
        return message

    with pytest.raises(SessionStopped) as stopped:
        talk(asker, consenter, change)
    assert changed
    assert stopped.value.code not in ("", "stopped")
    assert None in (asker.found, consenter.found)
    for side in (asker, consenter):
        assert side.cells <= cells_max(80)


@pytest.mark.parametrize("role", [0, 1])
def test_messages_out_of_turn_are_refused(role: int) -> None:
    digest, session = bytes(32), SCOPE.session
    messages: list[InReconciliation] = [
        SliceSums(digest, session, bytes(16)),
        WantCells(digest, session, 0, 1),
        SketchCells(digest, session, 0, bytes(15)),
        WantRows(digest, session, b"", 0, True),
        OpenRows(digest, session, False, [], True),
        ReconcileDone(digest, session, digest, digest),
    ]
    for message in messages:
        asker, consenter = sides(row_set(_rows(0, 5)), row_set(_rows(0, 5)))
        consenter.start(asker.start())
        with pytest.raises(SessionStopped, match="broke the session"):
            (asker, consenter)[role].receive(message)


def test_after_its_end_nothing_is_taken() -> None:
    asker, consenter = sides(row_set(_rows(0, 5)), row_set(_rows(0, 6)))
    talk(asker, consenter)
    with pytest.raises(SessionStopped):
        consenter.receive(ReconcileDone(bytes(32), SCOPE.session, bytes(32), bytes(32)))


def test_what_a_set_was_can_be_shown_later() -> None:
    from tallystick.protocol.rowset import set_commitment

    asker, consenter = sides(row_set(_rows(0, 5)), row_set(_rows(0, 6)))
    ask = asker.start()
    assert isinstance(ask, AskReconcile)
    assert ask.commitment == set_commitment(asker.salt, asker.rows.digests)
    assert ask.commitment != set_commitment(asker.salt, consenter.rows.digests)
