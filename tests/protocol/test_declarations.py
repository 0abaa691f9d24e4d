"""Declarations: what counts of them follows from both logs alone, and nobody can have copied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import builders
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.declarations import (
    Commitments,
    Declared,
    Placed,
    commitment,
    commitments_in,
    declared,
    next_opening,
    periods_of,
    read_totals,
    sides_of,
    somebody_revealed,
    totals_of,
)
from tallystick.protocol.errors import FormatError, InvalidRecord
from tallystick.protocol.records import (
    ROLES,
    Declaration,
    DeclaredTotal,
    Reveal,
    Role,
    record_digest,
)

TERMS = builders.make_terms(builders.identity("acme.example"), builders.identity("beta.example"))
PERIOD = "2026-10"


def declaration(role: Role, totals: Mapping[str, int], at: int = 1) -> Declaration:
    shown = totals_of(TERMS, totals)
    return Declaration(PERIOD, commitment(TERMS, role, PERIOD, bytes(32), shown), at)


def reveal(own: Declaration, peer: Declaration, totals: Mapping[str, int], at: int = 9) -> Reveal:
    shown = totals_of(TERMS, totals)
    return Reveal(record_digest(own), record_digest(peer), bytes(32), shown, at)


def placed(*records: Declaration | Reveal) -> list[Placed]:
    return list(enumerate(records, 1))


def count(provider: Sequence[Placed], consumer: Sequence[Placed]) -> tuple[Declared, Declared]:
    return declared(*sides_of(TERMS, PERIOD, provider, consumer))


A, B = declaration("provider", {"tokens": 5}), declaration("consumer", {"tokens": 7})
RA, RB = reveal(A, B, {"tokens": 5}), reveal(B, A, {"tokens": 7})


def test_a_pair_counts() -> None:
    a, b = count(placed(A, RA), placed(B, RB))
    assert (a.totals, b.totals) == ({"tokens": 5}, {"tokens": 7})
    assert (a.committed, a.revealed, a.problem) == (1, True, "")


def test_what_is_only_committed_counts_nothing() -> None:
    a, b = count(placed(A), placed(B))
    assert (a.totals, b.totals, a.committed, a.revealed) == (None, None, 1, False)


def test_one_reveal_counts_by_itself() -> None:
    a, b = count(placed(A, RA), placed(B))
    assert (a.totals, b.totals) == ({"tokens": 5}, None)


def test_a_reveal_made_without_the_peers_declaration_is_improper() -> None:
    a, b = count(placed(A, RA), [])
    assert a.totals is None and b.totals is None
    assert a.problem == "it names no declaration of the other party's for this period"
    late = declaration("consumer", {"tokens": 5}, at=20)  # copied from what A's reveal showed
    a, b = count(placed(A, RA), placed(B, late, reveal(late, A, {"tokens": 5})))
    assert b.totals is None
    assert (a.totals, b.problem) == (
        {"tokens": 5},
        "the declaration that it names was opened against another one",
    )


def test_nobody_opens_the_others_declaration_in_his_own_name() -> None:
    copied = reveal(A, A, {"tokens": 5})
    b = count(placed(A, RA), placed(A, copied))[1]
    assert b.totals is None
    assert b.problem == "what it opens is not what its declaration committed to"


def test_reveals_that_cross_count_for_nobody() -> None:
    second_a = declaration("provider", {"tokens": 6}, at=2)
    second_b = declaration("consumer", {"tokens": 8}, at=2)
    a, b = count(
        placed(A, second_a, reveal(A, B, {"tokens": 5})),
        placed(B, second_b, reveal(second_b, second_a, {"tokens": 8})),
    )
    assert a.totals is None and b.totals is None
    assert "each revealed against another" in a.problem


def test_of_two_pairs_the_first_in_the_providers_log_counts() -> None:
    second_a = declaration("provider", {"tokens": 6}, at=2)
    second_b = declaration("consumer", {"tokens": 8}, at=2)
    later = reveal(second_a, second_b, {"tokens": 6})
    theirs = reveal(second_b, second_a, {"tokens": 8})
    a, b = count(placed(A, second_a, RA, later), placed(B, second_b, theirs, RB))
    assert (a.totals, b.totals) == ({"tokens": 5}, {"tokens": 7})
    a, b = count(placed(A, second_a, later, RA), placed(B, second_b, RB, theirs))
    assert (a.totals, b.totals) == ({"tokens": 6}, {"tokens": 8})


def test_other_periods_say_nothing_of_this_one() -> None:
    assert periods_of(placed(A, B)) == [PERIOD]
    said = commitments_in(TERMS, "provider", "2026-11", placed(A, RA))
    assert (said.declarations, said.openings, said.newest) == ({}, {}, None)


@pytest.mark.parametrize(
    ("totals", "said"),
    [
        ([("tokens", "1"), ("calls", "1")], "not in order"),
        ([("tokens", "1"), ("tokens", "1")], "not in order"),
        ([("nothing", "1")], "no meter 'nothing'"),
        ([("tokens", "01")], "not a decimal"),
        ([("tokens", "-0")], "not a decimal"),
        ([("gpu-hours", "1")], "not a decimal with 2 places"),
        ([("tokens", "9" * 40)], "not a decimal"),
    ],
)
def test_totals_have_one_form(totals: list[tuple[str, str]], said: str) -> None:
    with pytest.raises(FormatError, match=said):
        read_totals(TERMS, [DeclaredTotal(*row) for row in totals])


@given(
    st.dictionaries(
        st.sampled_from(["calls", "gpu-hours", "tokens"]), st.integers(-(2**100), 2**100)
    )
)
def test_totals_read_back(totals: dict[str, int]) -> None:
    assert read_totals(TERMS, totals_of(TERMS, totals)) == totals


def test_a_commitment_is_of_one_party_period_salt_and_channel() -> None:
    totals = totals_of(TERMS, {"tokens": 5})
    other = builders.make_terms(builders.identity("x.example"), builders.identity("y.example"))
    made = {
        commitment(TERMS, "provider", PERIOD, bytes(32), totals),
        commitment(TERMS, "consumer", PERIOD, bytes(32), totals),
        commitment(TERMS, "provider", "2026-11", bytes(32), totals),
        commitment(TERMS, "provider", PERIOD, bytes([1]) * 32, totals),
        commitment(other, "provider", PERIOD, bytes(32), totals),
    }
    assert len(made) == 5


@pytest.mark.parametrize("records", [[A, reveal(A, B, {"tokens": 6})], [RA], [A, RA, RA]])
def test_a_log_takes_no_reveal_that_does_not_open_its_declaration(
    records: list[Declaration | Reveal],
) -> None:
    log = builders.Channel().provider_log
    with pytest.raises(InvalidRecord):
        for record in records:
            log.append(record)


# Two honest nodes, whatever order things arrive in


@dataclass
class Node:
    """One party that declares some totals and reveals by the rule; `seen` is what it has of the
    other's log, `acknowledged` what the other co-signed of its own.
    """

    role: Role
    to_declare: list[int]
    log: list[Placed] = field(default_factory=list)
    seen: int = 0
    acknowledged: int = 0
    totals: dict[bytes, int] = field(default_factory=dict)

    def append(self, record: Declaration | Reveal) -> None:
        self.log.append((len(self.log) + 1, record))

    def said(self, size: int) -> Commitments:
        return commitments_in(TERMS, self.role, PERIOD, self.log[:size])

    def declare(self, other: Node) -> None:
        """Declare anew, unless it is known here that somebody revealed."""
        own = self.said(len(self.log))
        if self.to_declare and not somebody_revealed(own, other.said(self.seen)):
            total = self.to_declare.pop(0)
            record = declaration(self.role, {"tokens": total}, len(self.log) + 1)
            self.totals[record_digest(record)] = total
            self.append(record)

    def reveal(self, other: Node) -> None:
        found = next_opening(
            self.said(len(self.log)),
            other.said(self.seen),
            (self.acknowledged + 1, self.seen + 1),
            self.totals.keys(),
        )
        if found is not None:
            shown = totals_of(TERMS, {"tokens": self.totals[found[0]]})
            self.append(Reveal(*found, bytes(32), shown, 0))


STEPS = st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from(["say", "see", "ack"])))


def run(nodes: tuple[Node, Node], steps: list[tuple[int, str]]) -> tuple[Declared, Declared]:
    """Do the steps in their order, then all that is left, until nothing more happens."""
    settle = [(who, what) for _ in range(6) for what in ("say", "see", "ack") for who in (0, 1)]
    for who, what in [*steps, *settle]:
        node, other = nodes[who], nodes[1 - who]
        if what == "say":
            node.declare(other)
        elif what == "see":
            node.seen = min(node.seen + 1, len(other.log))
        else:
            node.acknowledged = other.seen
        node.reveal(other)
    return declared(nodes[0].said(len(nodes[0].log)), nodes[1].said(len(nodes[1].log)))


@given(STEPS)
def test_two_honest_nodes_come_to_a_pair_in_any_order(steps: list[tuple[int, str]]) -> None:
    a, b = run((Node("provider", [5]), Node("consumer", [7])), steps)
    assert (a.totals, b.totals) == ({"tokens": 5}, {"tokens": 7})


@given(STEPS, st.lists(st.integers(0, 9), max_size=3), st.lists(st.integers(0, 9), max_size=3))
def test_a_reveal_follows_a_declaration_of_the_peers_that_was_seen(
    steps: list[tuple[int, str]], ours: list[int], theirs: list[int]
) -> None:
    """Also if both declare again and again: no totals are shown before both have committed."""
    nodes = (Node("provider", list(ours)), Node("consumer", list(theirs)))
    counted = run(nodes, steps)
    for node, other in (nodes, nodes[::-1]):
        digests = {record_digest(r) for _, r in other.log if isinstance(r, Declaration)}
        reveals = [r for _, r in node.log if isinstance(r, Reveal)]
        assert all(r.peer_declaration in digests for r in reveals)
        assert len({r.peer_declaration for r in reveals}) <= 1, "against one of the peer's only"
    if not (ours and theirs):
        assert counted[0].totals is None and counted[1].totals is None
        assert not any(isinstance(r, Reveal) for node in nodes for _, r in node.log)


@given(STEPS, st.integers(0, 20), st.integers(0, 20))
def test_what_counts_at_two_nodes_is_the_same_at_the_same_sizes(
    steps: list[tuple[int, str]], a: int, b: int
) -> None:
    """And a pair, once there, stays: more of the logs changes nothing."""
    nodes = (Node("provider", [5, 6]), Node("consumer", [7, 8]))
    run(nodes, steps)
    early = declared(nodes[0].said(a), nodes[1].said(b))
    late = declared(nodes[0].said(99), nodes[1].said(99))
    if early[0].totals is not None and early[1].totals is not None:
        assert [side.totals for side in late] == [side.totals for side in early]


@given(st.integers(0, 9), st.integers(0, 9))
def test_who_saw_the_others_total_cannot_choose_among_several_of_his_own(x: int, y: int) -> None:
    """A dishonest consumer commits twice; the honest provider opens against one of them only."""
    first = declaration("consumer", {"tokens": x}, at=1)
    second = declaration("consumer", {"tokens": y}, at=2)
    theirs = placed(first, second)
    ours = [*placed(A)]
    own, peer = sides_of(TERMS, PERIOD, ours, theirs)
    found = next_opening(own, peer, (99, 99), {record_digest(A)})
    assert found == (record_digest(A), record_digest(second))
    ours.append((2, Reveal(*found, bytes(32), totals_of(TERMS, {"tokens": 5}), 9)))
    for chosen, total in ((first, x), (second, y)):
        answer = [*theirs, (9, reveal(chosen, A, {"tokens": total}))]
        own, peer = sides_of(TERMS, PERIOD, ours, answer)
        assert next_opening(own, peer, (99, 99), {record_digest(A)}) is None
        counted = declared(own, peer)
        assert counted[1].totals == ({"tokens": y} if chosen is second else None)


def test_a_declaration_whose_salt_is_lost_is_not_opened_but_another_one_is() -> None:
    again = declaration("provider", {"tokens": 6}, at=2)
    own, peer = sides_of(TERMS, PERIOD, placed(A), placed(B))
    assert next_opening(own, peer, (99, 99), set()) is None
    own, peer = sides_of(TERMS, PERIOD, placed(A, again), placed(B))
    assert next_opening(own, peer, (99, 99), {record_digest(again)}) == (
        record_digest(again),
        record_digest(B),
    )


def test_a_declaration_is_opened_once_both_are_co_signed() -> None:
    own, peer = sides_of(TERMS, PERIOD, placed(A), placed(B))
    opened = (record_digest(A), record_digest(B))
    assert next_opening(own, peer, (2, 2), {record_digest(A)}) == opened
    assert next_opening(own, peer, (1, 2), {record_digest(A)}) is None
    assert next_opening(own, peer, (2, 1), {record_digest(A)}) is None
    assert ROLES == ("provider", "consumer")
