"""A reconciliation session: two parties find the rows in which their private exports differ.

Sans-IO: a party's side of one session is an `Asker` or a `Consenter`. It is handed the messages of
the peer and answers with messages of its own, or stops with `SessionStopped`; randomness is handed
in. The steps, with who speaks:

1. asker: `AskReconcile`. How rows are compared, how many it brings, how many it would open; what it
   brings and its nonce are committed to.
2. consenter: `ConsentReconcile`, the same, and its nonce.
3. asker: `RevealNonce`. The key follows from both nonces, so neither chose it, and both sets were
   fixed before it was known. With it the asker's keyed sums of each slice of the period.
4. consenter: `SliceSums`. What is in slices with equal sums is equal.
5. consenter: `WantCells`, asker: `SketchCells`, until the sketch is read (`sketch.py`).
6. consenter: `WantRows`: which fingerprints only the asker has, and how many only itself has.
7. `OpenRows` in turns, a page at a time, the asker first: the rows that differ. Each must have the
   fingerprint that it stands for, and all together must make up the difference of the sums.
8. `OpenRows` in turns again: rows near the period that are of kin to what the peer opened.
9. `ReconcileDone`, the asker first: both hold what the other opened.

Whatever does not fit stops the session, and the peer is told why with `ReconcileStop`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tallystick.protocol.errors import FormatError, SessionStopped
from tallystick.protocol.messages import (
    CELLS_MAX,
    FINGERPRINTS_MAX,
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
    encode_message,
)
from tallystick.protocol.opening import Keyed, Opening, Scope, breach
from tallystick.protocol.rowset import RowSet, set_commitment, slice_sums, slice_width_us
from tallystick.protocol.siphash import Words
from tallystick.protocol.sketch import (
    CELL_BYTES,
    Decoder,
    Encoder,
    TooManyDifferences,
    check_of,
    decode_cells,
)

CHANCE_SIZE = 64  # of randomness that a side is handed: 32 bytes of nonce, 32 of salt
FIRST_CELLS = 16


@dataclass(frozen=True, slots=True)
class Found:
    """What a session found: the bytes of rows that only one side has, and of their kin.

    `session` names it at both parties; `opened_digest` and `received_digest` are of the rows in
    the order in which they were sent.
    """

    session: bytes
    rows_ours: int
    rows_theirs: int
    cells: int
    opened: list[bytes]
    received: list[bytes]
    kin_opened: list[bytes]
    kin_received: list[bytes]
    opened_digest: bytes
    received_digest: bytes


class _Side:
    """What both sides of a session have: who says what next, and the opening of rows."""

    def __init__(self, scope: Scope, rows: RowSet, opens_max: int, chance: bytes) -> None:
        assert len(chance) == CHANCE_SIZE
        self.scope = scope
        self.rows = rows
        self.opens_max = opens_max
        self.nonce, self.salt = chance[:32], chance[32:]
        self.commitment = set_commitment(self.salt, rows.digests)
        self.found: Found | None = None
        self.opening: Opening | None = None  # from when rows are opened on
        self.name = b""  # of the session at both parties, once both spoke
        self.step = "starting"
        self._cells = 0
        self._handlers: Mapping[type, Callable[[Any], Iterator[InReconciliation]]] = {}
        self._expected: tuple[type, ...] = ()
        self._keyed: Keyed
        self._peer: AskReconcile | ConsentReconcile

    @property
    def rows_theirs(self) -> int:
        """How many rows the peer brings, once it said so."""
        return self._peer.rows

    @property
    def their_opens_max(self) -> int:
        """How many rows the peer would open at most, once it said so."""
        return self._peer.opens_max

    @property
    def cells(self) -> int:
        """How many cells of a sketch went from the asker to the consenter."""
        return self._cells

    def receive(self, message: InReconciliation) -> list[InReconciliation]:
        """Take a message of the peer; what to answer. `SessionStopped` if it does not fit."""
        if type(message) not in self._expected:
            raise breach("out-of-order", f"{type(message).__name__} while {self.step}")
        try:
            return list(self._handlers[type(message)](message))
        except FormatError as error:
            raise breach("malformed", error.message) from None

    def _expect(self, step: str, *kinds: type) -> None:
        self.step, self._expected = step, kinds

    def _meet(self, ask: AskReconcile, consent: ConsentReconcile) -> None:
        """Both have spoken: the session has its name, unless it cannot come to an end."""
        ours, theirs = (ask, consent) if self._peer is consent else (consent, ask)
        assert (ours.rows, ours.opens_max) == (len(self.rows), self.opens_max)
        self.name = _hash("session", encode_message(ask), encode_message(consent))
        for more, fewer in ((ours, theirs), (theirs, ours)):
            if more.rows - fewer.rows > more.opens_max:
                raise SessionStopped(
                    f"{ours.rows:,} rows here and {theirs.rows:,} there differ in more than the"
                    f" {more.opens_max:,} that may be opened",
                    "Allow more with --open at both sides, or compare a smaller period",
                    "too-many",
                )

    def _key(self, asker_nonce: bytes, consenter_nonce: bytes) -> None:
        """Both nonces are known: key our set."""
        key = _hash("key", self.name, asker_nonce, consenter_nonce)
        items = self.rows.fingerprints(key[:16])
        sorted_items = np.sort(items)
        if (sorted_items[1:] == sorted_items[:-1]).any():
            raise SessionStopped(
                "two rows have one fingerprint under this key", "Try again", "unlucky"
            )
        checks = check_of(key[16:], items)
        bounds = (self.scope.start_us, self.scope.end_us)
        sums = slice_sums(*bounds, self.rows.instants_us, items, checks)
        self._keyed = Keyed(key[:16], key[16:], items, sorted_items, checks, sums)

    def _drill(self, theirs: bytes) -> None:
        """Leave out what is in slices whose sums are equal."""
        keyed = self._keyed
        if len(theirs) != keyed.sums.nbytes:
            raise breach("malformed", f"{len(theirs)} bytes of sums")
        self._their_sums = np.frombuffer(theirs, "<u8").astype(np.uint64).reshape(-1, 2)
        self.slices_differ = (self._their_sums != keyed.sums).any(axis=1)
        width = slice_width_us(self.scope.start_us, self.scope.end_us)
        places = (self.rows.instants_us - self.scope.start_us) // width
        self._sketched_items = keyed.items[self.slices_differ[places]]

    def _open(self, places: Any, their_count: int, expected: Words | None) -> Opening:
        """Begin to open the rows of these places."""
        keyed = self._keyed
        self.opening = Opening(
            self.scope, self.rows, keyed, places, (self.opens_max, self._peer.opens_max)
        )
        self.opening.expect(their_count, expected, self._missing(places))
        return self.opening

    def _missing(self, places: Any) -> Words:
        """What rows that only they have must add up to: their sums, and ours without `places`."""
        keyed = self._keyed
        ours = np.array([keyed.items[places].sum(), keyed.checks[places].sum()], np.uint64)
        missing: Words = self._their_sums.sum(axis=0) - keyed.sums.sum(axis=0) + ours
        return missing

    def _finish(self) -> None:
        opening = self.opening
        assert opening is not None
        self.found = Found(
            self.name,
            len(self.rows),
            self._peer.rows,
            self._cells,
            opening.opened,
            opening.received,
            opening.kin_opened,
            opening.kin_received,
            opening.opened_digest,
            opening.received_digest,
        )
        self._expect("done")

    def _done(self) -> ReconcileDone:
        assert self.opening is not None
        digests = (self.opening.opened_digest, self.opening.received_digest)
        return ReconcileDone(self.scope.channel, self.scope.session, *digests)

    def _check_done(self, message: ReconcileDone) -> None:
        assert self.opening is not None
        ours = (self.opening.opened_digest, self.opening.received_digest)
        if ours != (message.received, message.opened):
            raise breach("differs", "the peer has other rows than were opened to it")


class Asker(_Side):
    """The side that asks: it sends the sketch."""

    def start(self) -> AskReconcile:
        """The first message."""
        scope, likeness = self.scope, self.rows.likeness
        self._ask = AskReconcile(
            scope.channel,
            scope.session,
            scope.period,
            tuple(sorted(scope.meters)),
            likeness.by,
            likeness.resolution_us,
            len(self.rows),
            self.opens_max,
            self.commitment,
            _hash("nonce", self.nonce),
        )
        self._handlers = {
            ConsentReconcile: self._consented,
            SliceSums: self._sums,
            WantCells: self._wanted_cells,
            WantRows: self._wanted_rows,
            OpenRows: self._opened,
            ReconcileDone: self._peer_done,
        }
        self._expect("waiting for consent", ConsentReconcile)
        return self._ask

    def _consented(self, message: ConsentReconcile) -> Iterator[InReconciliation]:
        self._peer = message
        self._meet(self._ask, message)
        self._key(self.nonce, message.nonce)
        self._expect("comparing slices", SliceSums)
        sums = self._keyed.sums.astype("<u8").tobytes()
        yield RevealNonce(self.scope.channel, self.scope.session, self.nonce, sums)

    def _sums(self, message: SliceSums) -> Iterator[InReconciliation]:
        self._drill(message.sums)
        self._encoder = Encoder(self._keyed.check_key, self._sketched_items)
        self._wanted: list[Words] = []
        self._expect("sketching", WantCells, WantRows)
        yield from ()

    def _wanted_cells(self, message: WantCells) -> Iterator[InReconciliation]:
        most = cells_max(self.opens_max + self._peer.opens_max)
        if message.first != self._cells or self._cells + message.count > most:
            raise breach("asked-too-much", f"cells from {message.first}, {self._cells} were sent")
        cells = self._encoder.next_cells(message.count).encode()
        self._cells += message.count
        yield SketchCells(self.scope.channel, self.scope.session, message.first, cells)

    def _wanted_rows(self, message: WantRows) -> Iterator[InReconciliation]:
        if len(message.fingerprints) % 8:
            raise breach("malformed", "a fingerprint has eight bytes")
        self._wanted.append(np.frombuffer(message.fingerprints, "<u8").astype(np.uint64))
        wanted = np.concatenate(self._wanted)
        if len(wanted) > self.opens_max:
            raise breach("asked-too-much", f"more rows than the {self.opens_max:,} that we open")
        if not message.last:
            if len(self._wanted[-1]) != FINGERPRINTS_MAX:
                raise breach("malformed", "a page of fingerprints that is not full")
            self._expect("sketching", WantRows)
            return
        places = self._places(wanted)
        ours = message.ours
        if ours > self._peer.opens_max or len(self.rows) - len(wanted) != self._peer.rows - ours:
            raise breach("wrong-count", f"{ours:,} rows that only it has do not fit the sets")
        self._expect("opening rows", OpenRows)
        yield self._open(places, ours, None).page()

    def _places(self, wanted: Words) -> Any:
        """Where the rows are that the peer wants to see, which must be ours, each once."""
        items = self._keyed.items
        order = np.argsort(items)
        at = np.searchsorted(items, wanted, sorter=order)
        inside = at < len(items)
        places = order[at[inside]]
        if not inside.all() or (items[places] != wanted).any() or (wanted[1:] <= wanted[:-1]).any():
            raise breach("asked-too-much", "fingerprints that are not of rows of ours, each once")
        return places

    def _opened(self, message: OpenRows) -> Iterator[InReconciliation]:
        assert self.opening is not None
        self.opening.take(message)
        if self.opening.both_ended and message.kin:
            self._expect("ending", ReconcileDone)
            yield self._done()
            return
        if self.opening.both_ended:
            self.opening.begin_kin()
        yield self.opening.page()

    def _peer_done(self, message: ReconcileDone) -> Iterator[InReconciliation]:
        self._check_done(message)
        self._finish()
        yield from ()


class Consenter(_Side):
    """The side that consents: it reads the sketch."""

    def start(self, ask: AskReconcile) -> ConsentReconcile:
        """Consent to what the peer asks; what it asks has been compared with what was agreed to."""
        self._ask = self._peer = ask
        self._handlers = {
            RevealNonce: self._revealed,
            SketchCells: self._sketched,
            OpenRows: self._opened,
            ReconcileDone: self._peer_done,
        }
        scope = self.scope
        consent = ConsentReconcile(
            scope.channel,
            scope.session,
            len(self.rows),
            self.opens_max,
            self.commitment,
            self.nonce,
        )
        self._meet(ask, consent)
        self._expect("agreeing on a key", RevealNonce)
        return consent

    def _revealed(self, message: RevealNonce) -> Iterator[InReconciliation]:
        if _hash("nonce", message.nonce) != self._ask.nonce_digest:
            raise breach("bad-nonce", "a nonce that the peer did not commit to")
        self._key(message.nonce, self.nonce)
        sums = self._keyed.sums.astype("<u8").tobytes()
        yield SliceSums(self.scope.channel, self.scope.session, sums)
        self._drill(message.sums)
        found_max = self.opens_max + self._peer.opens_max
        self._decoder = Decoder(self._keyed.check_key, self._sketched_items, found_max)
        if not self.slices_differ.any():
            yield from self._want_rows()
            return
        self._expect("reading the sketch", SketchCells)
        apart = abs(len(self.rows) - self._peer.rows)
        yield self._want_cells(FIRST_CELLS + apart + apart // 3)

    def _want_cells(self, count: int) -> WantCells:
        room = cells_max(self.opens_max + self._peer.opens_max) - self._cells
        if room <= 0:
            raise self._too_many()
        self._asked = min(count, room, CELLS_MAX)
        return WantCells(self.scope.channel, self.scope.session, self._cells, self._asked)

    def _sketched(self, message: SketchCells) -> Iterator[InReconciliation]:
        asked = (self._cells, self._asked * CELL_BYTES)
        if (message.first, len(message.cells)) != asked:
            raise breach("out-of-order", f"cells from {message.first}, which were not asked for")
        try:
            done = self._decoder.take(decode_cells(message.cells))
        except TooManyDifferences:
            raise self._too_many() from None
        self._cells = self._decoder.cells
        if not done:
            yield self._want_cells(max(FIRST_CELLS // 2, self._cells // 8))
            return
        yield from self._want_rows()

    def _want_rows(self) -> Iterator[InReconciliation]:
        theirs, ours = self._decoder.theirs, self._decoder.ours
        if len(theirs) > self._peer.opens_max or len(ours) > self.opens_max:
            raise self._too_many()
        places = np.flatnonzero(np.isin(self._keyed.items, ours))
        if len(places) != len(ours) or len(self.rows) - len(ours) != self._peer.rows - len(theirs):
            raise breach("broken-sketch", "what the sketch gives does not fit the sets")
        places = places[np.argsort(self._keyed.items[places])]
        sums = [theirs.sum(), check_of(self._keyed.check_key, theirs).sum()]
        if (np.array(sums, np.uint64) != self._missing(places)).any():
            raise breach("broken-sketch", "what the sketch gives does not fit the sums")
        self._open(places, len(theirs), theirs)
        self._expect("opening rows", OpenRows)
        for start in range(0, max(len(theirs), 1), FINGERPRINTS_MAX):
            page = theirs[start : start + FINGERPRINTS_MAX].astype("<u8").tobytes()
            last = start + FINGERPRINTS_MAX >= len(theirs)
            yield WantRows(self.scope.channel, self.scope.session, page, len(ours), last)

    def _too_many(self) -> SessionStopped:
        return SessionStopped(
            f"more rows differ than the {self.opens_max:,} here and"
            f" {self._peer.opens_max:,} there that may be opened",
            "Allow more with --open at both sides, or compare a smaller period",
            "too-many",
        )

    def _opened(self, message: OpenRows) -> Iterator[InReconciliation]:
        opening = self.opening
        assert opening is not None
        if message.kin and opening.both_ended and not opening.in_kin:
            opening.begin_kin()
        opening.take(message)
        yield opening.page()
        if opening.in_kin and opening.both_ended:
            self._expect("ending", ReconcileDone)

    def _peer_done(self, message: ReconcileDone) -> Iterator[InReconciliation]:
        self._check_done(message)
        self._finish()
        yield self._done()


def cells_max(differences: int) -> int:
    """How many cells a sketch of so many differences may need at most; 1.4 for each is usual."""
    return 2 * differences + 256


def _hash(label: str, *parts: bytes) -> bytes:
    hashed = hashlib.sha256(f"tallystick/v1 reconciliation {label}".encode())
    for part in parts:
        hashed.update(len(part).to_bytes(4, "big") + part)
    return hashed.digest()
