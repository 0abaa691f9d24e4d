"""An audit in one process: whole worlds hold, and what is spoilt is named as by replay."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import builders
import msgspec
import numpy as np
import pytest
from audited_worlds import WORLDS, mutate, world
from auditing import failing, run, source_of
from builders import DECEMBER_US, NOVEMBER_US, OCTOBER_US, Channel, MemoryLog
from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.auditing import driver, work
from tallystick.node.auditing.work import Uint64s
from tallystick.protocol.audit_closings import KeptClosing
from tallystick.protocol.errors import FormatError
from tallystick.protocol.records import Correction, Delta, batch_bytes, encode_record
from tallystick.protocol.replay import survey_log
from tallystick.protocol.statement import decode_line, encode_line

CUTS = st.integers(1, 20)


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("every", [1, 3, 1000])
def test_a_whole_world_holds(name: str, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "RANGE_HASHES", 5 * every)
    checks = run(source_of(world(name), every))
    assert failing(checks) == {}
    assert [check.name for check in checks][-1] == "balances"


def fault_of(log: MemoryLog, parts: Sequence[bytes]) -> str | None:
    """What replay finds first, a record a batch."""
    batches = [batch_bytes([part]) for part in parts]
    try:
        fault = survey_log(log.terms, log.role, log.channel_id, lambda: batches, len(parts)).fault
    except FormatError as error:
        return error.message
    return None if fault is None else fault.message


@pytest.mark.parametrize("name", WORLDS)
@given(seed=st.integers(0, 10**6), every=CUTS)
def test_what_is_spoilt_is_named_as_replay_names_it(name: str, seed: int, every: int) -> None:
    pick = random.Random(seed)
    channel = world(name)
    parts = [list(map(encode_record, log.records)) for log in channel.logs]
    side = pick.randrange(2)
    before = list(parts[side])
    mutate(parts[side], pick)
    log = channel.logs[side]
    wrong = failing(run(source_of(channel, every, parts)))
    expected = fault_of(log, parts[side])
    if expected is None:
        # What is signed is another history, unless nothing changed below what is signed.
        assert parts[side][: len(before)] == before or "heads" in wrong
    elif expected.startswith("batch from"):
        assert wrong["records"].startswith(f"in the {log.role}'s log, batch from record ")
    elif "was recorded before" in expected:
        assert wrong["ids"] == f"in the {log.role}'s log, {expected}"
    else:
        assert wrong["validity"].startswith(f"in the {log.role}'s log, {expected}")


def few_hashes(names: Sequence[bytes], seed: int) -> Uint64s:
    """Hashes that are nearly all of another id too."""
    return np.array([sum(name) % 3 << 62 for name in names], np.uint64)


@given(data=st.data(), every=CUTS)
def test_ids_of_one_hash_are_told_apart(data: st.DataObject, every: int) -> None:
    channel = Channel()
    ids = data.draw(st.lists(st.integers(0, 30), max_size=30))
    log = channel.provider_log
    for n, number in enumerate(ids):
        log.append_unchecked(Delta(f"{number}", "tokens", "s", 1, OCTOBER_US, n + 1, None))
    if ids:
        last = Correction(str(ids[-1]), "tokens", 7, "wrong", len(ids) + 1)
        log.append_unchecked(last)
    parts = [list(map(encode_record, one.records)) for one in channel.logs]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "hash_names", few_hashes)
        patch.setattr(driver, "RANGE_HASHES", 8)
        wrong = failing(run(source_of(channel, every, parts)))
    expected = fault_of(log, parts[0])
    assert wrong == ({} if expected is None else {"ids": f"in the provider's log, {expected}"})


def test_a_correction_of_what_comes_later_is_of_nothing() -> None:
    channel = Channel()
    log = channel.provider_log
    log.append_unchecked(Correction("a", "peak", 7, "wrong", 1))
    log.append_unchecked(Delta("a", "peak", "s", 1, OCTOBER_US, 2, None))
    parts = [list(map(encode_record, one.records)) for one in channel.logs]
    for every in (1, 2, 9):
        said = failing(run(source_of(channel, every, parts)))["validity"]
        assert said == "in the provider's log, record 1: it corrects peak/a, which is not recorded"


def spoilt_line(kept: KeptClosing) -> KeptClosing:
    """A closed period with another total on its first line."""
    first = msgspec.structs.replace(decode_line(kept.lines[0]), payable="9")
    return replace(kept, lines=[encode_line(first), *kept.lines[1:]])


def test_kept_statements_must_be_what_was_signed() -> None:
    source = source_of(world("busy"))
    spoilt = replace(source, closings=[spoilt_line(source.closings[0]), source.closings[1]])
    said = failing(run(spoilt))["closed"]
    assert said.startswith("2026-10: the 4 lines that are kept do not have the statement's root")


def test_a_signed_statement_must_be_what_the_records_give() -> None:
    channel = Channel()
    channel.both("a", "tokens", 5)
    right = channel.close(OCTOBER_US)
    lines = [msgspec.structs.replace(line, payable="6") for line in right.lines]
    channel.closed.clear()
    checkpoint = channel.checkpoint(OCTOBER_US, lines)
    note = channel.sign(checkpoint)  # both sign, and both are wrong
    channel.closed.append(replace(right, checkpoint=checkpoint, note=note, lines=lines))
    source = source_of(channel)
    assert failing(run(replace(source, open_lines=None))) == {
        "derivation": "2026-10: tokens of project-7 in 2026-10: the records give provider 5,"
        " consumer 5, payable 5, deltas 1; the statement says provider 5, consumer 5, payable 6,"
        " deltas 1"
    }


def test_open_lines_must_be_what_the_records_give() -> None:
    source = source_of(world("busy"))
    assert source.open_lines
    line = msgspec.structs.replace(source.open_lines[0], payable="12345")
    said = failing(run(replace(source, open_lines=[line, *source.open_lines[1:]])))
    assert list(said) == ["balances"]
    assert "the statement says" in said["balances"]


def test_a_checkpoint_that_is_not_kept_is_missed() -> None:
    source = source_of(world("busy"))
    said = failing(run(replace(source, closings=source.closings[:1])))["closed"]
    assert "closes 2026-11, which is not what is kept as closed" in said
    said = failing(run(replace(source, closings=source.closings[1:])))["closed"]
    assert said.startswith("2026-11: it says that it follows")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("signature", "its author's signature does not hold"),
        ("cosignature", "its co-signature does not hold"),
    ],
)
def test_signatures_of_the_newest_heads_are_verified(field: str, message: str) -> None:
    source = source_of(world("rotated"))
    head = source.heads[1][0]
    wrong = bytes(8) + bytes(64) if field == "cosignature" else bytes(64)
    spoilt = replace(source, heads=(source.heads[0], [replace(head, **{field: wrong})]))
    said = failing(run(spoilt))["signatures"]
    assert said == f"the head of {head.size} records of the consumer: {message}"


def test_a_head_of_another_root_and_a_checkpoint_beyond_the_log_are_named() -> None:
    source = source_of(world("busy"))
    head = replace(source.heads[0][0], root=bytes(32))
    said = failing(run(replace(source, heads=([head], source.heads[1]))))["heads"]
    assert said.startswith("the provider's records give")
    log = world("busy").provider_log
    parts = [list(map(encode_record, one.records)) for one in world("busy").logs]
    del parts[0][20:]
    said = failing(run(source_of(world("busy"), 4, parts)))["heads"]
    size = world("busy").closed[0].checkpoint.heads[0].size
    assert said == (f"the checkpoint of 2026-10 counts {size} records of the provider; 20 are here")
    assert log.state.size > 20


def test_terms_of_another_channel_are_refused() -> None:
    source = replace(source_of(world("busy")), channel=bytes(32))
    assert failing(run(source))["terms"].startswith("these are not the terms of the channel 0000")


def test_maximal_lines_are_looked_at_across_pieces_and_closings() -> None:
    channel = Channel()
    a = channel.provider_log
    for n, quantity in enumerate([5, 9, 7, 9, 2]):
        a.delta(f"p{n}", "peak", quantity, OCTOBER_US)
        a.delta(f"q{n}", "peak", quantity, NOVEMBER_US)
    a.correct("p1", "peak", None)
    channel.close(OCTOBER_US, ["provider"])
    a.correct("p3", "peak", 1)
    a.correct("q3", "peak", 100)
    channel.close(NOVEMBER_US, ["provider"])
    a.correct("q3", "peak", None)
    for n in range(5):
        a.delta(f"d{n}", "peak", -n - 1, DECEMBER_US)
    a.correct("d0", "peak", None)
    for every in (1, 2, 5, 50):
        assert failing(run(source_of(channel, every))) == {}


def test_same_hashes_are_found_in_their_first_task() -> None:
    parts = [np.array(part, np.uint64) for part in ([1, 5, 9], [2, 5], [], [5, 9])]
    found = work.compare_ids(parts, np.array([9, 4], np.uint64), -1)
    assert found.repeated is not None
    assert (found.repeated[0], found.repeated[1].tolist()) == (1, [5])
    assert [(task, some.tolist()) for task, some in found.located] == [(0, [9]), (3, [9])]
    behind = work.compare_ids(parts, np.array([], np.uint64), 1)
    assert behind.repeated is not None
    assert (behind.repeated[0], behind.repeated[1].tolist()) == (3, [5, 9])
    assert work.compare_ids(parts, np.array([], np.uint64), 3).repeated is None


@given(st.lists(st.integers(0, 2**64 - 1)), st.integers(1, 9))
def test_ranges_of_hashes_share_them_out(values: list[int], ranges: int) -> None:
    hashes = np.array(values, np.uint64)
    parts = work.range_of(hashes, ranges)
    assert len(parts) == ranges
    assert np.concatenate(parts).tolist() == sorted(values)
    for n, part in enumerate(parts):
        assert all(
            n <= value * ranges >> 64 or value == 2**64 * (n + 1) // ranges
            for value in part.tolist()
        )


def test_an_empty_channel_holds() -> None:
    channel = Channel(builders.METERS[:1])
    assert failing(run(source_of(channel))) == {}
