"""The shelf: room is shared fairly, and what goes is the fullest account's worst."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.items import HOPS_MAX
from tallystick.protocol.shelf import Shelf


def _name(number: int) -> bytes:
    return number.to_bytes(4, "big")


def test_the_fullest_account_loses_what_made_most_hops_and_is_oldest() -> None:
    shelf = Shelf(10)
    for number in range(4):
        shelf.charge("small", _name(number), HOPS_MAX)
    for number, hops in enumerate((1, 3, 3, 0, 2, 3, 1), 100):
        shelf.charge("large", _name(number), hops)
    assert shelf.overflow() == [("large", _name(101))]
    assert shelf.overflow() == []
    shelf.charge("large", _name(200), 0)
    assert shelf.overflow() == [("large", _name(102))]


def test_what_is_given_back_is_nearest_first() -> None:
    shelf = Shelf(10)
    for number, hops in ((1, 3), (2, 0), (3, 1), (4, 0)):
        shelf.charge("a", _name(number), hops)
    assert shelf.of("a") == [_name(number) for number in (2, 4, 3, 1)]
    assert shelf.of("nobody") == []


def test_releasing_twice_or_what_is_not_there_changes_nothing() -> None:
    shelf = Shelf(10)
    shelf.charge("a", _name(1), 1)
    for _ in range(2):
        shelf.release("a", _name(1))
        shelf.release("b", _name(1))
    assert (shelf.used, shelf.of("a")) == (0, [])


_STEPS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 60), st.integers(0, HOPS_MAX)), max_size=300
)


@given(_STEPS, st.integers(1, 40))
def test_it_holds_what_was_charged_and_not_lost_within_its_room(
    steps: list[tuple[str, int, int]], room: int
) -> None:
    shelf = Shelf(room)
    held: dict[str, set[bytes]] = {name: set() for name in "abcd"}
    for neighbour, number, hops in steps:
        name = _name(number)
        if name in held[neighbour]:
            shelf.release(neighbour, name)
            held[neighbour].remove(name)
            continue
        shelf.charge(neighbour, name, hops)
        held[neighbour].add(name)
        before = {one: len(names) for one, names in held.items()}
        for loser, lost in shelf.overflow():
            held[loser].remove(lost)
            assert before[loser] == max(before.values())
        assert shelf.used == sum(map(len, held.values())) <= room
    for neighbour, names in held.items():
        assert set(shelf.of(neighbour)) == names


def test_an_account_within_its_even_share_loses_nothing() -> None:
    shelf = Shelf(400)
    for neighbour in "abc":
        for number in range(100):
            shelf.charge(neighbour, _name(number), HOPS_MAX)
    for number in range(5_000):
        shelf.charge("flood", _name(10_000 + number), 0)
        assert all(loser == "flood" for loser, _ in shelf.overflow())
    assert [len(shelf.of(neighbour)) for neighbour in "abc"] == [100, 100, 100]
