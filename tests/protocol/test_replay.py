"""Replay against an oracle that recomputes everything, and against incremental books."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pytest
from builders import (
    OCTOBER_US,
    Channel,
    busy_channel,
)
from histories import EMPTY, History, closes_at, encoded, histories, split
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.derive import Book, Deriver, Folder, LineKey, Tally, period_lines
from tallystick.protocol.errors import FormatError, InvalidRecord, ProofError
from tallystick.protocol.records import (
    ROLES,
    Correction,
    Delta,
    Record,
    Role,
)
from tallystick.protocol.replay import (
    LogSummary,
    examine_log,
    merge_closes,
    rederive,
    replay,
    survey_log,
)
from tallystick.protocol.statement import Line


def brute_totals(records: Sequence[Record]) -> dict[LineKey, tuple[int, int]]:
    """Every line's (total, deltas), from all records at once."""
    folder = Folder(EMPTY.terms)
    now: dict[tuple[str, str], tuple[Delta, int | None]] = {}
    for record in records:
        if isinstance(record, Delta):
            now[record.meter, record.id] = (record, record.quantity)
        elif isinstance(record, Correction):
            now[record.meter, record.id] = (now[record.meter, record.id][0], record.quantity)
    groups: dict[LineKey, list[int]] = {}
    for delta, quantity in now.values():
        group = groups.setdefault(folder.key_of(delta), [])
        if quantity is not None:
            group.append(quantity)
    combine: dict[str, Callable[[list[int]], int]] = {
        "sum": sum,
        "count": len,
        "max": lambda values: max(values, default=0),
    }
    return {
        key: (combine[folder.aggregates[key.meter]](values), len(values))
        for key, values in groups.items()
    }


def brute_tallies(records: Sequence[Record], stops: list[tuple[int, int]]) -> dict[LineKey, Tally]:
    tallies = {key: Tally(*found) for key, found in brute_totals(records).items()}
    for size, end_us in stops:
        for key, (total, deltas) in brute_totals(records[:size]).items():
            if key.charge_start_us < end_us:
                tallies[key].billed, tallies[key].billed_deltas = total, deltas
    return tallies


@given(data=st.data(), history=histories())
def test_replay_gives_what_recomputing_everything_gives(
    data: st.DataObject, history: History
) -> None:
    batches = [encoded(data.draw(split(records))) for records in history.records]
    closes = closes_at(history.stops)
    roles: tuple[Role, Role] = ("provider", "consumer")
    sizes = (len(history.records[0]), len(history.records[1]))
    summaries = [
        examine_log(EMPTY.terms, role, EMPTY.id, partial(list, b), size)
        for role, b, size in zip(roles, batches, sizes, strict=True)
    ]
    lines = replay(
        EMPTY.terms,
        lambda: batches[0],
        lambda: batches[1],
        sizes,
        closes,
        (summaries[0], summaries[1]),
    )

    sides = [
        brute_tallies(records, [(close.heads[side].size, close.end_us) for close in closes])
        for side, records in enumerate(history.records)
    ]
    until = closes[-1].end_us if closes else None
    folder = Folder(EMPTY.terms)
    assert lines == Deriver(EMPTY.terms, folder).lines(sides[0], sides[1], until)


@given(data=st.data(), history=histories())
def test_incremental_books_agree_with_replay(data: st.DataObject, history: History) -> None:
    """A node's way: fold what comes, write tallies back, ask for a `max` line's highest."""
    closes = closes_at(history.stops)
    sides = [
        incremental(
            data.draw(split(records)),
            {close.heads[side].size: close.end_us for close in closes},
        )
        for side, records in enumerate(history.records)
    ]
    until = closes[-1].end_us if closes else None
    lines = Deriver(EMPTY.terms, Folder(EMPTY.terms)).lines(sides[0], sides[1], until)

    batches = [encoded([records]) for records in history.records]
    found = [
        survey_log(EMPTY.terms, role, EMPTY.id, partial(list, b), len(records))
        for role, b, records in zip(ROLES, batches, history.records, strict=True)
    ]
    assert lines == replay(
        EMPTY.terms,
        lambda: batches[0],
        lambda: batches[1],
        (len(history.records[0]), len(history.records[1])),
        closes,
        (found[0], found[1]),
    )


def highest(done: Sequence[Record], key: LineKey) -> tuple[int, int]:
    return brute_totals(done)[key]


def incremental(batches: list[list[Record]], stops: dict[int, int]) -> dict[LineKey, Tally]:
    folder = Folder(EMPTY.terms)
    store: dict[LineKey, Tally] = {}
    done: list[Record] = []
    now: dict[tuple[str, str], tuple[Delta, int]] = {}
    for batch in batches:
        book = Book(folder, lambda key: store.get(key))
        run: list[Record] = []
        for record in batch:
            run.append(record)
            done.append(record)
            if isinstance(record, Delta):
                now[record.meter, record.id] = (record, record.quantity)
            elif isinstance(record, Correction):
                book.apply(folder.fold(run))
                run = []
                delta, old = now[record.meter, record.id]
                if record.quantity is not None:
                    now[record.meter, record.id] = (delta, record.quantity)
                key = folder.key_of(delta)
                book.correct(key, old, record.quantity, partial(highest, done, key))
            if len(done) in stops:
                book.apply(folder.fold(run))
                run = []
                store.update(book.dirty)
                for key, tally in store.items():
                    if key.charge_start_us < stops[len(done)]:
                        tally.settle()
        book.apply(folder.fold(run))
        store.update(book.dirty)
    return store


def survey(
    batches: list[list[Record]], size: int | None = None, role: Role = "provider"
) -> LogSummary:
    count = sum(map(len, batches)) if size is None else size
    return survey_log(EMPTY.terms, "provider", EMPTY.id, lambda: encoded(batches), count)


def delta(id: str, recorded_at: int = 1, meter: str = "tokens", quantity: int = 1) -> Delta:
    return Delta(id, meter, "s", quantity, OCTOBER_US, recorded_at, None)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([delta("a")], "record 0: a log begins with its channel's terms"),
        ([EMPTY.terms, EMPTY.terms], "record 1: terms stand only at the beginning"),
        ([EMPTY.terms, delta("a", 2), delta("b", 1)], "record 2: recorded_at goes back"),
        (
            [EMPTY.terms, delta("a"), delta("b"), delta("a")],
            "record 3: tokens/a was recorded before, as record 1",
        ),
        ([EMPTY.terms, delta("a", meter="water")], "record 1: the provider does not record"),
        ([EMPTY.terms, delta("a", quantity=2**63 - 1)], "record 1: .* outside the range"),
        ([EMPTY.terms, delta("a"), delta("b\n")], "record 2: .* control character"),
        ([EMPTY.terms, Correction("a", "tokens", 1, "why", 1)], "record 1: .* is not recorded"),
        (
            [
                EMPTY.terms,
                delta("a"),
                Correction("a", "tokens", None, "why", 1),
                Correction("a", "tokens", 1, "why", 1),
            ],
            "record 3: .* is voided",
        ),
    ],
)
@pytest.mark.parametrize("one_by_one", [False, True])
def test_an_invalid_record_is_named_by_its_index(
    records: list[Record], message: str, one_by_one: bool
) -> None:
    batches = [[record] for record in records] if one_by_one else [records]
    with pytest.raises(InvalidRecord, match=message):
        examine_log(EMPTY.terms, "provider", EMPTY.id, lambda: encoded(batches), len(records))


def test_a_fault_does_not_stop_the_hashing() -> None:
    good: list[list[Record]] = [[EMPTY.terms], [delta("a")], [delta("b")]]
    bad: list[list[Record]] = [[EMPTY.terms], [delta("a")], [delta("a")], [delta("b")]]
    summary = survey(bad)
    assert summary.fault is not None
    assert summary.state.size == 4
    assert survey(good).fault is None
    assert survey(good).state.frontier.root() != summary.state.frontier.root()


def test_the_same_id_under_two_meters_is_two_deltas() -> None:
    assert survey([[EMPTY.terms, delta("a"), delta("a", meter="calls")]]).fault is None


def test_only_the_records_up_to_the_size_count() -> None:
    batches: list[list[Record]] = [[EMPTY.terms, delta("a"), delta("a")]]
    assert survey(batches, 2).fault is None
    assert survey(batches, 2).state.size == 2
    with pytest.raises(FormatError, match="ends after 3 records; 4 are needed"):
        survey(batches, 4)


def test_a_batch_in_another_form_is_named() -> None:
    good = encoded([[EMPTY.terms], [delta("a")]])
    bad = b"\x91" + good[1][5:]
    with pytest.raises(FormatError, match="batch from record 1 on"):
        survey_log(EMPTY.terms, "provider", EMPTY.id, lambda: [good[0], bad], 2)


def test_closed_periods_stay_and_what_comes_late_moves_on() -> None:
    channel = busy_channel()
    october, november = channel.closed

    assert [(line.meter, line.payable) for line in october.lines] == [
        ("calls", "5"),
        ("gpu-hours", "12.50"),
        ("peak", "40"),
        ("tokens", "608"),
    ]
    late = {line.meter: line for line in november.lines if line.late_for == "2026-10"}
    assert {meter: line.payable for meter, line in late.items()} == {"peak": "-10", "tokens": "5"}
    assert late["peak"].consumer == "-10"
    assert late["peak"].provider == "0"
    now = channel.derive()
    assert {line.period for line in now} == {"2026-12"}
    assert [line.payable for line in now if line.late_for == "2026-10"] == ["-101"]


def test_closing_and_replaying_is_what_the_next_checkpoint_was_made_of() -> None:
    channel = busy_channel()
    november = channel.closed[1]
    sizes = november.checkpoint.sizes
    a, b = channel.logs
    lines: list[Line] = rederive(channel.terms, channel.id, a.source, b.source, sizes)
    assert period_lines(lines, "2026-11") == november.lines


def summaries(channel: Channel) -> list[LogSummary]:
    return [
        survey_log(channel.terms, log.role, channel.id, log.source, log.state.size)
        for log in channel.logs
    ]


def test_closes_of_both_logs_are_merged_in_order() -> None:
    channel = busy_channel()
    a, b = summaries(channel)
    assert [len(a.closes), len(b.closes)] == [2, 1]
    assert merge_closes(a, b) == [closed.checkpoint for closed in channel.closed]


def test_two_checkpoints_after_the_same_one_are_refused() -> None:
    channel = busy_channel()
    a, _ = summaries(channel)
    other = Channel()
    other.both("x", "tokens", 1)
    other.close(OCTOBER_US, ["consumer"])
    _, b = summaries(other)
    with pytest.raises(ProofError, match="follow the same one"):
        merge_closes(a, b)


def test_a_checkpoint_of_records_that_are_not_there_is_refused() -> None:
    channel = busy_channel()
    a, _ = summaries(channel)
    with pytest.raises(ProofError, match="the logs have"):
        merge_closes(a, summaries(Channel())[1])
