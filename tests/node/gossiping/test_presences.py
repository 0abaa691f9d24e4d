"""A process knows its own words, those of its earlier lives, and those of another copy."""

from __future__ import annotations

from pathlib import Path
from random import Random

import homes
import pytest
import trio

from tallystick.node.gossiping.presences import REPEAT_MS, Presences, stored_presence
from tallystick.protocol.blinding import OpenedPresence
from tallystick.protocol.items import verify_item

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US


async def _written(side: homes.Side) -> None:
    await side.books.store.commit(lambda txn: None)


async def test_own_words_and_those_of_an_earlier_process_are_no_copies(tmp_path: Path) -> None:
    async with homes.alone(tmp_path) as side:
        first = Presences(side.books, Random(1))
        words = []
        for _ in range(3):
            words.append(first.item())
            verify_item(words[-1])
            side.now_us += SECOND_US
        assert [first.hear(word) for word in words] == [None] * 3
        assert {word.pseudonym for word in words} <= set(first.pseudonyms())
        await _written(side)

        again = Presences(side.books, Random(2))
        assert [again.hear(word) for word in words] == [None] * 3


@pytest.mark.parametrize("back_us", [0, 5 * SECOND_US, HOUR_US])
async def test_a_process_begins_after_its_earlier_life_whatever_the_clock_says(
    tmp_path: Path, back_us: int
) -> None:
    async with homes.alone(tmp_path) as side:
        first = Presences(side.books, Random(1))
        word = first.item()
        await _written(side)
        side.now_us -= back_us
        again = Presences(side.books, Random(2))
        assert again.hear(word) is None
        side.now_us += SECOND_US
        said = again.hear(again.item())
        assert said is None


async def test_what_another_copy_says_later_stops_us_until_people_decide(tmp_path: Path) -> None:
    async with homes.alone(tmp_path) as side:
        ours, other = Presences(side.books, Random(1)), Presences(side.books, Random(2))
        side.now_us += SECOND_US
        found = ours.hear(other.item())
        assert found is not None
        assert found.incarnation == other.incarnation != ours.incarnation
        await ours.stop(found)
        assert ours.stopped
        with side.books.store.read() as txn:
            assert stored_presence(txn).stopped_us == side.now_us
        assert Presences(side.books, Random(3)).stopped  # also after a restart

        before = ours.incarnation
        await ours.go_on()
        assert not ours.stopped
        assert ours.incarnation != before
        assert ours.hear(other.item()) is None  # it was said before people decided
        side.now_us += SECOND_US
        assert ours.hear(other.item()) is not None
        assert not Presences(side.books, Random(4)).stopped


async def test_an_answer_is_passed_on_and_is_no_copys_word_here(
    tmp_path: Path,
) -> None:
    async with homes.alone(tmp_path) as side:
        ours, other = Presences(side.books, Random(1)), Presences(side.books, Random(2))
        side.now_us += HOUR_US  # by the other one's clock
        heard = other.item()
        found = ours.hear(heard)
        assert found is not None
        side.now_us -= HOUR_US
        answer = ours.answer(found)
        assert answer.rank > heard.rank  # else nobody would pass it on
        assert other.hear(answer) is not None
        assert ours.hear(answer) is None
        # A process that goes on here afterwards takes neither word for a copy's.
        await ours.stop(found)
        await ours.go_on()
        assert ours.hear(heard) is ours.hear(answer) is None


async def test_the_same_process_twice_is_a_copy(tmp_path: Path) -> None:
    """A machine that was copied while it ran has one incarnation at two places."""
    async with homes.alone(tmp_path) as side:
        ours, twin = Presences(side.books, Random(1)), Presences(side.books, Random(1))
        assert ours.incarnation == twin.incarnation
        ours.item()
        side.now_us += SECOND_US
        assert ours.hear(twin.item()) is not None


async def test_a_home_that_was_taken_over_from_is_no_copy(tmp_path: Path) -> None:
    async with homes.alone(tmp_path) as side:
        ours, other = Presences(side.books, Random(1)), Presences(side.books, Random(2))
        ours.generation = 1
        side.now_us += SECOND_US
        assert ours.hear(other.item()) is None
        assert other.hear(ours.item()) is not None


async def test_nobody_makes_us_say_more_than_a_little(tmp_path: Path) -> None:
    async with homes.alone(tmp_path) as side:
        ours = Presences(side.books, Random(1))
        first = ours.message().item
        assert all(ours.message(asks=True).item is first for _ in range(100))
        side.now_us += REPEAT_MS * 1000
        assert ours.message().item != first


@pytest.mark.parametrize("behind_us", [0, HOUR_US])
async def test_an_answer_is_later_than_what_it_answers(tmp_path: Path, behind_us: int) -> None:
    """A copy that begins just after our last word hears that word again, and learns nothing."""
    async with homes.alone(tmp_path) as side:
        ours = Presences(side.books, Random(1))
        last = ours.item()
        side.now_us += REPEAT_MS * 1000 // 2
        other = Presences(side.books, Random(2))
        assert ours.item() is last
        assert other.hear(last) is None

        side.now_us += SECOND_US
        found = ours.hear(other.item())
        assert found is not None
        side.now_us -= behind_us  # our clock is another machine's
        assert other.hear(ours.answer(found)) is not None


async def test_a_stop_that_the_disk_cannot_keep_holds_all_the_same(tmp_path: Path) -> None:
    async with homes.alone(tmp_path) as side:
        ours = Presences(side.books, Random(1))
    assert not side.books.store.running
    with trio.fail_after(60):
        await ours.stop(OpenedPresence(side.now_us // 1000 + 1, bytes(16), 0))
    assert ours.stopped
