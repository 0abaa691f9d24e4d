"""Outboxes: what waits is counted, bounded for all together, and gone with its neighbour."""

from __future__ import annotations

import random

from tallystick.protocol.outboxes import Outboxes

NAMES = "abc"


def _name(number: int) -> bytes:
    return number.to_bytes(2, "big")


def _full(boxes: Outboxes) -> list[str]:
    return boxes.next(len(NAMES), lambda name: True)


def test_what_waited_longest_goes_first_and_the_newest_hops_count() -> None:
    boxes = Outboxes(10)
    boxes.open("a")
    for number in range(3):
        boxes.put("a", _name(number), 2)
    boxes.put("a", _name(0), 1)
    boxes.put_conflict("a", _name(9))
    assert boxes.take("a", 2, 1) == ([(_name(0), 1), (_name(1), 2)], [_name(9)])
    assert _full(boxes) == ["a"]
    assert boxes.next(9, lambda name: name != "a") == []
    assert boxes.take("a", 2, 1) == ([(_name(2), 2)], [])
    assert _full(boxes) == []


def test_what_can_wait_goes_in_turns_and_what_is_urgent_at_once() -> None:
    boxes = Outboxes(100)
    for number in range(9):
        boxes.open(str(number))
        boxes.put(str(number), _name(1), 1, urgent=number in (7, 8))
        boxes.put(str(number), _name(2), 1)
    boxes.put_conflict("6", _name(3))
    turns = []
    while turn := boxes.next(2, lambda name: name != "0"):
        turns.append(turn)
        for name in turn:
            boxes.take(name, 2, 1)
        boxes.put(turn[-1], _name(4), 1)  # who had a turn waits for the next one
        if len(turns) == 4:
            break
    assert turns == [["7", "8", "6", "1", "2"], ["3", "4"], ["5", "2"], ["4", "2"]]


def test_there_is_room_for_so_much_in_all_and_what_finds_none_is_counted() -> None:
    boxes = Outboxes(3)
    for name in NAMES:
        boxes.open(name)
        boxes.put(name, _name(1), 1)
    boxes.put("a", _name(2), 1)
    boxes.put_conflict("b", _name(2))
    boxes.put("c", _name(1), 0)  # it waits already
    assert (boxes.waiting, boxes.unsent) == (3, 2)
    boxes.close("a")
    boxes.put_conflict("b", _name(2))
    assert (boxes.waiting, boxes.unsent) == (3, 2)


def test_nothing_waits_for_who_is_not_here() -> None:
    boxes = Outboxes(3)
    boxes.put("a", _name(1), 1)
    boxes.put_conflict("a", _name(1))
    boxes.drop("a", _name(1))
    boxes.drop_conflict("a", _name(1))
    boxes.close("a")
    assert (boxes.waiting, boxes.unsent, _full(boxes)) == (0, 0, [])


def test_the_count_is_of_what_waits_whatever_happens() -> None:
    dice = random.Random(1)
    boxes = Outboxes(40)
    for _ in range(5_000):
        name, thing = dice.choice(NAMES), _name(dice.randrange(30))
        match dice.randrange(8):
            case 0:
                boxes.open(name)
            case 1 if dice.random() < 0.2:
                boxes.close(name)
            case 2 | 3:
                boxes.put(name, thing, 1)
            case 4:
                boxes.put_conflict(name, thing)
            case 5:
                boxes.drop(name, thing)
            case 6:
                boxes.drop_conflict(name, thing)
            case _ if name in _full(boxes):
                boxes.take(name, 2, 1)
            case _:
                pass
        assert 0 <= boxes.waiting <= 40
        assert bool(_full(boxes)) == bool(boxes.waiting)
    waiting = 0
    for name in _full(boxes):
        items, conflicts = boxes.take(name, 100, 100)
        waiting += len(items) + len(conflicts)
    assert boxes.waiting == 0 < waiting
