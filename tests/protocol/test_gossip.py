"""The engine: news goes round, a node meets its own word again, and what floods is bounded."""

from __future__ import annotations

import itertools
import random
import tracemalloc

import msgspec
import pytest
from gossips import NOW, Net, digest, item_of, key_of, public_of, veil_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.protocol.blinding import EPOCH_SECONDS, Veil
from tallystick.protocol.gossip import BACKLOG_SECONDS, Gossip
from tallystick.protocol.gossip_words import Conflicted, Heard, Limits, Refused
from tallystick.protocol.items import (
    HOPS_MAX,
    SEALED_SIZE,
    Carried,
    Conflict,
    Item,
    make_conflict,
    verify_conflict,
)

RING = [(str(one), str((one + 1) % 9)) for one in range(9)]
FULL = list(itertools.combinations("abcdefg", 2))
EPOCH = int(NOW) // EPOCH_SECONDS


def _taken(item: Item) -> None:
    """For floods: a signature that costs nothing."""


def _made(number: int, rank: int = 1, history: bytes = b"") -> Item:
    """An item that nobody signed."""
    pseudonym = digest("flood", number)
    commitment = digest(pseudonym, rank, history)
    return Item(EPOCH, pseudonym, rank, commitment, bytes(SEALED_SIZE), bytes(64))


def _own(name: str, size: int, history: str = "") -> Item:
    return item_of(name, "peer of " + name, size, history)


# -- news goes round ------------------------------------------------------------------------------


def test_news_goes_so_many_hops_and_no_further() -> None:
    net = Net(RING)
    item = _own("0", 1)
    net.publish("0", item)
    net.run(40)
    has = {name for name, node in net.nodes.items() if node.newest(item.pseudonym) is not None}
    assert has >= {"7", "8", "0", "1", "2"}
    far = Net([(str(one), str(one + 1)) for one in range(12)])
    far.publish("0", item)
    far.run(40)
    reached = [name for name, node in far.nodes.items() if node.newest(item.pseudonym)]
    assert len(reached) == HOPS_MAX + 1


def test_the_newest_replaces_the_older_everywhere_and_never_the_other_way() -> None:
    net = Net(FULL)
    items = [_own("a", size) for size in (1, 2, 3)]
    for item in items:
        net.publish("a", item)
        net.run(3)
    net.run(400)
    net.nodes["b"].receive("c", [Carried(0, items[0])], [], net.now)
    for node in net.nodes.values():
        assert node.newest(items[0].pseudonym) == items[2]


def test_own_items_go_to_one_neighbour_first_and_to_the_others_as_if_from_afar() -> None:
    net = Net([("a", other) for other in "bcdefg"])
    node = net.nodes["a"]
    node.publish(_own("a", 1), NOW)
    first = node.round(NOW)
    assert [[carried.hops for carried in batch.items] for batch in first.values()] == [[0]]
    later = node.round(NOW + 10)
    assert len(later) == Limits().fanout - 1
    assert not set(later) & set(first)
    assert {carried.hops for batch in later.values() for carried in batch.items} == {1}


def test_an_item_goes_to_the_same_few_neighbours_each_time() -> None:
    net = Net([("a", f"n{number}") for number in range(50)])
    node, told = net.nodes["a"], []
    for size in (1, 2, 3):
        now = NOW + 1000 * size
        node.publish(_own("a", size), now)
        told.append({*node.round(now), *node.round(now + 10)})
    assert told[0] == told[1] == told[2]
    assert len(told[0]) == Limits().fanout


def test_news_from_afar_waits_for_more_of_the_same() -> None:
    """Two go close together, then one in each 100 seconds; the last one arrives."""
    net = Net([("a", "b"), ("b", "c")], Limits(spacing=(0.0, 100.0, 100.0, 100.0)))
    net.start("c", [_own("a", 1).pseudonym])
    for size in range(1, 151):
        net.publish("a", _own("a", size))
        net.run(1)
    assert 4 <= len(net.events["c"]) <= 5
    net.run(100)
    assert net.events["c"][-1] == Heard(_own("a", 150), "b", True)
    assert len(net.events["c"]) <= 6


def test_an_idle_net_is_silent() -> None:
    net = Net(FULL)
    for name in "abc":
        net.publish(name, _own(name, 1))
    net.run(700)
    sent = net.sent
    net.run(200)
    assert net.sent == sent
    assert all(node.due() == float("inf") for node in net.nodes.values())


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000))
def test_whatever_the_order_everybody_near_has_the_newest(seed: int) -> None:
    """Sessions begin and end at random; at the end all links stand, and all know the newest."""
    dice = random.Random(seed)
    net = Net(FULL)
    sizes = dict.fromkeys("abcdefg", 0)
    for _ in range(60):
        name = dice.choice("abcdefg")
        match dice.randrange(4):
            case 0 | 1:
                sizes[name] += dice.randrange(1, 5)
                net.publish(name, _own(name, sizes[name]))
            case 2:
                one, other = dice.choice(FULL)
                net.nodes[one].disconnected(other)
                net.nodes[other].disconnected(one)
            case _:
                net.run(dice.randrange(1, 20))
    for one, other in FULL:
        net.nodes[one].connected(other, net.now)
        net.nodes[other].connected(one, net.now)
    net.run(1000)
    for name, size in sizes.items():
        if size:
            newest = _own(name, size)
            for node in net.nodes.values():
                assert node.newest(newest.pseudonym) == newest


# -- a node meets its own word again --------------------------------------------------------------


@pytest.mark.parametrize("back", ["b", "e"])
def test_a_node_from_an_old_copy_hears_what_it_signed_since(back: str) -> None:
    """One neighbour is enough, whichever it is."""
    net = Net([("a", other) for other in "bcde"] + [("b", "c")])
    old, new = _own("a", 5), _own("a", 9)
    net.publish("a", old)
    net.run(10)
    net.publish("a", new)
    net.run(10)
    for other in set("bcde") - {back}:
        net.stop(other)
    net.start("a", [old.pseudonym])
    net.run(1)
    assert net.events["a"] == [Heard(new, back, True)]
    assert net.nodes["a"].publish(old, net.now) == [Heard(new, back, True)]
    assert net.nodes["a"].newest(old.pseudonym) == new


def test_who_publishes_an_older_head_is_told_the_newer_one() -> None:
    net = Net([("a", "b")])
    old, new = _own("a", 5), _own("a", 9)
    net.publish("a", new)
    net.run(5)
    net.stop("b")
    net.start("a", [old.pseudonym])
    net.publish("a", old)
    node = Gossip(b"b" * 32)
    node.connected("x", net.now)
    node.receive("x", [Carried(0, new)], [], net.now)
    node.connected("a", net.now)
    net.nodes["b"] = node
    net.events["b"] = []
    net.nodes["a"].connected("b", net.now)
    net.run(5)
    assert Heard(new, "b", True) in net.events["a"]


def test_a_smaller_history_of_ours_is_heard_too() -> None:
    """Somebody with our key goes on from an older state: we hold more, and see what he says."""
    net = Net([("a", "b")])
    ours, theirs = _own("a", 9), _own("a", 7, "another history")
    net.start("a", [ours.pseudonym])
    net.publish("a", ours)
    net.run(5)
    events = net.nodes["a"].receive("b", [Carried(2, theirs)], [], net.now)
    assert events == [Heard(theirs, "b", False)]
    assert net.nodes["a"].newest(ours.pseudonym) == ours


def test_what_was_heard_before_it_was_watched_is_given_when_it_is() -> None:
    net = Net([("a", "b"), ("b", "c")])
    one, other = _own("a", 5), _own("a", 5, "another history")
    net.publish("a", one)
    net.run(20)
    net.nodes["c"].receive("b", [Carried(1, other)], [], net.now)
    events = net.nodes["c"].watch([one.pseudonym])
    assert events == [Heard(one, "b", True), Conflicted(make_conflict(one, other), "b", True)]
    assert net.nodes["c"].watch([one.pseudonym]) == []


# -- conflicts ------------------------------------------------------------------------------------


def test_two_histories_of_one_log_meet_and_everybody_near_learns_of_it() -> None:
    net = Net([(str(one), str((one + 1) % 7)) for one in range(7)])
    one, other = _own("0", 5), _own("0", 5, "another history")
    net.start("4", [one.pseudonym])
    net.nodes["1"].receive("0", [Carried(0, one)], [], net.now)
    net.nodes["6"].receive("0", [Carried(0, other)], [], net.now)
    net.run(20)
    found = [event for event in net.events["4"] if isinstance(event, Conflicted)]
    assert [event.watched for event in found] == [True]
    verify_conflict(found[0].conflict)
    knowing = [name for name, node in net.nodes.items() if node.conflict(one.pseudonym)]
    assert {"2", "3", "4", "5"} <= set(knowing)


def test_two_copies_that_publish_the_same_size_find_each_other_out() -> None:
    net = Net([("a", "b"), ("b", "c")])
    net.start("a", [_own("a", 5).pseudonym])
    net.publish("a", _own("a", 5))
    net.run(3)
    conflict = make_conflict(_own("a", 5), _own("a", 5, "clone"))
    assert net.nodes["b"].receive("c", [Carried(0, conflict.second)], [], net.now) or (
        net.nodes["b"].receive("c", [Carried(0, conflict.first)], [], net.now)
    )
    net.run(3)
    assert [event for event in net.events["a"] if isinstance(event, Conflicted)]
    clone = Gossip(b"c" * 32)
    clone.connected("b", NOW)
    clone.receive("b", [Carried(0, _own("a", 5))], [], NOW)
    events = clone.publish(_own("a", 5, "clone"), NOW)
    assert [type(event) for event in events] == [Conflicted]
    assert clone.publish(_own("a", 5, "clone"), NOW) == events


def test_a_conflict_is_kept_after_the_log_went_on() -> None:
    net = Net([("a", "b")])
    one, other = _own("a", 5), _own("a", 5, "another history")
    for item in (one, other, _own("a", 6)):
        net.nodes["b"].receive("a", [Carried(0, item)], [], net.now)
    assert net.nodes["b"].conflict(one.pseudonym) == make_conflict(one, other)
    net.start("c")
    net.nodes["b"].connected("c", net.now)
    batch = net.nodes["b"].round(net.now)["c"]
    assert batch.conflicts == [make_conflict(one, other)]


# -- lies and floods ------------------------------------------------------------------------------


def test_what_its_pseudonym_did_not_sign_is_refused_and_its_bearer_is_not_heard_for_a_while() -> (
    None
):
    node = Gossip(b"s" * 32)
    node.connected("liar", NOW)
    node.connected("b", NOW)
    forged = msgspec.structs.replace(_own("a", 9), signature=bytes(64))
    lie = Refused("liar", "signature")
    assert node.receive("liar", [Carried(0, forged), Carried(0, _own("a", 1))], [], NOW) == [lie]
    barred = Refused("liar", "barred")
    assert node.receive("liar", [Carried(0, _own("a", 1))], [], NOW + 1) == [barred]
    assert node.stats().items == 0
    assert node.receive("b", [Carried(0, _own("a", 1))], [], NOW + 1) == []
    later = NOW + Limits().barred
    assert node.receive("liar", [Carried(0, _own("c", 1))], [], later) == []
    assert node.stats().items == 2


def test_a_forged_item_stands_in_nobodys_way() -> None:
    """Neither a larger rank nor another commitment counts without the signature."""
    node = Gossip(b"s" * 32)
    for name in "abc":
        node.connected(name, NOW)
    true = _own("a", 5)
    node.receive("a", [Carried(0, true)], [], NOW)
    larger = msgspec.structs.replace(true, rank=true.rank + 10**6)
    other = msgspec.structs.replace(true, commitment=bytes(32))
    for name, forged in (("b", larger), ("c", other)):
        assert node.receive(name, [Carried(0, forged)], [], NOW) == [Refused(name, "signature")]
    assert node.newest(true.pseudonym) == true
    assert node.conflict(true.pseudonym) is None


def test_conflicts_that_are_none_are_refused() -> None:
    one, other = _own("a", 5), _own("a", 5, "another history")
    forged = msgspec.structs.replace(other, signature=bytes(64))
    lies = [Conflict(0, one, one), Conflict(0, one, _own("a", 6)), Conflict(0, one, forged)]
    for number, lie in enumerate(lies):
        node = Gossip(b"s" * 32)
        node.connected("liar", NOW)
        reason = "signature" if number == 2 else "conflict"
        assert node.receive("liar", [], [lie], NOW) == [Refused("liar", reason)]
        assert node.stats().conflicts == 0


@pytest.mark.parametrize("weeks", [-100, -2, 2, 100])
def test_items_of_other_weeks_are_refused_and_those_held_go_when_their_week_is_over(
    weeks: int,
) -> None:
    node = Gossip(b"s" * 32, verify=_taken)
    node.connected("a", NOW)
    odd = msgspec.structs.replace(_made(1), epoch=EPOCH + weeks)
    assert node.receive("a", [Carried(0, odd)], [], NOW) == [Refused("a", "epoch")]
    one, other = _made(2), _made(2, history=b"x")
    node.receive("a", [Carried(0, one), Carried(0, other), Carried(0, _made(3))], [], NOW)
    node.round(NOW)
    assert (node.stats().items, node.stats().conflicts) == (2, 1)
    node.round(NOW + 2 * EPOCH_SECONDS)
    stats = node.stats()
    assert (stats.items, stats.kept, stats.conflicts) == (0, 0, 0)


def test_a_flood_pushes_out_itself_and_nothing_else() -> None:
    node = Gossip(b"s" * 32, Limits(items=500, items_a_minute=10**9), verify=_taken)
    for name in ("honest", "flood"):
        node.connected(name, NOW)
    honest = [_made(-number - 1) for number in range(100)]
    node.receive("honest", [Carried(0, item) for item in honest], [], NOW)
    # The flood brings them as well, so that they stand on its account too.
    node.receive("flood", [Carried(0, item) for item in honest], [], NOW)
    for number in range(5_000):
        node.receive("flood", [Carried(0, _made(number))], [], NOW + number / 100)
    assert all(node.newest(item.pseudonym) == item for item in honest)
    assert 490 <= node.stats().kept <= 500


def test_memory_is_bounded_whatever_comes() -> None:
    limits = Limits(
        items=2_000, conflicts=50, items_a_minute=10**9, checks_a_second=10**9, waiting=3_000
    )
    node = Gossip(b"s" * 32, limits, verify=_taken)
    names = [f"n{number}" for number in range(20)]
    for name in names:
        node.connected(name, NOW)
    tracemalloc.start()
    try:
        peak_early = 0
        for number in range(9_000):
            name = names[number % len(names)]
            item, now = _made(number, rank=number), NOW + number / 50
            conflict = make_conflict(item, _made(number, rank=number, history=b"x"))
            node.receive(name, [Carried(number % 3, item)], [conflict], now)
            if number % 100 == 0:
                node.round(now, may=lambda name: name not in names[:10])
            if number == 3_000:
                peak_early = tracemalloc.get_traced_memory()[1]
        assert tracemalloc.get_traced_memory()[1] < 1.25 * peak_early
    finally:
        tracemalloc.stop()
    stats = node.stats()
    assert stats.kept <= 2_000
    assert stats.conflicts <= 50
    assert stats.waiting <= limits.waiting


def test_what_one_neighbour_brings_is_taken_and_passed_on_at_a_pace() -> None:
    limits = Limits(items_a_minute=600, relays_a_minute=60, relays_at_once=10)
    node = Gossip(b"s" * 32, limits, verify=_taken)
    for name in ("flood", "b"):
        node.connected(name, NOW)
    node.round(NOW)
    events = node.receive("flood", [Carried(0, _made(number)) for number in range(900)], [], NOW)
    assert events == [Refused("flood", "quota")]
    assert node.stats().items == 600
    sent, seconds = 0, 0
    while seconds < BACKLOG_SECONDS + 100:
        sent += sum(len(batch.items) for batch in node.round(NOW + seconds).values())
        seconds += 2
    assert 600 * 0.95 <= sent <= 600
    # More than can be passed on in a while is kept without being passed on.
    late = NOW + seconds
    node.receive("flood", [Carried(0, _made(number)) for number in range(1000, 1600)], [], late)
    node.receive(
        "flood", [Carried(0, _made(number)) for number in range(2000, 2600)], [], late + 60
    )
    begin = late + 60
    sent = 0
    for second in range(0, 2000, 2):
        sent += sum(len(batch.items) for batch in node.round(begin + second).values())
    assert sent <= BACKLOG_SECONDS + 100


def test_checks_of_signatures_are_bounded_for_all_together() -> None:
    checked = []
    node = Gossip(b"s" * 32, Limits(checks_a_second=100), verify=checked.append)
    for number in range(20):
        node.connected(str(number), NOW)
        items = [Carried(0, _made(100 * number + at)) for at in range(50)]
        node.receive(str(number), items, [], NOW)
    assert len(checked) == 100
    assert node.stats().refused["busy"] == 900


def test_a_neighbour_that_does_not_read_costs_nobody_else() -> None:
    node = Gossip(b"s" * 32, Limits(waiting=1000), verify=_taken)
    for name in ("a", "slow", "b"):
        node.connected(name, NOW)
    sent = 0
    for number in range(3000):
        now = NOW + number
        node.receive("a", [Carried(0, _made(number))], [], now)
        batches = node.round(now, may=lambda name: name != "slow")
        assert set(batches) <= {"a", "b"}
        sent += len(batches["b"].items) if "b" in batches else 0
    assert node.stats().waiting <= 1000
    assert node.stats().unsent > 0
    node.disconnected("slow")
    assert node.stats().waiting == 0


def test_what_a_neighbour_already_has_is_not_sent_to_it() -> None:
    node = Gossip(b"s" * 32, verify=_taken)
    for name in ("a", "b"):
        node.connected(name, NOW)
    node.round(NOW)
    node.receive("a", [Carried(0, _made(1))], [], NOW)
    node.receive("b", [Carried(0, _made(1))], [], NOW)
    assert node.round(NOW + 20) == {}


def test_a_nearer_way_is_told_on_if_the_first_one_was_too_long() -> None:
    node = Gossip(b"s" * 32, verify=_taken)
    for name in ("a", "b", "c"):
        node.connected(name, NOW)
    node.round(NOW)
    node.receive("a", [Carried(HOPS_MAX, _made(1))], [], NOW)
    assert node.round(NOW + 20) == {}
    node.receive("b", [Carried(0, _made(1))], [], NOW + 20)
    told = node.round(NOW + 40)
    assert set(told) == {"a", "c"}


def test_who_comes_is_told_what_goes_to_it_however_much_that_is() -> None:
    """Some in each round; what was of a past week is gone by then."""
    limits = Limits(
        items_a_minute=10**9, checks_a_second=10**9, items_a_round=5_000, relays_at_once=10**6
    )
    node = Gossip(b"s" * 32, limits, verify=_taken)
    node.connected("a", NOW)
    items = [_made(number) for number in range(5_000)]
    node.receive("a", [Carried(0, item) for item in items], [], NOW)
    node.round(NOW)
    node.connected("b", NOW + 60)
    told: list[int] = []
    while node.due() < NOW + 60:
        told.append(sum(len(batch.items) for batch in node.round(NOW + 60).values()))
    assert sum(told) == 5_000
    assert max(told) == 2_000


def test_a_node_with_very_many_neighbours_collects_what_can_wait() -> None:
    names = [f"n{number}" for number in range(40)]
    limits = Limits(neighbours_a_round=5, relays_at_once=10**6)
    node = Gossip(b"s" * 32, limits, verify=_taken)
    for name in names:
        node.connected(name, NOW)
    # What is new goes at once to all whom it concerns, whatever it costs.
    for number, name in enumerate(names):
        node.receive(name, [Carried(0, _made(number, rank=1))], [], NOW)
    assert len(node.round(NOW)) > 30
    # What goes on growing goes to a few neighbours a round, and nothing is left out.
    for minute in range(1, 4):
        now = NOW + 60 * minute
        for number, name in enumerate(names):
            node.receive(name, [Carried(0, _made(number, rank=1 + minute))], [], now)
        sent = [node.round(now + 2 * turn) for turn in range(20)]
        assert max(map(len, sent)) <= 5
        items = sum(len(batch.items) for batches in sent for batch in batches.values())
        assert items == len(names) * limits.fanout


def test_there_is_room_for_what_each_neighbour_says_however_many_there_are() -> None:
    node = Gossip(b"s" * 32, Limits(items=100, items_a_neighbour=2), verify=_taken)
    for number in range(200):
        node.connected(str(number), NOW)
        node.receive(str(number), [Carried(0, _made(2 * number + at)) for at in (0, 1)], [], NOW)
    assert node.stats().kept == 400
    node.receive("0", [Carried(0, _made(1000))], [], NOW)
    assert node.stats().kept <= 400


def test_unwatched_items_are_let_go_by_who_watched() -> None:
    node = Gossip(b"s" * 32)
    item, peer = _own("a", 1), _own("b", 1)
    node.connected("b", NOW)
    node.watch([item.pseudonym, peer.pseudonym])
    node.publish(item, NOW)
    node.receive("b", [Carried(0, peer)], [], NOW)
    node.unwatch([item.pseudonym, peer.pseudonym])
    assert node.newest(item.pseudonym) == item  # still ours
    assert node.newest(peer.pseudonym) == peer  # on its bearer's account
    other = Gossip(b"s" * 32, Limits(items=0))  # which keeps for nobody
    other.watch([peer.pseudonym])
    other.connected("b", NOW)
    other.receive("b", [Carried(0, peer)], [], NOW)
    assert other.newest(peer.pseudonym) == peer
    other.unwatch([peer.pseudonym])
    assert other.newest(peer.pseudonym) is None


def test_sessions_that_begin_twice_or_end_twice_do_no_harm() -> None:
    node = Gossip(b"s" * 32)
    node.disconnected("a")
    for _ in range(2):
        node.connected("a", NOW)
    node.publish(_own("z", 1), NOW)
    assert set(node.round(NOW)) == {"a"}
    for _ in range(2):
        node.disconnected("a")
    node.publish(_own("z", 2), NOW)
    assert node.round(NOW + 20) == {}


def test_what_comes_outside_a_session_is_taken_and_nothing_is_sent_back() -> None:
    node = Gossip(b"s" * 32)
    for size in (2, 1):
        assert node.receive("a", [Carried(0, _own("z", size))], [], NOW) == []
    assert node.newest(_own("z", 1).pseudonym) == _own("z", 2)
    assert node.round(NOW + 20) == {}


def test_a_clock_that_goes_back_stops_nothing_for_long() -> None:
    node = Gossip(b"s" * 32)
    node.connected("a", NOW)
    node.publish(_own("z", 1), NOW)
    node.round(NOW)
    back = NOW - 3600
    node.publish(_own("z", 2), back)
    assert node.due() <= back + Limits().spacing[0]
    assert set(node.round(back + Limits().spacing[0])) == {"a"}
    assert node.receive("a", [Carried(0, _own("y", 1))], [], NOW - 3600) == []


def test_a_channels_parties_watch_the_same_pseudonyms() -> None:
    """Without a word: the veil of the peer's items follows from the secret."""
    net = Net([("acme", "hub"), ("hub", "beta")])
    veil = veil_of("acme", "beta")
    net.start("beta", [veil_of("acme", "beta").pseudonym])
    item = item_of("acme", "beta", 12)
    net.publish("acme", item)
    net.run(10)
    heard = net.events["beta"]
    assert [type(event) for event in heard] == [Heard]
    assert isinstance(heard[0], Heard)
    assert veil.open(heard[0].item).size == 12
    assert Veil.open(veil, item).root == veil.open(heard[0].item).root
    assert bytes(key_of("acme").verify_key) == public_of("acme")


def test_growth_after_a_start_does_not_wait_as_what_came_from_afar() -> None:
    """A neighbour gives back what we published before we started, and then our log grows."""
    node = Gossip(b"s" * 32)
    for neighbour in ("a", "b"):
        node.connected(neighbour, NOW)
    node.receive("a", [Carried(2, _own("z", 1))], [], NOW)
    node.round(NOW)
    node.publish(_own("z", 1), NOW + 1)
    node.publish(_own("z", 2), NOW + 2)
    told: dict[str, int] = {}
    for second in range(3, 33):
        for neighbour, batch in node.round(NOW + second).items():
            if _own("z", 2) in [carried.item for carried in batch.items]:
                told.setdefault(neighbour, second)
    assert told.keys() == {"a", "b"}
