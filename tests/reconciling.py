"""Reconciliation sessions in memory: sets of rows, and two sides that talk to each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from tallystick.protocol.messages import AskReconcile, InReconciliation
from tallystick.protocol.opening import Scope
from tallystick.protocol.reconcile import Asker, Consenter
from tallystick.protocol.rowset import (
    Digests,
    Likeness,
    Row,
    RowSet,
    as_words,
    encode_row,
    number_copies,
    order_of,
)

DAY_US = 86_400_000_000
START_US = 20_000 * DAY_US
END_US = START_US + 31 * DAY_US
BY_ID = Likeness("id", 1, 1_000_000)
BY_CONTENT = Likeness("content", 1_000_000, 2_000_000)
METERS = frozenset({"tokens", "calls"})
SCOPE = Scope(
    bytes(range(32)),
    bytes(range(16)),
    "2024-10",
    START_US,
    END_US,
    (START_US - 31 * DAY_US, END_US + 31 * DAY_US),
    METERS,
)


def row_set(rows: Sequence[Row], likeness: Likeness = BY_ID, near: Sequence[Row] = ()) -> RowSet:
    """The set of these rows, whose copies are numbered here."""
    numbered = _numbered(rows, likeness)
    digests = _words(likeness.digest(row) for row in numbered)
    order = order_of(digests)
    kin = _words(likeness.kin(row) for row in near)
    near_order = order_of(kin)
    return RowSet(
        likeness,
        np.asfortranarray(digests[order]),
        np.array([row.occurred_at for row in numbered], np.int64)[order],
        lambda place: encode_row(numbered[order[place]]),
        np.asfortranarray(kin[near_order]),
        lambda place: encode_row(near[near_order[place]]),
    )


def _words(digests: object) -> Digests:
    return as_words(b"".join(digests))  # type: ignore[call-overload]


def _numbered(rows: Sequence[Row], likeness: Likeness) -> list[Row]:
    copies = number_copies(_words(likeness.digest(row) for row in rows))
    return [
        msgspec.structs.replace(row, copy=int(copy)) for row, copy in zip(rows, copies, strict=True)
    ]


def sides(
    ours: RowSet, theirs: RowSet, opens_max: tuple[int, int] = (1000, 1000), seed: int = 0
) -> tuple[Asker, Consenter]:
    """Both sides of a session, each with chance of its own."""
    chances = (bytes([seed, 1] * 32), bytes([seed, 2] * 32))
    return (
        Asker(SCOPE, ours, opens_max[0], chances[0]),
        Consenter(SCOPE, theirs, opens_max[1], chances[1]),
    )


Change = Callable[[InReconciliation], InReconciliation]


def talk(asker: Asker, consenter: Consenter, change: Change = lambda message: message) -> int:
    """Let both sides talk to the end; how many bytes they said. `change` is what a cheat does to
    each message on its way.
    """
    said: list[tuple[bool, InReconciliation]] = [(False, asker.start())]
    size = 0
    while said:
        from_consenter, message = said.pop(0)
        size += len(msgspec.msgpack.encode(message)) + 4
        message = change(message)
        if from_consenter:
            answers = asker.receive(message)
        elif isinstance(message, AskReconcile):
            answers = [consenter.start(message)]
        else:
            answers = consenter.receive(message)
        said += [(not from_consenter, answer) for answer in answers]
    return size
