"""A channel's lines taken apart: with late deltas, corrections after close and disputes."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallystick.node.books import Books
from tallystick.node.home import Home
from tallystick.node.passthrough.checking import Passthrough
from tallystick.node.passthrough.events import write_events
from tallystick.node.passthrough.gathering import Gathered, gather
from tallystick.protocol.errors import InputError
from tallystick.protocol.passthrough import ResaleMap, ResoldMeter, compare_sides
from tallystick.protocol.quantities import parse_total
from tallystick.protocol.statement import line_scales, meter_units

MONTHS = ("2026-10", "2026-11", "2026-12")


@pytest.fixture
def books(busy: tuple[Home, Home]) -> Iterator[tuple[Books, Books]]:
    """Both sides' books: each has what the other has."""
    opened = tuple(Books.open(home, read_only=True) for home in busy)
    yield opened[0], opened[1]
    for one in opened:
        one.close()


def gathered(books: Books, label: str) -> Gathered:
    [(channel, closer)] = books.channels.values()
    return gather(channel, closer, label)


def meters_of(one: Gathered) -> list[ResoldMeter]:
    terms = one.channel.terms
    scales, units = line_scales(terms), meter_units(terms)
    return [ResoldMeter(m.name, m.name, units[m.name], scales[m.name]) for m in terms.meters]


@pytest.mark.parametrize("label", MONTHS)
def test_parts_add_up_to_what_is_payable(books: tuple[Books, Books], label: str) -> None:
    one = gathered(books[0], label)
    [(channel, closer)] = books[0].channels.values()
    lines = closer.all_lines()
    assert len(one.amounts) == len(lines)
    for line, amount in zip(lines, one.amounts, strict=True):
        scale = line_scales(channel.terms)[line.meter]
        assert amount.payable == parse_total(line.payable, scale)
        assert (amount.of, amount.here) == (line.late_for or line.period, line.period == label)
        assert line.late_for is not None or amount.corrected == 0


@pytest.mark.parametrize("label", MONTHS[:2])  # of December one side has more
def test_the_same_channel_on_both_sides_never_differs(
    books: tuple[Books, Books], label: str
) -> None:
    up, down = (gathered(one, label) for one in books)
    groups = compare_sides(label, ResaleMap(), meters_of(up), up.amounts, down.amounts)
    assert groups
    assert [group.classes for group in groups] == [{}] * len(groups)


def test_what_corrections_did_is_told_from_what_came_late(books: tuple[Books, Books]) -> None:
    late = [
        (one.subject, one.counted, one.corrected)
        for one in gathered(books[0], "2026-11").amounts
        if (one.of, one.here, one.meter) == ("2026-10", True, "tokens")
    ]
    assert late == [("s1", 9, 0), ("s3", 0, 4)]


def test_open_periods_are_those_behind_the_last_checkpoint(books: tuple[Books, Books]) -> None:
    assert [gathered(books[0], label).open for label in MONTHS[:2]] == [(), ()]
    assert [period.label for period in gathered(books[0], "2026-12").open] == ["2026-12"]


def _passthrough(books: tuple[Books, Books], label: str, drop: str, *names: str) -> Passthrough:
    """Bought as one side has it, and sold as the other has it under another subject's name."""
    up, down = (gathered(one, label) for one in books)
    meters = [meter for meter in meters_of(up) if meter.upstream in names]
    mapping = ResaleMap((), (), True)
    sold = [one for one in down.amounts if one.meter != drop]
    groups = compare_sides(label, mapping, meters, up.amounts, sold)
    return Passthrough(label, up, [down], mapping, groups, {})


def test_ids_come_to_what_they_were_corrected_to(
    books: tuple[Books, Books], tmp_path: Path
) -> None:
    found = _passthrough(books, "2026-10", "tokens", "tokens")
    assert not any(group.settled for group in found.groups)
    written = write_events(tmp_path / "events.csv", found)
    # Both sides have every id alike: the group was made to differ, the logs do not.
    assert written.ids == 0
    assert written.shared > 5
    with (tmp_path / "events.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == []


def test_the_lower_of_two_sums_is_made_of_no_events(
    books: tuple[Books, Books], tmp_path: Path
) -> None:
    found = _passthrough(books, "2026-10", "calls", "calls")
    with pytest.raises(InputError, match="of calls the lower of two sums is payable"):
        write_events(tmp_path / "events.csv", found)
    assert not (tmp_path / "events.csv").exists()
