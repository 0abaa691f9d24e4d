"""An audit in pieces against replay: the same balances, roots and faults, however a log is cut."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from audited_worlds import WORLDS, mutate, world
from auditing import Audited, audit, examine
from builders import (
    OCTOBER_US,
    MemoryLog,
    busy_channel,
)
from histories import EMPTY, History, closes_at, histories
from hypothesis import example, given
from hypothesis import strategies as st

from tallystick.protocol.audit import Chunk, Piece, PieceExaminer
from tallystick.protocol.derive import Folder
from tallystick.protocol.errors import FormatError, InvalidRecord, ProofError
from tallystick.protocol.merkle import Forest, Frontier, chain_leaves, root_of, subtree_roots
from tallystick.protocol.records import (
    ROLES,
    Delta,
    Record,
    batch_bytes,
    encode_record,
)
from tallystick.protocol.replay import (
    AtStop,
    LogSummary,
    Stops,
    Tallies,
    find_sides,
    open_lines,
    replay,
    survey_log,
)

CUTS = st.integers(1, 20)


def parts_of(records: Sequence[Record]) -> list[bytes]:
    return [encode_record(record) for record in records]


def surveyed(log: MemoryLog, parts: Sequence[bytes]) -> LogSummary | str:
    """What replay finds if each batch is one record, so that what it finds first is the first."""
    batches = [batch_bytes([part]) for part in parts]
    try:
        return survey_log(log.terms, log.role, log.channel_id, lambda: batches, len(parts))
    except FormatError as error:
        return error.message


def same(audited: Audited, expected: LogSummary) -> None:
    found = audited.summary
    assert (found.fault and found.fault.args) == (expected.fault and expected.fault.args)
    if expected.fault is None:
        assert found == expected


@given(history=histories(), every=CUTS, seed=st.integers(0, 99))
def test_pieces_give_what_replay_gives(history: History, every: int, seed: int) -> None:
    closes = closes_at(history.stops)
    sizes = (len(history.records[0]), len(history.records[1]))
    parts = [parts_of(records) for records in history.records]
    found = [
        audit(EMPTY.terms, role, one, every, [close.heads[side].size for close in closes], seed)
        for side, (role, one) in enumerate(zip(ROLES, parts, strict=True))
    ]
    batches = [batch_bytes(one) for one in parts]
    expected = [
        survey_log(EMPTY.terms, role, EMPTY.id, lambda b=batch: [b], size)  # type: ignore[misc]
        for role, batch, size in zip(ROLES, batches, sizes, strict=True)
    ]
    summaries = (found[0].summary, found[1].summary)
    for one, wanted in zip(found, expected, strict=True):
        same(one, wanted)
        for size, frontier in one.joined.frontiers.items():
            leaves = chain_leaves(EMPTY.id, parts[found.index(one)][:size])
            assert frontier == Frontier.empty().extend(leaves)
    folder = Folder(EMPTY.terms)

    def walk(side: int, stops: Stops, at_stop: AtStop) -> Tallies:
        one = found[side]
        return one.joined.walk(one.corrected, one.peaks, stops, at_stop)

    sides, moves = find_sides(folder, closes, summaries, walk)
    lines = open_lines(EMPTY.terms, folder, sides, moves, sizes, closes, summaries)
    assert lines == replay(
        EMPTY.terms,
        lambda: [batches[0]],
        lambda: [batches[1]],
        sizes,
        closes,
        (expected[0], expected[1]),
    )


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("every", [1, 4, 100])
def test_whole_worlds_have_no_fault(name: str, every: int) -> None:
    for log in WORLDS[name]().logs:
        parts = parts_of(log.records)
        expected = surveyed(log, parts)
        assert isinstance(expected, LogSummary)
        assert expected.fault is None
        same(audit(log.terms, log.role, parts, every, seed=every), expected)


@pytest.mark.parametrize("name", WORLDS)
@given(seed=st.integers(0, 10**6), every=CUTS)
@example(seed=998873, every=1)
def test_what_was_changed_is_found_as_replay_finds_it(name: str, seed: int, every: int) -> None:
    pick = random.Random(seed)
    log = pick.choice(world(name).logs)
    parts = parts_of(log.records)
    for _ in range(pick.randint(1, 2)):
        mutate(parts, pick)
    expected = surveyed(log, parts)
    found = audit(log.terms, log.role, parts, every, seed=seed)
    if isinstance(expected, str):
        broken = found.joined.broken
        assert broken is not None
        index = int(expected.split()[3].rstrip(","))  # "batch from record 3 on: …"
        if seed % 2:  # the container says where records end
            assert broken.message.startswith(f"record {index}: not a record"), expected
        else:
            assert broken.message.startswith(f"batch from record {broken.index} on: not a batch")
            assert index - 1 <= broken.index <= index
        return
    if found.summary.fault is None and expected.fault is not None:
        assert "was recorded before" in expected.fault.message  # ids are looked at elsewhere
        return
    faults = (found.summary.fault, expected.fault)
    if any(fault is not None and "id or subject" in fault.message for fault in faults):
        # Texts are looked at last in a batch: of two faults, it depends on the cut which is named.
        assert None not in faults
        return
    same(found, expected)


def test_a_piece_that_begins_elsewhere_is_named() -> None:
    log = busy_channel().provider_log
    parts = parts_of(log.records)
    audited = audit(log.terms, log.role, parts, 4)
    pieces = [found for found, _ in examine(log.terms, log.role, parts, 4, (), 0)]
    assert audited.joined.broken is None
    other = PieceExaminer(log.terms, Piece(log.role, 4, 4, bytes(32))).run(
        [Chunk([batch_bytes(parts[4:8])])]
    )
    joined = type(audited.joined)(log.terms, log.role, log.channel_id, [len(parts)])
    joined.take(pieces[0])
    joined.take(other)
    assert joined.broken is not None
    assert joined.broken.message.startswith("record 4: the leaf hash before it is said to be 0000")
    joined.take(pieces[2])
    assert joined.size == 4


def test_records_that_are_not_there_are_missed() -> None:
    log = busy_channel().provider_log
    piece = Piece(log.role, 0, 9, log.channel_id)
    found = PieceExaminer(log.terms, piece).run([Chunk([batch_bytes(parts_of(log.records[:7]))])])
    assert found.unreadable is not None
    assert found.unreadable.message == "the log ends after 7 records; 9 are needed"


def test_time_that_goes_back_between_two_pieces_is_found() -> None:
    records: list[Record] = [
        EMPTY.terms,
        *(Delta(f"{n}", "tokens", "s", 1, OCTOBER_US, t, None) for n, t in enumerate([5, 6, 4])),
    ]
    for every in (1, 2, 3, 4):
        fault = audit(EMPTY.terms, "provider", parts_of(records), every).summary.fault
        assert isinstance(fault, InvalidRecord)
        assert fault.message == "record 3: recorded_at goes back"


@given(count=st.integers(0, 70), cuts=st.lists(st.integers(0, 70), max_size=6))
def test_subtrees_of_any_ranges_make_the_tree(count: int, cuts: list[int]) -> None:
    leaves = chain_leaves(bytes(32), [b"%d" % n for n in range(count)])
    ends = sorted({min(cut, count) for cut in cuts} | {0, count})
    whole, by_range = Forest(), []
    for first, end in itertools.pairwise(ends):
        part = Forest(first)
        middle = (first + end) // 2
        part.add(subtree_roots(first, leaves[first:middle]))
        part.add(subtree_roots(middle, leaves[middle:end]))
        by_range.append(part.subtrees)
        whole.add(part.subtrees)
    assert whole.frontier() == Frontier.empty().extend(leaves)
    assert whole.frontier().root() == root_of(leaves)


def test_a_subtree_stands_only_where_it_can() -> None:
    forest = Forest()
    forest.add([(0, bytes(32))])
    with pytest.raises(ProofError, match="no subtree of 2 leaves begins at 1"):
        forest.add([(1, bytes(32))])
