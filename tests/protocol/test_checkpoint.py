"""The checkpoint's note: its one text, both signatures, and the Close that carries it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import DAY_US, OCTOBER_US, Channel, busy_channel, meter
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs

from tallystick.protocol.checkpoint import (
    Checkpoint,
    LogHead,
    check_close,
    checkpoint_note,
    format_instant,
    meter_totals,
    parse_checkpoint,
    sign_checkpoint,
    verify_checkpoint,
)
from tallystick.protocol.errors import FormatError, InvalidRecord, ProofError, TallyError
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.keys import Identity
from tallystick.protocol.records import TIME_MAX_US, Close
from tallystick.protocol.terms import check_terms

BUSY = busy_channel()
OCTOBER, NOVEMBER = BUSY.closed


def signed(checkpoint: Checkpoint, *parties: Identity) -> bytes:
    signatures = [sign_checkpoint(checkpoint, party.name, party.log) for party in parties]
    return checkpoint_note(checkpoint, signatures)


def test_people_can_read_it() -> None:
    rows = NOVEMBER.checkpoint.text().splitlines()
    assert rows[0] == "tallystick checkpoint v1"
    assert rows[2:7] == [
        "provider acme.example",
        "consumer beta.example",
        "period 2026-11 Europe/Berlin",
        "from 2026-10-31T23:00:00Z",
        "until 2026-11-30T23:00:00Z",
    ]
    assert rows[7] == f"previous {OCTOBER.checkpoint.digest().hex()}"
    assert rows[-4:] == [
        "total calls 0 delta",
        "total gpu-hours -0.50 GPU-hour",
        "total peak -10 GB",
        "total tokens 45 token",
    ]


@pytest.mark.parametrize("closed", BUSY.closed)
def test_the_text_reads_back(closed: object) -> None:
    checkpoint = closed.checkpoint  # type: ignore[attr-defined]
    assert parse_checkpoint(checkpoint.text()) == checkpoint


@given(
    st.integers(0, TIME_MAX_US // 1_000_000).map(lambda seconds: seconds * 1_000_000),
    st.integers(0, 2**63),
    st.binary(min_size=32, max_size=32),
    st.sampled_from([b"", bytes(range(32))]),
)
def test_any_values_read_back(start_us: int, size: int, root: bytes, previous: bytes) -> None:
    checkpoint = replace(
        OCTOBER.checkpoint,
        start_us=start_us,
        end_us=start_us + DAY_US,
        previous=previous,
        heads=(LogHead("acme.example", size, root), OCTOBER.checkpoint.heads[1]),
    )
    assert parse_checkpoint(checkpoint.text()) == checkpoint


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("checkpoint v1", "checkpoint v2"),
        ("from 2026-09-30T22:00:00Z", "from 2026-09-30T22:00:0Z"),
        ("from 2026-09-30T22:00:00Z", "from 2026-02-30T22:00:00Z"),
        ("from 2026", "from 9999"),
        ("until 2026", "until 2025"),
        ("until 2026", "until 9999"),
        ("previous none", "previous "),
        ("previous none", "previous NONE"),
        ("head acme.example ", "head acme.example 0"),
        ("provider acme.example", "provider acme example"),
        ("consumer ", "consumer  "),
        ("total tokens", "totals tokens"),
        ("\nstatement ", "\n\nstatement "),
        ("=\nstatement", "\nstatement"),
    ],
)
def test_other_texts_are_refused(old: str, new: str) -> None:
    text = OCTOBER.checkpoint.text()
    assert old in text
    with pytest.raises(FormatError, match="not a checkpoint"):
        parse_checkpoint(text.replace(old, new, 1))


def test_a_root_in_another_base64_is_refused() -> None:
    text = OCTOBER.checkpoint.text()
    row = next(row for row in text.splitlines() if row.startswith("statement"))
    other = row[:-2] + ("B" if row[-2] != "B" else "C") + "="
    with pytest.raises(FormatError):
        parse_checkpoint(text.replace(row, other))


def test_the_digest_is_of_the_text_and_not_of_who_signed_first() -> None:
    checkpoint = OCTOBER.checkpoint
    a, b = BUSY.provider, BUSY.consumer
    assert signed(checkpoint, a, b) == signed(checkpoint, b, a) == OCTOBER.note


def test_both_signatures_are_needed() -> None:
    a, b = BUSY.provider, BUSY.consumer
    checkpoint = OCTOBER.checkpoint
    assert verify_checkpoint(OCTOBER.note, Keyring(BUSY.terms)) == checkpoint
    stranger = Identity.from_seed(b.name, bytes(32))
    for parties in [(a,), (b,), (a, a), (a, stranger)]:
        with pytest.raises((ProofError, FormatError)):
            verify_checkpoint(signed(checkpoint, *parties), Keyring(BUSY.terms))


def test_it_is_of_this_channel_and_these_parties() -> None:
    a, b = BUSY.provider, BUSY.consumer
    other = Channel(calendar="day")
    with pytest.raises(ProofError, match="another channel"):
        verify_checkpoint(OCTOBER.note, Keyring(other.terms))
    swapped = replace(OCTOBER.checkpoint, provider=b.name, consumer=a.name)
    with pytest.raises(ProofError, match="other parties"):
        verify_checkpoint(signed(swapped, a, b), Keyring(BUSY.terms))
    heads = OCTOBER.checkpoint.heads[::-1]
    swapped = replace(OCTOBER.checkpoint, heads=(heads[0], heads[1]))
    with pytest.raises(ProofError, match="other parties"):
        verify_checkpoint(signed(swapped, a, b), Keyring(BUSY.terms))


def test_no_changed_byte_goes_unnoticed() -> None:
    note = OCTOBER.note
    for position in range(len(note)):
        changed = bytearray(note)
        changed[position] ^= 1 << position % 8
        with pytest.raises(TallyError):
            verify_checkpoint(bytes(changed), Keyring(BUSY.terms))


def closed(record: Close, previous: bytes) -> bytes:
    """The digest of a Close in the provider's log, under the terms' keys."""
    return check_close("provider", Keyring(BUSY.terms), record, previous)


def test_a_close_follows_the_one_before_it() -> None:
    first, second = Close(OCTOBER.note, 1), Close(NOVEMBER.note, 2)
    digest = closed(first, b"")
    assert digest == OCTOBER.checkpoint.digest()
    assert closed(second, digest) == NOVEMBER.checkpoint.digest()
    for record, previous in [(second, b""), (first, digest)]:
        with pytest.raises(InvalidRecord, match="does not follow"):
            closed(record, previous)
    with pytest.raises(InvalidRecord, match="does not hold"):
        closed(Close(b"hello", 1), b"")


def test_totals_are_exact_beyond_64_bits() -> None:
    channel = Channel()
    for i in range(8):
        channel.provider_log.delta(f"g{i}", "gpu-hours", 2**62, OCTOBER_US, f"s{i}")
    lines = channel.derive()
    cents = 8 * 2**62
    totals = meter_totals(channel.terms, lines)
    assert totals[1] == f"gpu-hours {cents // 100}.{cents % 100:02} GPU-hour"


def test_instants_are_in_utc_to_the_second() -> None:
    assert format_instant(0) == "1970-01-01T00:00:00Z"
    assert format_instant(OCTOBER_US) == "2026-09-30T22:00:00Z"


@given(st.text(min_size=1, max_size=32))
@example("a\u2028b")
def test_every_unit_that_terms_may_have_reads_back(unit: str) -> None:
    terms = structs.replace(BUSY.terms, meters=(meter("tokens", unit=unit),))
    try:
        check_terms(terms)
    except InvalidRecord:
        return
    checkpoint = replace(OCTOBER.checkpoint, totals=meter_totals(terms, OCTOBER.lines))
    assert parse_checkpoint(checkpoint.text()) == checkpoint


def test_a_total_is_not_made_of_numbers_that_no_log_can_give() -> None:
    lines = [structs.replace(line, payable="9" * 5000) for line in OCTOBER.lines]
    with pytest.raises(FormatError, match="not a decimal"):
        meter_totals(BUSY.terms, lines)
