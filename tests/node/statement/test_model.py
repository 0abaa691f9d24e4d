"""What a statement says, before it has a shape; the same as the lines and the verdict say."""

from __future__ import annotations

import builders
import pytest
import stating
from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.books import Books
from tallystick.node.home import Home, open_home
from tallystick.node.statement import wording
from tallystick.node.statement.making import make_statement
from tallystick.node.statement.model import Statement, draft_statement, file_stem
from tallystick.node.statement.tables import add_decimals, line_tables
from tallystick.protocol.errors import InputError
from tallystick.protocol.periods import Calendar
from tallystick.protocol.quantities import format_quantity


@pytest.fixture(scope="module")
def disputed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Home]:
    """Both homes of a channel with disputes before and after October's closing."""
    return stating.disputed_homes(tmp_path_factory.mktemp("disputed"))


def _of(home: Home, label: str) -> Statement:
    books = Books.open(open_home(home.path), read_only=True)
    try:
        return make_statement(*books.channels[books.select(None)], label).statement
    finally:
        books.close()


def test_the_parts_are_those_of_the_checkpoint() -> None:
    channel = builders.busy_channel()
    first = channel.closed[0]
    statement = stating.made_of(channel, first).statement
    assert (statement.provider, statement.consumer) == ("acme.example", "beta.example")
    assert (statement.start, statement.end) == ("2026-10-01 00:00", "2026-11-01 00:00")
    assert (statement.start_utc, statement.end_utc) == (
        "2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z",
    )  # fmt: skip
    assert [f"{part.meter} {part.payable} {part.unit}" for part in statement.meters] == list(
        first.checkpoint.totals
    )
    assert statement.proof is not None and statement.verdicts is not None
    assert statement.proof.text == first.checkpoint.text()
    assert statement.proof.digest == first.checkpoint.digest().hex()
    assert [signer[:2] for signer in statement.proof.signers] == [
        ("acme.example", "provider"), ("beta.example", "consumer"),
    ]  # fmt: skip
    assert [(v.meter, v.result, v.provider, v.consumer) for v in statement.verdicts] == [
        ("calls", "within tolerance", "5", "6"),
        ("gpu-hours", "disputed", "12.50", "12.00"),
        ("peak", "declared by one", "50", None),
        ("tokens", "agreed", "608", "608"),
    ]
    assert statement.headline == "Both parties signed these numbers. 1 of 4 meters is in dispute."


def test_late_usage_is_named_with_its_period() -> None:
    channel = builders.busy_channel()
    statement = stating.made_of(channel, channel.closed[1]).statement
    late = [(part.meter, row.period, row.payable) for part, row in statement.late]
    assert late == [("peak", "2026-10", "-10"), ("tokens", "2026-10", "5")]
    assert "2 late lines belong to earlier periods" in statement.headline
    tokens = next(part for part in statement.meters if part.meter == "tokens")
    assert tokens.payable == "45" and [row.payable for row in tokens.rows] == ["40"]


def test_a_checkpoint_from_before_verdicts_has_a_statement() -> None:
    channel = builders.Channel()
    channel.with_verdicts = False
    channel.both("t", "tokens", 5)
    statement = stating.made_of(channel, channel.close()).statement
    assert statement.verdicts is None
    assert "before there were any" in wording.verdict_note(statement)


def test_disputes_are_those_of_the_closing(disputed: tuple[Home, Home]) -> None:
    statement = _of(disputed[0], "2026-10")
    pending = [(c.subject, c.state, c.amount, c.pending, c.waits_for, c.then)
               for c in statement.pending_claims]  # fmt: skip
    assert pending == [
        ("s0", "open", "50", "50", "acme.example", "upheld"),
        ("s1", "answered", "20", "15", "beta.example", "lapsed"),
    ]
    assert [(c.subject, c.state, c.upheld) for c in statement.decided_claims] == [
        ("s2", "resolved", "30")
    ]
    assert all(claim.until for claim in statement.pending_claims)
    disputed_on_lines = {
        row.subject: row.disputed for part in statement.meters for row in part.rows
    }
    assert disputed_on_lines == {"s0": "50", "s1": "15", "s2": "0", "s3": "0"}
    assert "2 disputes are carried, of tokens" in statement.headline


def test_a_dispute_of_before_is_carried_and_one_decided_since_is_told(
    disputed: tuple[Home, Home],
) -> None:
    statement = _of(disputed[0], "2026-11")
    assert [(c.subject, c.state) for c in statement.pending_claims] == [
        ("s1", "answered"), ("s3", "open"),
    ]  # fmt: skip
    # What was settled before October's closing is not told again.
    assert [(c.subject, c.state) for c in statement.decided_claims] == [("s0", "conceded")]
    assert ("tokens", "2026-10") in [(part.meter, row.period) for part, row in statement.late]


def test_both_parties_have_the_same_statement(disputed: tuple[Home, Home]) -> None:
    for label in ("2026-10", "2026-11"):
        assert _of(disputed[0], label) == _of(disputed[1], label)


def test_an_open_period_needs_a_draft_and_a_closed_one_none(busy: tuple[Home, Home]) -> None:
    books = Books.open(open_home(busy[0].path), read_only=True)
    try:
        both = books.channels[books.select(None)]
        with pytest.raises(InputError, match="not closed") as error:
            make_statement(*both, "2026-12")
        assert "tally checkpoint 2026-12" in error.value.advice
        draft = make_statement(*both, "2026-12", draft=True)
        assert draft.statement.draft and draft.attached == {}
        assert "may still change" in draft.statement.headline
        with pytest.raises(InputError, match="needs no draft"):
            make_statement(*both, "2026-11", draft=True)
        with pytest.raises(InputError, match="is not a month"):
            make_statement(*both, "2026")
    finally:
        books.close()


def test_a_draft_of_nothing_says_so() -> None:
    channel = builders.Channel()
    period = Calendar("month", "Europe/Berlin").parse("2026-10")
    verdict = channel.verdict("2026-10", [])
    statement = draft_statement(channel.terms, period, [], verdict, [])
    assert statement.lines == 0 and line_tables(statement) == []
    assert wording.no_lines(statement, shown=True) == "No usage was recorded in this period."


def test_few_lines_of_many_meters_share_a_table() -> None:
    channel = builders.Channel([builders.meter(f"m{n}") for n in range(6)])
    for n in range(6):
        channel.both(f"d{n}", f"m{n}", n + 1)
    tables = line_tables(stating.made_of(channel, channel.close()).statement)
    assert [table.texts for table in tables] == [("meter", "subject")]
    assert [row[1][2] for row in tables[0].rows] == ["1", "2", "3", "4", "5", "6"]


@given(st.lists(st.integers(-(10**38), 10**38), max_size=9), st.integers(0, 9))
def test_sums_of_columns_are_exact(values: list[int], scale: int) -> None:
    texts = [format_quantity(value, scale) for value in values]
    expected = format_quantity(sum(values), scale) if values else "0"
    assert add_decimals(texts) == expected


def test_a_repeated_hours_label_is_a_files_name() -> None:
    assert file_stem("2026-10-25T02+02:00") == "2026-10-25T02+0200"


def test_a_disputes_words_are_readable() -> None:
    channel = builders.busy_channel()
    claim = stating.CLAIM
    statement = stating.made_of(channel, channel.closed[1], [claim]).statement
    shown = statement.pending_claims[0]
    assert wording.claim_line(shown) == "2026-09 · tokens · project-7"
    assert wording.claim_stands(shown) == (
        "Not answered; waits for acme.example until 2026-12-01 12:30 CET; after that it is upheld;"
        " 120 token of it not decided."
    )
