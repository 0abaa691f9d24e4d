"""Verify: honest bundles hold, and no changed byte goes unnoticed."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from builders import (
    DAY_US,
    METERS,
    NOVEMBER_US,
    OCTOBER_US,
    Channel,
    Closed,
    busy_channel,
    identity,
    make_terms,
    meter,
)
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.archive import MemberName, write_archive
from tallystick.protocol.bundle import FULL, open_bundle, rebatch
from tallystick.protocol.checkpoint import meter_totals
from tallystick.protocol.checks import Check
from tallystick.protocol.records import Record, batch_bytes, encode_record
from tallystick.protocol.statement import Line, statement_root
from tallystick.protocol.verify import verify_bundle

NAMES = [
    "archive",
    "terms",
    "checkpoint",
    "heads",
    "statement",
    "totals",
    "records",
    "validity",
    "derivation",
    "previous",
]
BUSY = busy_channel()


def tiny_channel() -> Channel:
    """A channel with one meter and one line, so that every byte of its bundle can be tried."""
    channel = Channel([meter("tokens")])
    channel.both("a", "tokens", 5)
    channel.close(OCTOBER_US)
    return channel


TINY = tiny_channel()


def verify(data: bytes) -> list[Check]:
    return verify_bundle(io.BytesIO(data))


def caught_by(data: bytes) -> str:
    """The name of the one check that failed by itself; the others say that they were not run."""
    checks = verify(data)
    failed = [check for check in checks if not check.ok]
    assert failed, "the change went unnoticed"
    causes = [check for check in failed if not check.detail.startswith("not reached")]
    assert all(check.detail for check in checks)
    for check in failed[1:]:
        if check not in causes:
            numbers = [f"not reached: check {cause.number} failed" for cause in causes]
            assert check.detail in numbers
    return causes[0].name


def members_of(data: bytes) -> dict[str, bytes]:
    bundle = open_bundle(io.BytesIO(data))
    members = dict(bundle.members)
    for name, log in zip(FULL, bundle.logs or (), strict=False):
        members[name] = b"".join(log.batches())
    return members


def packed(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    write_archive(out, [(MemberName(n, n in FULL), [data]) for n, data in members.items()])
    return out.getvalue()


@pytest.mark.parametrize("closed", BUSY.closed, ids=lambda closed: closed.checkpoint.period)
def test_an_honest_bundle_holds(closed: Closed) -> None:
    compact = verify(BUSY.bundle(closed))
    assert [(c.number, c.name, c.ok) for c in compact] == [
        (i, name, True) for i, name in enumerate(NAMES[:6], 1)
    ]
    full = verify(BUSY.bundle(closed, full=True))
    assert [(c.number, c.name, c.ok) for c in full] == [
        (i, name, True) for i, name in enumerate(NAMES, 1)
    ]


def test_details_say_what_was_found() -> None:
    details = {c.name: c.detail for c in verify(BUSY.bundle(BUSY.closed[1], full=True))}
    assert BUSY.id.hex() in details["terms"]
    assert "acme.example (provider)" in details["terms"]
    assert "tokens 45 token" in details["totals"]
    assert "it follows 2026-10" in details["previous"]


def test_each_changed_byte_of_a_compact_bundle_is_caught() -> None:
    data = TINY.bundle(TINY.closed[0])
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        assert caught_by(bytes(changed)) == "archive", position


def test_changed_bytes_of_a_full_bundle_are_caught() -> None:
    data = BUSY.bundle(BUSY.closed[1], full=True)
    for position in random.Random(1).sample(range(len(data)), 300):
        changed = bytearray(data)
        changed[position] ^= 0x80
        assert caught_by(bytes(changed)) == "archive", position


@pytest.mark.parametrize(
    ("name", "checks"),
    [
        ("README.txt", {"statement"}),
        ("checkpoint.txt", {"checkpoint"}),
        ("terms.msgpack", {"terms", "checkpoint"}),
        ("terms.txt", {"statement"}),
        ("heads/provider.txt", {"heads"}),
        ("heads/consumer.txt", {"heads"}),
        ("statement.json", {"statement"}),
        ("statement.csv", {"statement"}),
        ("records/provider.msgpack", {"archive", "records"}),
        ("records/consumer.msgpack", {"archive", "records"}),
    ],
)
def test_a_changed_byte_in_a_repaired_archive_is_caught(name: str, checks: set[str]) -> None:
    """With the CRC made to fit again, what the member means has to catch it."""
    members = members_of(TINY.bundle(TINY.closed[0], full=True))
    whole = members[name]
    step = max(1, len(whole) // 300)
    for position in range(0, len(whole), step):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        assert caught_by(packed(members | {name: bytes(changed)})) in checks, position


@pytest.mark.parametrize("cut", [slice(0, 0), slice(0, -1), slice(1, None)])
@pytest.mark.parametrize("name", list(members_of(TINY.bundle(TINY.closed[0], full=True))))
def test_a_shortened_member_is_caught(name: str, cut: slice) -> None:
    members = members_of(TINY.bundle(TINY.closed[0], full=True))
    assert caught_by(packed(members | {name: members[name][cut]}))


@given(st.binary(max_size=200))
def test_any_bytes_get_an_answer(data: bytes) -> None:
    checks = verify(data)
    assert [check.name for check in checks] == NAMES
    assert not any(check.ok for check in checks)


@given(st.data())
def test_any_bytes_in_any_member_get_an_answer(data: st.DataObject) -> None:
    members = members_of(TINY.bundle(TINY.closed[0], full=True))
    name = data.draw(st.sampled_from(sorted(members)))
    assert caught_by(packed(members | {name: data.draw(st.binary(max_size=100))}))


def test_a_swap_of_the_heads_is_caught() -> None:
    members = members_of(BUSY.bundle(BUSY.closed[0]))
    a, b = "heads/provider.txt", "heads/consumer.txt"
    assert caught_by(packed(members | {a: members[b], b: members[a]})) == "heads"


def test_a_newer_head_is_not_the_checkpoints() -> None:
    members = members_of(BUSY.bundle(BUSY.closed[0]))
    newer = BUSY.provider_log.head_note()
    assert caught_by(packed(members | {"heads/provider.txt": newer})) == "heads"


def test_parts_of_another_channel_are_caught() -> None:
    members = members_of(BUSY.bundle(BUSY.closed[0]))
    other = members_of(TINY.bundle(TINY.closed[0]))
    swapped = {
        name: caught_by(packed(members | {name: other[name]}))
        for name in members
        if other[name] != members[name]
    }
    assert swapped == {
        "checkpoint.txt": "checkpoint",
        "terms.msgpack": "checkpoint",
        "terms.txt": "statement",
        "heads/provider.txt": "heads",
        "heads/consumer.txt": "heads",
        "statement.json": "statement",
        "statement.csv": "statement",
    }


def resigned(channel: Channel, lines: list[Line] | None = None, **changes: Any) -> bytes:
    """The channel's first full bundle, with these lines and changes in what both sign."""
    closed = channel.closed[0]
    if lines is not None:
        changes |= {
            "lines": len(lines),
            "statement_root": statement_root(lines),
            "totals": changes.get("totals", meter_totals(channel.terms, lines)),
        }
    checkpoint = replace(closed.checkpoint, **changes)
    stated = closed.lines if lines is None else lines
    contents = replace(closed.contents, checkpoint=channel.sign(checkpoint), lines=stated)
    return channel.bundle(replace(closed, contents=contents), full=True)


def test_what_both_signed_is_still_recomputed() -> None:
    assert all(check.ok for check in verify(resigned(BUSY)))
    lines = BUSY.closed[0].lines
    more = [msgspec.structs.replace(lines[0], payable="6"), *lines[1:]]
    assert caught_by(resigned(BUSY, lines=more)) == "derivation"
    assert caught_by(resigned(BUSY, lines=lines[1:])) == "derivation"
    assert caught_by(resigned(BUSY, lines=lines[::-1])) == "statement"
    elsewhere = [msgspec.structs.replace(line, period="2026-11") for line in lines]
    assert caught_by(resigned(BUSY, lines=elsewhere)) == "statement"
    strange = [msgspec.structs.replace(lines[0], meter="aaa"), *lines[1:]]
    assert caught_by(resigned(BUSY, lines=strange)) == "totals"
    totals = ("calls 6 delta", *BUSY.closed[0].checkpoint.totals[1:])
    assert caught_by(resigned(BUSY, totals=totals)) == "totals"
    assert caught_by(resigned(BUSY, totals=totals[:1])) == "totals"
    assert caught_by(resigned(BUSY, previous=bytes(32))) == "previous"
    assert caught_by(resigned(BUSY, terms_digest=bytes(32))) == "checkpoint"
    assert caught_by(resigned(BUSY, time_zone="UTC")) == "checkpoint"
    assert caught_by(resigned(BUSY, period="2026-11")) == "checkpoint"
    end = BUSY.closed[0].checkpoint.end_us + DAY_US
    assert caught_by(resigned(BUSY, end_us=end)) == "checkpoint"


def test_a_period_passed_over_is_caught() -> None:
    channel = tiny_channel()
    channel.closed.clear()
    channel.both("b", "tokens", 6, NOVEMBER_US)
    channel.close(NOVEMBER_US)
    data = channel.bundle(channel.closed[0], full=True)
    assert caught_by(data) == "derivation"
    assert "2026-10, which was never closed" in verify(data)[8].detail


def test_an_id_recorded_twice_is_caught_though_both_signed_it() -> None:
    channel = tiny_channel()
    log = channel.provider_log
    log.append_unchecked(log.records[1])
    checkpoint = channel.checkpoint(OCTOBER_US, channel.closed[0].lines)
    contents = replace(
        channel.closed[0].contents,
        checkpoint=channel.sign(replace(checkpoint, previous=b"")),
        provider_head=log.head_note(),
    )
    data = channel.bundle(replace(channel.closed[0], contents=contents), full=True)
    assert caught_by(data) == "validity"
    detail = verify(data)[7].detail
    assert detail == "in the provider's log, record 2: tokens/a was recorded before, as record 1"


def rerecorded(channel: Channel, records: Sequence[Record]) -> bytes:
    """The first full bundle with other records in the provider's log."""
    members = members_of(channel.bundle(channel.closed[0], full=True))
    batch = batch_bytes([encode_record(record) for record in records])
    members[FULL[0]] = b"".join(rebatch([batch], len(records)))
    return packed(members)


def test_records_moved_dropped_doubled_or_added_are_caught() -> None:
    records = BUSY.provider_log.records[: BUSY.closed[0].checkpoint.heads[0].size]
    swapped = [*records[:3], records[4], records[3], *records[5:]]
    assert all(check.ok for check in verify(rerecorded(BUSY, records)))
    for changed in (
        swapped,
        records[:-1],
        [*records, records[-1]],
        [*records[:-1], records[1]],
    ):
        assert caught_by(rerecorded(BUSY, changed)) == "records"


def test_terms_that_make_no_sense_are_caught() -> None:
    members = members_of(TINY.bundle(TINY.closed[0]))
    terms = make_terms(identity("a.example"), identity("b.example"), METERS, "month", "Mars/Base")
    assert caught_by(packed(members | {"terms.msgpack": encode_record(terms)})) == "terms"
    delta = encode_record(TINY.provider_log.records[1])
    assert caught_by(packed(members | {"terms.msgpack": delta})) == "terms"
