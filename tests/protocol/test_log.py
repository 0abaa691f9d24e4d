"""A log as a value: appending, and which records may come next."""

from __future__ import annotations

import hashlib

import pytest
from builders import OCTOBER_US, Channel, busy_channel
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.errors import InvalidRecord
from tallystick.protocol.log import LogFacts, LogState, Rules, append
from tallystick.protocol.matters import Matters
from tallystick.protocol.records import Close, Correction, Delta, Record, encode_record

CHANNEL = Channel()
BUSY = busy_channel()
ROOTED = CHANNEL.provider_log.state


def delta(id: str = "a", **changes: object) -> Delta:
    fields: dict[str, object] = {
        "id": id,
        "meter": "tokens",
        "subject": "s",
        "quantity": 1,
        "occurred_at": OCTOBER_US,
        "recorded_at": 5,
        "attributes": None,
    }
    return Delta(**(fields | changes))  # type: ignore[arg-type]


class NoPast(Matters):
    def effective(self, meter: str, id: str) -> tuple[Delta, int | None] | None:
        return None


def check(*records: Record, state: LogState = ROOTED) -> LogFacts:
    return Rules(CHANNEL.terms, "provider").check_batch(state, records, NoPast())


def test_each_leaf_hashes_the_one_before_it() -> None:
    parts = [b"one", b"two"]
    appended = append(LogState.empty(CHANNEL.id), parts, LogFacts(7))
    first = hashlib.sha256(b"\0" + CHANNEL.id + b"one").digest()
    second = hashlib.sha256(b"\0" + first + b"two").digest()
    assert appended.leaves == [first, second]
    assert appended.state.last_leaf == second
    assert appended.state.frontier.root() == hashlib.sha256(b"\1" + first + second).digest()
    assert (appended.state.size, appended.state.facts.recorded_at) == (2, 7)


def test_appending_nothing_changes_nothing() -> None:
    again = append(ROOTED, [], ROOTED.facts)
    assert again.state == ROOTED
    assert again.leaves == []


@given(st.lists(st.binary(max_size=8), max_size=30), st.integers(0, 30))
def test_how_it_was_appended_does_not_matter(parts: list[bytes], cut: int) -> None:
    empty = LogState.empty(CHANNEL.id)
    whole = append(empty, parts, LogFacts(1)).state
    half = append(empty, parts[:cut], LogFacts(1)).state
    assert append(half, parts[cut:], LogFacts(1)).state == whole


def test_every_256_leaves_complete_a_tile() -> None:
    appended = append(LogState.empty(CHANNEL.id), [b"x"] * 600, LogFacts(1))
    assert len(appended.tiles) == 2


def test_valid_records_give_the_new_time_and_checkpoint() -> None:
    assert check(delta("a"), delta("b", recorded_at=9)) == LogFacts(9)
    note = BUSY.closed[0].note
    checked = Rules(BUSY.terms, "provider").check_batch(
        BUSY.provider_log.state.empty(BUSY.id), [BUSY.terms, Close(note, 3)], NoPast()
    )
    assert checked == LogFacts(3, BUSY.closed[0].checkpoint.digest())


def test_a_correction_may_stand_in_the_batch_of_its_delta() -> None:
    assert check(delta("a"), Correction("a", "tokens", 4, "typo", 6)) == LogFacts(6)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (delta(meter="water"), "does not record the meter 'water'.*"),
        (delta(quantity=2**62 + 1), "outside the range of tokens"),
        (delta(quantity=-(2**62) - 1), "outside the range of tokens"),
        (delta(id="x" * 127 + "é"), "129 bytes"),
        (delta(subject="tab\t"), "control character"),
        (Correction("a", "tokens", 2**62 + 1, "typo", 6), "outside the range"),
        (Correction("b", "tokens", 1, "typo", 6), "not recorded"),
        (Correction("a", "calls", 1, "typo", 6), "not recorded"),
        (Correction("a", "tokens", 1, "x" * 40 + "\x1b", 6), "control character"),
        (Close(b"hello", 6), "its checkpoint does not hold"),
        (CHANNEL.terms, "terms stand only at the beginning"),
        (delta("b", recorded_at=4), "recorded_at goes back"),
    ],
)
def test_a_record_that_does_not_fit_is_named(record: Record, message: str) -> None:
    with pytest.raises(InvalidRecord, match=f"^record 2: .*{message}"):
        check(delta("a"), record, delta("z", recorded_at=9))


def test_a_provider_may_not_record_a_meter_of_the_consumer() -> None:
    rules = Rules(CHANNEL.terms, "consumer")
    with pytest.raises(InvalidRecord, match="does not record the meter 'gpu-hours'") as caught:
        rules.check_delta("gpu-hours", 1)
    assert caught.value.advice == "Meters that it records: calls, peak, tokens"


def test_time_does_not_go_back_between_batches() -> None:
    state = append(ROOTED, [encode_record(delta())], LogFacts(5)).state
    with pytest.raises(InvalidRecord, match="record 2: recorded_at goes back"):
        check(delta("b", recorded_at=4), state=state)


def test_a_log_begins_with_its_own_terms() -> None:
    empty = LogState.empty(CHANNEL.id)
    assert check(CHANNEL.terms, delta(), state=empty) == LogFacts(5)
    other = Channel(calendar="day").terms
    for records in ([delta()], [other]):
        with pytest.raises(InvalidRecord, match="record 0"):
            check(*records, state=empty)
