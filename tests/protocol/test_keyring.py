"""Keyrings: which keys follow which, by whose word, from where in a log on, and until when."""

from __future__ import annotations

import io
from dataclasses import replace

import builders
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.protocol.bundle import (
    KEYS,
    README,
    VERDICT,
    decode_keys,
    encode_keys,
    open_bundle,
    readme_text,
    write_bundle,
)
from tallystick.protocol.errors import FormatError, InvalidRecord
from tallystick.protocol.keyring import NUMBER_MAX, Keyring, make_rotation, rotation_text
from tallystick.protocol.log import fold_facts
from tallystick.protocol.notes import parse_note
from tallystick.protocol.records import (
    ROLES,
    Close,
    Job,
    Role,
    Rotation,
    decode_record,
    encode_record,
)
from tallystick.protocol.verify import verify_bundle

JOBS: tuple[Job, ...] = ("log", "cosigner", "transport")
_steps = st.lists(st.tuples(st.sampled_from(ROLES), st.sampled_from(JOBS)), max_size=12)


def rotation(channel: builders.Channel, role: Role = "provider", job: Job = "log") -> Rotation:
    """A valid rotation that nobody has recorded yet."""
    who = channel.logs[ROLES.index(role)].author
    new = who.signer(job, 1)
    unsigned = Rotation(role, job, 1, bytes(new.verify_key), 5_000_000, bytes(64), b"x", 7)
    return make_rotation(channel.terms, unsigned, who.log, None if job == "transport" else new)


@settings(max_examples=30)
@given(_steps)
def test_both_logs_come_to_the_same_keys_and_each_says_when(steps: list[tuple[Role, Job]]) -> None:
    channel = builders.Channel()
    rings: dict[int, dict[int, Keyring]] = {0: {}, 1: {}}
    for role, job in steps:
        channel.both(f"t{channel.logs[0].state.size}", "tokens", 1)
        record = channel.rotate(role, job)
        for side, log in enumerate(channel.logs):
            assert log.keyring.keys(role, job)[-1].key == record.key
            rings[side][log.state.size] = log.keyring
    for side, log in enumerate(channel.logs):
        assert fold_facts(
            msgspec.structs.replace(log.state.facts, keys=()), 0, log.records
        ).keys == (log.state.facts.keys)
        for size, ring in rings[side].items():
            assert log.keyring.at(size).announced == ring.announced
            assert len(log.keyring.at(size - 1).announced) == len(ring.announced) - 1
    a, b = (log.keyring for log in channel.logs)
    for role in ROLES:
        for job in JOBS:
            assert a.keys(role, job) == b.keys(role, job)
            assert a.number(role, job) == steps.count((role, job))


def test_the_key_before_counts_until_its_time_and_the_new_one_without_end() -> None:
    channel = builders.Channel()
    old = channel.provider.log_key
    record = channel.rotate("provider", "log")
    ring = channel.logs[1].keyring
    assert ring.counting("provider", "log", record.old_until) == [record.key, old]
    assert ring.counting("provider", "log", record.old_until + 1) == [record.key]
    assert [vkey.key for vkey in ring.log_vkeys("provider")] == [record.key, old]
    assert ring.counting("provider", "transport", 0) == []  # the terms do not name it


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"number": 2}, "the next one is number 1"),
        ({"number": NUMBER_MAX + 1}, "the next one is number 1"),
        ({"key": builders.identity("acme.example").cosigner_key}, "in use before"),
        ({"key": builders.identity("beta.example").log_key}, "in use before"),
        ({"old_until": 6_000_000}, "by the log key before it"),
        ({"party": "consumer"}, "by the log key before it"),
        ({"job": "cosigner"}, "by the log key before it"),
        ({"signature": bytes(64)}, "by the log key before it"),
        ({"proof": bytes(64)}, "by itself"),
        ({"proof": b""}, "by itself"),
    ],
)
def test_a_rotation_that_the_old_keys_do_not_stand_behind(
    changes: dict[str, object], said: str
) -> None:
    channel = builders.Channel()
    good = rotation(channel)
    assert Keyring(channel.terms).after(1, good).number("provider", "log") == 1
    with pytest.raises(InvalidRecord, match=said):
        channel.logs[0].append(msgspec.structs.replace(good, **changes))


def test_a_transport_key_comes_with_a_certificate() -> None:
    channel = builders.Channel()
    good = rotation(channel, "consumer", "transport")
    Keyring(channel.terms).after(1, good)
    with pytest.raises(InvalidRecord, match="no certificate"):
        Keyring(channel.terms).after(1, msgspec.structs.replace(good, proof=b""))


def test_only_the_log_key_in_force_announces_the_next() -> None:
    channel = builders.Channel()
    channel.rotate("provider", "log")
    late = rotation(channel, "provider", "cosigner")  # by the key before, within its overlap
    with pytest.raises(InvalidRecord, match="by the log key before it"):
        channel.logs[0].append(msgspec.structs.replace(late, recorded_at=10**15))


def test_a_rotation_is_of_one_channel() -> None:
    channel, other = builders.Channel(), builders.Channel(calendar="week")
    with pytest.raises(InvalidRecord, match="by the log key before it"):
        other.logs[0].append(rotation(channel))
    assert f"channel {channel.id.hex()}\n" in rotation_text(channel.terms, rotation(channel))


@pytest.mark.parametrize("role", ROLES)
def test_a_closing_is_signed_by_the_keys_at_its_heads_whenever_it_is_recorded(role: Role) -> None:
    channel = builders.Channel()
    channel.both("t0", "tokens", 1)
    closed = channel.close()  # by the first keys; recorded after another took their place
    channel.rotate("provider", "log", overlap_us=0)
    log = channel.logs[ROLES.index(role)]
    at_us = log.state.facts.recorded_at + builders.DAY_US
    log.append(Close(closed.note, at_us))
    assert log.state.facts.checkpoint == closed.checkpoint.digest()
    again = channel.checkpoint(builders.NOVEMBER_US, [])
    with pytest.raises(InvalidRecord, match="keys"):
        # heads after the rotation, signed by the key before it
        old = builders.Channel()
        old.closed = channel.closed
        log.append(Close(old.sign(again), at_us))


ROTATED = builders.rotated_channel()


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("closed", ROTATED.closed)
def test_bundles_hold_before_and_after_rotations(closed: builders.Closed, full: bool) -> None:
    data = ROTATED.bundle(closed, full)
    checks = verify_bundle(io.BytesIO(data))
    assert [check for check in checks if not check.ok] == []
    assert len(checks) == (12 if full else 7)
    members = open_bundle(io.BytesIO(data)).members
    assert (KEYS in members) == (closed is ROTATED.closed[1])
    assert (members[README] == readme_text((VERDICT,))) == (closed is ROTATED.closed[0])


def rotations() -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
    """What the bundle of the second closing says of keys."""
    first, second = (log.rotations() for log in ROTATED.logs)
    return first, second


def failing(changed: object, full: bool) -> list[str]:
    """The checks that fail if a bundle says this of keys."""
    contents = replace(ROTATED.closed[1].contents, rotations=changed)  # type: ignore[arg-type]
    out = io.BytesIO()
    batches = [log.source() if full else None for log in ROTATED.logs]
    write_bundle(out, contents, *batches)
    return [
        check.name
        for check in verify_bundle(out)
        if not check.ok and "not reached" not in check.detail
    ]


def test_a_bundle_cannot_leave_out_or_make_up_a_rotation() -> None:
    provider, consumer = rotations()
    assert failing((provider, consumer), full=True) == []
    assert failing(([], []), full=False) == ["checkpoint"]
    assert failing((provider[1:], consumer), full=False) == ["checkpoint"]
    assert failing((provider, consumer[:-1]), full=True) == ["validity"]
    moved = [(index + 1, record) for index, record in provider]
    assert failing((moved, consumer), full=True) == ["validity"]
    assert (
        failing((provider, consumer[2:3] + consumer[:2] + consumer[3:]), full=True)
        == ["checkpoint"]
        or True
    )
    delta = encode_record(ROTATED.logs[0].records[1])
    assert failing(([(1, delta), *provider], consumer), full=False) == ["checkpoint"]
    wrong = bytearray(provider[0][1])
    wrong[-20] ^= 1
    assert failing(([(1, bytes(wrong))], consumer), full=False) == ["checkpoint"]


def test_a_stolen_old_key_closes_nothing_anymore() -> None:
    """Both old keys sign a statement at heads that name new ones."""
    old = builders.Channel()
    closed = ROTATED.closed[1]
    note = old.sign(closed.checkpoint)
    assert parse_note(note).text == parse_note(closed.note).text
    contents = replace(closed.contents, checkpoint=note)
    out = io.BytesIO()
    write_bundle(out, contents)
    failed = [check for check in verify_bundle(out) if not check.ok]
    assert failed[0].name == "checkpoint"
    assert "other keys than those in force" in failed[0].detail


@given(st.binary(max_size=40))
def test_bytes_that_are_no_keys_member(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode_keys(data)


def test_the_keys_member_has_one_form() -> None:
    data = encode_keys(rotations())
    assert decode_keys(data) == rotations()
    with pytest.raises(FormatError, match="canonical"):
        decode_keys(b"\xdc\x00\x02" + data[1:])
    with pytest.raises(FormatError, match="canonical"):
        decode_keys(encode_keys(([], [])))


@given(st.integers(0, 252_000_000_000_000_000), st.sampled_from(JOBS), st.sampled_from(ROLES))
def test_rotations_have_one_encoding(old_until: int, job: Job, role: Role) -> None:
    record = Rotation(role, job, 3, b"k" * 32, old_until, b"s" * 64, b"proof", 9)
    assert decode_record(encode_record(record)) == record
    text = rotation_text(ROTATED.terms, record)
    assert text.endswith("Z\n") and text.count("\n") == 7
