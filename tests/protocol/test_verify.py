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
from tallystick.protocol.bundle import FULL, open_bundle, readme_text, rebatch
from tallystick.protocol.checkpoint import meter_totals
from tallystick.protocol.checks import Check
from tallystick.protocol.records import Record, batch_bytes, encode_record
from tallystick.protocol.statement import Line, statement_root
from tallystick.protocol.verdict import Verdict, declared_of, make_verdict, verdict_digest
from tallystick.protocol.verify import verify_bundle

NAMES = [
    "archive",
    "terms",
    "checkpoint",
    "heads",
    "statement",
    "totals",
    "verdict",
    "records",
    "validity",
    "derivation",
    "previous",
    "declarations",
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
        (i, name, True) for i, name in enumerate(NAMES[:7], 1)
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
        ("verdict.json", {"verdict"}),
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


@pytest.mark.parametrize("deltas", [2**63, 2**64, 10**30, -1, -(2**63) - 1])
def test_a_count_that_no_line_can_have_is_caught(deltas: int) -> None:
    members = members_of(TINY.bundle(TINY.closed[0]))
    changed = members["statement.json"].replace(b'"deltas": 1\n', b'"deltas": %d\n' % deltas)
    assert changed != members["statement.json"]
    assert caught_by(packed(members | {"statement.json": changed})) == "statement"


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
        "verdict.json": "verdict",
    }


def verdict_of(channel: Channel, lines: Sequence[Line]) -> Verdict:
    """The verdict on the first closed period with other lines."""
    totals = declared_of(channel.terms, channel.closed[0].verdict)
    return make_verdict(channel.terms, channel.closed[0].checkpoint.period, lines, *totals)


def resigned(channel: Channel, lines: list[Line] | None = None, **changes: Any) -> bytes:
    """The channel's first full bundle, with these lines and changes in what both sign; `stated`
    is a verdict in place of the one that follows.
    """
    closed = channel.closed[0]
    if lines is not None:
        changes |= {
            "lines": len(lines),
            "statement_root": statement_root(lines),
            "totals": changes.get("totals", meter_totals(channel.terms, lines)),
        }
    stated = closed.lines if lines is None else lines
    verdict = changes.pop("stated", None) or verdict_of(channel, stated)
    changes.setdefault("verdict", verdict_digest(verdict))
    checkpoint = replace(closed.checkpoint, **changes)
    note = channel.sign(checkpoint)
    contents = replace(closed.contents, checkpoint=note, lines=stated, verdict=verdict)
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


def test_a_verdict_is_recomputed_though_both_signed_it() -> None:
    honest = BUSY.closed[0].verdict
    assert [row.result for row in honest.meters] == [
        "within tolerance",
        "disputed",
        "declared by one",
        "agreed",
    ]
    changes: list[dict[str, Any]] = [
        {"result": "agreed"},
        {"payable": "1"},
        {"disputed": "1"},
        {"unit": "call"},
        {"provider": "007"},
        {"meter": "aaa"},
        {"consumer": None},
    ]
    for change in changes:
        rows = (msgspec.structs.replace(honest.meters[0], **change), *honest.meters[1:])
        stated = Verdict(honest.period, rows)
        assert caught_by(resigned(BUSY, stated=stated)) == "verdict", change
    assert caught_by(resigned(BUSY, stated=Verdict("2026-11", honest.meters))) == "verdict"
    assert caught_by(resigned(BUSY, stated=Verdict("2026-10", honest.meters[1:]))) == "verdict"
    assert caught_by(resigned(BUSY, verdict=bytes(32))) == "verdict"
    assert caught_by(resigned(BUSY, verdict=b"")) == "verdict"


def test_totals_that_nobody_declared_need_the_records_to_be_caught() -> None:
    lines = BUSY.closed[0].lines
    provider, consumer = declared_of(BUSY.terms, BUSY.closed[0].verdict)
    assert provider is not None and consumer is not None
    for totals in ((provider, {**consumer, "gpu-hours": 1250}), (None, consumer), (None, None)):
        stated = make_verdict(BUSY.terms, "2026-10", lines, *totals)
        data = resigned(BUSY, stated=stated)
        assert caught_by(data) == "declarations"
        assert "gpu-hours" in verify(data)[11].detail or "calls" in verify(data)[11].detail


def without_verdicts() -> Channel:
    """A channel whose first period was closed before there were verdicts, and its second after."""
    channel = Channel([meter("tokens")])
    channel.both("a", "tokens", 5)
    channel.with_verdicts = False
    channel.close(OCTOBER_US, ["provider", "consumer"])
    channel.with_verdicts = True
    channel.both("b", "tokens", 6, NOVEMBER_US)
    channel.close(NOVEMBER_US)
    return channel


@pytest.mark.parametrize("full", [False, True])
def test_a_checkpoint_from_before_there_were_verdicts_holds_and_is_followed(full: bool) -> None:
    channel = without_verdicts()
    older, newer = (verify(channel.bundle(closed, full=full)) for closed in channel.closed)
    assert all(check.ok for check in older + newer)
    assert older[6].detail == "none: the checkpoint is from before there were verdicts"
    assert newer[6].detail == "tokens not declared"
    members = members_of(channel.bundle(channel.closed[0], full=full))
    verdict = members_of(channel.bundle(channel.closed[1]))["verdict.json"]
    added = dict(list(members.items())[:8]) | {"verdict.json": verdict}
    added |= {name: data for name, data in members.items() if name in FULL}
    assert caught_by(packed(added)) == "statement"  # its README would have to say so


def test_a_verdict_left_out_is_caught() -> None:
    members = members_of(TINY.bundle(TINY.closed[0]))
    del members["verdict.json"]
    members["README.txt"] = readme_text(members)
    assert caught_by(packed(members)) == "verdict"


def test_a_period_passed_over_is_caught() -> None:
    channel = tiny_channel()
    channel.closed.clear()
    channel.both("b", "tokens", 6, NOVEMBER_US)
    channel.close(NOVEMBER_US)
    data = channel.bundle(channel.closed[0], full=True)
    assert caught_by(data) == "derivation"
    assert "2026-10, which was never closed" in verify(data)[9].detail


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
    detail = verify(data)[8].detail
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
