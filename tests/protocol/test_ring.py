"""The ring: the same few neighbours for a pseudonym, whoever else comes or goes."""

from __future__ import annotations

from collections import Counter

from gossips import digest

from tallystick.protocol.ring import Ring

NAMES = [f"party-{number}.example" for number in range(100)]
PSEUDONYMS = [digest("pseudonym", number) for number in range(500)]


def _ring(names: list[str], secret: bytes = b"s" * 16, fanout: int = 4) -> Ring:
    ring = Ring(secret, fanout)
    for name in names:
        ring.join(ring.place(name), name)
    return ring


def test_the_chosen_are_as_many_as_the_fanout_different_and_never_the_source() -> None:
    for count in (0, 1, 2, 4, 5, 6, 20):
        ring = _ring(NAMES[:count])
        for source in ("", *NAMES[:count]):
            others = count - (source in NAMES[:count])
            for pseudonym in PSEUDONYMS[:20]:
                chosen = ring.chosen(pseudonym, source)
                assert len(set(chosen)) == len(chosen) >= min(4, others)
                assert len(chosen) <= 5
                assert source not in chosen


def test_the_order_in_which_they_came_is_nothing() -> None:
    one, other = _ring(NAMES), _ring(NAMES[::-1])
    assert all(one.chosen(item, "") == other.chosen(item, "") for item in PSEUDONYMS)


def test_one_that_goes_changes_only_what_went_to_it() -> None:
    before, after = _ring(NAMES), _ring(NAMES)
    after.leave(after.place(NAMES[7]), NAMES[7])
    for pseudonym in PSEUDONYMS:
        chosen = before.chosen(pseudonym, "")
        if NAMES[7] not in chosen:
            assert after.chosen(pseudonym, "") == chosen
        else:
            assert len(set(chosen) & set(after.chosen(pseudonym, ""))) >= 3


def test_everybody_is_chosen_now_and_then_and_nobody_much_more() -> None:
    ring = _ring(NAMES)
    counts = Counter(name for item in PSEUDONYMS for name in ring.chosen(item, ""))
    assert len(counts) > 90
    assert max(counts.values()) < 8 * 4 * len(PSEUDONYMS) / len(NAMES)


def test_without_the_secret_nobody_knows_who_is_chosen() -> None:
    one, other = _ring(NAMES, b"s" * 16), _ring(NAMES, b"t" * 16)
    same = sum(len(set(one.chosen(item, "")) & set(other.chosen(item, ""))) for item in PSEUDONYMS)
    assert same < 0.1 * 4 * len(PSEUDONYMS)


def test_pseudonyms_that_somebody_chose_go_to_few_but_do_no_harm() -> None:
    ring = _ring(NAMES)
    for pseudonym in (bytes(32), b"\xff" * 32):
        assert len(set(ring.chosen(pseudonym, ""))) == 4


def test_a_larger_fanout_than_a_pseudonym_has_points() -> None:
    ring = _ring(NAMES, fanout=7)
    assert all(len(set(ring.chosen(item, ""))) == 7 for item in PSEUDONYMS)
