"""What disputes do to balance lines, in open periods and in closed ones, over several closings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from builders import DECEMBER_US, NOVEMBER_US, OCTOBER_US, OTHER
from disputing import Quarrel
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.protocol.derive import Adjustment, Folder, LineKey, apply_disputes
from tallystick.protocol.errors import InvalidRecord
from tallystick.protocol.periods import Calendar
from tallystick.protocol.quantities import format_quantity, parse_total
from tallystick.protocol.records import (
    ROLES,
    Answer,
    Close,
    Correction,
    Delta,
    Dispute,
    Lapse,
    Resolution,
    Role,
    Withdrawal,
    batch_bytes,
    encode_record,
    record_digest,
)
from tallystick.protocol.replay import rederive
from tallystick.protocol.statement import Line


@pytest.mark.parametrize(
    ("counted", "upheld", "withheld", "claimed", "payable", "disputed"),
    [
        (100, 0, 0, 0, 100, 0),
        (100, 30, 0, 0, 70, 0),
        (100, 130, 0, 0, 0, 0),  # no more is upheld than was counted
        (100, 0, 130, 0, 0, 100),  # nor withheld
        (100, 70, 50, 0, 0, 30),  # what is upheld comes first
        (100, 130, 50, 0, 0, 0),
        (100, 0, 30, 20, 70, 50),
        (100, -30, 0, 0, 130, 0),
        (100, -30, 150, 5, 0, 135),
        (-10, 5, 5, 5, -10, 5),  # of less than nothing nothing is taken off
        (-10, -30, 5, 0, 15, 5),
        (0, 5, 5, 5, 0, 5),
    ],
)
def test_no_more_is_taken_off_than_was_counted(
    counted: int, upheld: int, withheld: int, claimed: int, payable: int, disputed: int
) -> None:
    found = apply_disputes(counted, Adjustment(upheld, withheld, claimed))
    assert found == (payable, disputed)


def test_disputes_of_one_line_add_up() -> None:
    channel = Quarrel()
    channel.count("tokens", 100, 70)
    channel.dispute("consumer", 30)
    channel.dispute("consumer", 20)
    channel.dispute("provider", -15)
    channel.dispute("consumer", 40, subject="other")
    assert channel.line(meter="tokens") == ("50", "65")


def test_what_was_never_counted_can_be_claimed_and_is_shown() -> None:
    channel = Quarrel()
    digest = channel.dispute("provider", -250, meter="gpu-hours", subject="new")
    assert channel.line(subject="new") == ("0.00", "2.50")
    assert channel.derive()[0].deltas == 0
    channel.answer("consumer", digest, -250)
    assert channel.line(subject="new") == ("2.50", "0.00")


def test_what_is_withheld_of_what_is_not_there_is_not_shown() -> None:
    channel = Quarrel()
    channel.dispute("consumer", 5)
    assert channel.derive() == []


def test_a_dispute_of_a_closed_period_withholds_in_the_next_open_one_and_gives_back() -> None:
    channel = Quarrel()
    channel.count("tokens", 100, 70)
    channel.closing()
    assert channel.closed[0].lines[0].payable == "100"
    digest = channel.dispute("consumer", 30)
    late = {"period": "2026-11", "late_for": "2026-10"}
    assert channel.line(**late) == ("-30", "30")
    channel.closing(NOVEMBER_US)  # carries the dispute
    assert [(line.payable, line.disputed) for line in channel.closed[1].lines] == [("-30", "30")]
    late["period"] = "2026-12"
    assert channel.line(**late) == ("0", "30")  # shown for as long as it is open
    channel.answer("provider", digest, 10)
    assert channel.line(**late) == ("0", "20")
    channel.resolve("provider", digest, 10)
    channel.resolve("consumer", digest, 10)
    assert channel.line(**late) == ("20", "0")
    channel.closing(DECEMBER_US)
    assert channel.derive() == []
    assert [sum(int(line.payable) for line in done.lines) for done in channel.closed] == [
        100, -30, 20,
    ]  # fmt: skip


def test_a_dispute_that_was_open_at_the_closing_was_withheld_there() -> None:
    channel = Quarrel()
    channel.count("tokens", 100, 70)
    digest = channel.dispute("consumer", 30)
    channel.closing()
    assert [(line.payable, line.disputed) for line in channel.closed[0].lines] == [("70", "30")]
    assert channel.line(late_for="2026-10") == ("0", "30")
    channel.withdraw("consumer", digest)
    assert channel.line(late_for="2026-10") == ("30", "0")


def test_late_usage_and_disputes_of_it_go_together() -> None:
    channel = Quarrel()
    channel.count("tokens", 10, 10)
    channel.dispute("consumer", 25)
    channel.closing()
    assert channel.closed[0].lines[0].payable == "0"
    assert channel.closed[0].lines[0].disputed == "10"
    channel.count("tokens", 40, 0)  # late, for October
    assert channel.line(late_for="2026-10") == ("25", "25")
    line = channel.derive()[0]
    assert (line.provider, line.consumer, line.deltas) == ("40", "0", 1)


def test_of_a_meter_whose_lower_number_is_payable_the_totals_differ() -> None:
    channel = Quarrel()
    for _ in range(3):
        channel.provider_log.delta(f"a{channel.provider_log.state.size}", "calls", 1)
    channel.consumer_log.delta("b", "calls", 1)
    channel.closing()
    assert channel.closed[0].lines[0].payable == "1"
    for n in range(4):
        channel.consumer_log.delta(f"c{n}", "calls", 1)
    # The lower one is 3 now, the provider's; the late line has what that is more than 1.
    line = channel.derive()[0]
    assert (line.provider, line.consumer, line.payable, line.deltas) == ("0", "4", "2", 2)
    channel.dispute("consumer", 1, meter="calls")
    assert channel.line(late_for="2026-10") == ("1", "1")


def test_of_the_highest_value_a_part_is_disputed() -> None:
    channel = Quarrel()
    channel.count("peak", 50, 40)
    channel.closing()
    channel.dispute("provider", -10, meter="peak")
    assert channel.line(meter="peak") == ("0", "10")
    channel.count("peak", 60, 60)
    assert channel.line(meter="peak") == ("20", "10")


def test_earlier_sizes_show_what_was_then() -> None:
    channel = Quarrel()
    channel.count("tokens", 100, 70)
    before = (2, 2)
    digest = channel.dispute("consumer", 30)
    channel.answer("provider", digest, 30)
    a, b = channel.logs

    def at(sizes: tuple[int, int]) -> list[tuple[str, str]]:
        lines = rederive(channel.terms, channel.id, a.source, b.source, sizes)
        return [(line.payable, line.disputed) for line in lines]

    assert at(before) == [("100", "0")]
    assert at((2, 3)) == [("70", "30")]
    assert at((3, 2)) == [("100", "0")]  # an answer to what is not there
    assert at((3, 3)) == [("70", "0")]


# Any world against an oracle that reads the rules one by one


class Oracle:
    """What the rules say of both logs' records, looked for in all of them again and again."""

    def __init__(self, channel: Quarrel) -> None:
        self.terms = channel.terms
        self.calendar = Calendar(channel.terms.calendar, channel.terms.time_zone)
        self.logs: dict[Role, Sequence[Any]] = {log.role: log.records for log in channel.logs}
        self.closed = channel.closed

    def of(self, role: Role, kind: type, dispute: bytes) -> list[tuple[int, Any]]:
        """Records of a kind in a log that name a dispute."""
        return [
            (index, record)
            for index, record in enumerate(self.logs[role])
            if type(record) is kind and record.dispute == dispute
        ]

    def lapse(self, role: Role, index: int) -> Lapse | None:
        found = [r for r in self.logs[role] if isinstance(r, Lapse) and r.index == index]
        return found[0] if found else None

    def late(self, found: tuple[int, Any], lapse: Lapse, seconds: int) -> bool:
        start = int.from_bytes(lapse.start.cosignature[:8], "big")
        return found[0] >= lapse.peer_size and found[1].recorded_at > (start + seconds) * 10**6

    def upheld(self, role: Role, index: int, dispute: Dispute) -> tuple[int, int]:
        """What is upheld of a dispute and what is open."""
        other, digest, amount = OTHER[role], record_digest(dispute), dispute.amount
        said = [
            [
                (record.recorded_at, side, index, record.upheld)
                for index, record in self.of(by, Resolution, digest)
            ]
            for side, by in enumerate(ROLES)
        ]
        pairs = [(max(a, b), a[3]) for a in said[0] for b in said[1] if a[3] == b[3]]
        if pairs:
            return min(pairs)[1], 0
        if self.of(role, Withdrawal, digest):
            return 0, 0
        answers, insisted = self.of(other, Answer, digest), self.of(role, Answer, digest)
        conceded = answers[-1][1].conceded if answers else 0
        if conceded * amount < 0:
            conceded = 0
        conceded = amount if abs(conceded) > abs(amount) else conceded
        if conceded == amount:
            return amount, 0
        close = self.barring(other, dispute)
        lapse = self.lapse(other, close) if close is not None else None
        if lapse and self.late((index, dispute), lapse, self.terms.dispute_seconds):
            return 0, 0
        lapse = self.lapse(role, index)
        if lapse and all(self.late(one, lapse, self.terms.answer_seconds) for one in answers):
            return amount, 0
        lapse = self.lapse(other, answers[-1][0]) if answers else None
        if lapse and all(self.late(one, lapse, self.terms.dispute_seconds) for one in insisted):
            return conceded, 0
        return conceded, amount - conceded

    def barring(self, other: Role, dispute: Dispute) -> int | None:
        """Where the close is in the other log whose lapse bars disputes of a dispute's line."""
        period = self.calendar.parse(dispute.period)
        key = LineKey(period.start_us, dispute.meter, dispute.subject)
        said = {
            role: [n for n, r in enumerate(self.logs[role]) if isinstance(r, Close)]
            for role in ROLES
        }
        known = self.closed[: max(map(len, said.values()))]
        sizes = [tuple(head.size for head in done.checkpoint.heads) for done in known]
        totals = [self.totals(key, at) for at in [*sizes, tuple(map(len, self.logs.values()))]]
        ends = [done.checkpoint.end_us for done in known]
        closing = [n for n, end_us in enumerate(ends) if end_us >= period.end_us]
        if not closing or totals[-1] != totals[-2]:
            return None
        moved = [n for n in closing if n == closing[0] or totals[n] != totals[n - 1]]
        return said[other][moved[-1]] if moved[-1] < len(said[other]) else None

    def totals(self, key: LineKey, sizes: Sequence[int]) -> dict[Role, int]:
        """Both totals of a line, of so many records of each log."""
        meter = next(meter for meter in self.terms.meters if meter.name == key.meter)
        folder, totals = Folder(self.terms), dict[Role, int]()
        for (role, log), size in zip(self.logs.items(), sizes, strict=True):
            records = log[:size]
            now = {
                r.id: r.quantity
                for r in records
                if isinstance(r, Delta) and folder.key_of(r) == key
            }
            for r in records:
                if isinstance(r, Correction) and r.meter == key.meter and r.id in now:
                    now[r.id] = r.quantity  # type: ignore[assignment]
            left = [quantity for quantity in now.values() if quantity is not None]
            combine = {"sum": sum, "count": len, "max": lambda values: max(values, default=0)}
            totals[role] = combine[meter.aggregate](left)  # type: ignore[operator]
        return totals

    def counted(self, key: LineKey) -> int:
        """What is payable of a line before disputes."""
        meter = next(meter for meter in self.terms.meters if meter.name == key.meter)
        totals = self.totals(key, [len(log) for log in self.logs.values()])
        return min(totals.values()) if meter.payable == "minimum" else totals[meter.payable]

    def expected(self, key: LineKey) -> tuple[int, int]:
        """All that is payable of a line over all periods, and what is disputed."""
        found, seen = list[tuple[int, int]](), set[tuple[Role, bytes]]()
        for role in ROLES:
            for index, record in enumerate(self.logs[role]):
                if not isinstance(record, Dispute) or (role, record_digest(record)) in seen:
                    continue
                seen.add((role, record_digest(record)))
                start = self.calendar.parse(record.period).start_us
                if key == (start, record.meter, record.subject):
                    found.append(self.upheld(role, index, record))
        counted = self.counted(key)
        upheld = min(sum(one for one, _ in found), max(counted, 0))
        withheld = min(sum(max(o, 0) for _, o in found), max(counted - upheld, 0))
        claimed = -sum(min(o, 0) for _, o in found)
        return counted - upheld - withheld, withheld + claimed


METERS = ("calls", "peak", "tokens", "gpu-hours")
_small = st.integers(-40, 40)


def _worlds(kinds: Sequence[str], roles: Sequence[Role], choices: int, most: int) -> Any:
    """Worlds in which so much is done at most, each of (kind, role, number, amount, choice)."""
    step = st.tuples(
        st.sampled_from(kinds),
        st.sampled_from(roles),
        st.integers(0, 30),
        _small,
        st.integers(0, choices),
    )
    return st.lists(step, max_size=most)


_steps = _worlds(
    ["count"] * 2
    + ["correct", "dispute", "dispute", "answer", "answer", "resolve", "withdraw"]
    + ["lapse", "lapse", "close"],
    ROLES,
    3,
    30,
) | _worlds(  # lines that are accepted and grow
    ["accept", "accept", "late", "late", "late", "dispute", "correct", "close"],
    ("provider", "provider", "consumer"),
    2,
    15,
)


def play(steps: Sequence[tuple[str, Role, int, int, int]]) -> Quarrel:
    """A world in which the parties did these things, as far as the rules allow them."""
    channel = Quarrel()
    disputes: list[tuple[Role, bytes]] = []
    for what, role, number, amount, choice in steps:
        log, day = channel.log(role), number
        disputer, named = disputes[number % len(disputes)] if disputes else (role, bytes(32))
        months = (OCTOBER_US, NOVEMBER_US)
        try:
            match what:
                case "count":
                    meter, occurred = METERS[choice], months[number % 2]
                    log.delta(f"d{log.state.size}", meter, amount, occurred, "s")
                case "correct":
                    deltas = [r for r in log.records if isinstance(r, Delta)]
                    delta = deltas[number % len(deltas)]
                    log.correct(delta.id, delta.meter, amount if choice else None)
                case "dispute":
                    period = ("2026-10", "2026-11")[number % 2]
                    made = channel.dispute(
                        role, amount, day, meter=METERS[choice], subject="s", period=period
                    )
                    disputes.append((role, made))
                case "answer":
                    channel.answer(role, named, 0 if disputer == role else amount, day)
                case "resolve":
                    for side in ROLES if choice else (role,):
                        channel.resolve(side, named, amount, day)
                case "withdraw":
                    channel.withdraw(role, named, day)
                case "lapse":
                    waiting = [
                        n
                        for n, r in enumerate(log.records)
                        if isinstance(r, Close | Dispute | Answer)
                    ]
                    index, had = waiting[-1 - number % len(waiting)], (None, 0, 4, 8)[choice]
                    channel.lapse(role, index, day / 2, day / 2 + 30, had)
                case "late":  # what is most likely accepted grows, and is disputed
                    log.delta(f"d{log.state.size}", METERS[choice], amount, OCTOBER_US, "s")
                    digest = channel.dispute(
                        OTHER[role], amount, 30 + day, meter=METERS[choice], subject="s"
                    )
                    disputes.append((OTHER[role], digest))
                case _:
                    months = (OCTOBER_US, NOVEMBER_US, DECEMBER_US)
                    channel.closing(months[len(channel.closed)], day)
                    if what == "accept":
                        channel.lapse(role, log.state.size - 1, day / 2, day / 2 + 15)
        except (InvalidRecord, IndexError, ZeroDivisionError):
            pass  # the rules do not allow it, or there is nothing that it could be done to
    return channel


@settings(max_examples=200)
@given(steps=_steps)
def test_over_all_periods_the_payable_is_what_was_counted_less_what_is_upheld_and_withheld(
    steps: list[tuple[str, Role, int, int, int]],
) -> None:
    channel = play(steps)
    oracle, now = Oracle(channel), channel.derive()
    lines = [line for closed in channel.closed for line in closed.lines] + now
    months = {"2026-10": OCTOBER_US, "2026-11": NOVEMBER_US}
    for label, start in months.items():
        for meter in channel.terms.meters:
            scale = 0 if meter.aggregate == "count" else meter.scale

            def mine(line: Line, label: str = label, name: str = meter.name) -> bool:
                return (line.late_for or line.period, line.meter, line.subject) == (
                    label,
                    name,
                    "s",
                )

            payable, disputed = oracle.expected(LineKey(start, meter.name, "s"))
            assert sum(parse_total(line.payable, scale) for line in lines if mine(line)) == payable
            open_ = [line.disputed for line in now if mine(line)]
            assert (open_ or [format_quantity(0, scale)]) == [format_quantity(disputed, scale)]


@settings(max_examples=50)
@given(steps=_steps, data=st.data())
def test_lines_at_any_sizes_do_not_depend_on_what_else_is_there_or_how_it_came(
    steps: list[tuple[str, Role, int, int, int]], data: st.DataObject
) -> None:
    channel = play(steps)
    newest = channel.closed[-1].checkpoint.heads if channel.closed else (None, None)
    sizes = tuple(
        data.draw(st.integers(head.size + 1 if head else 1, log.state.size))
        for head, log in zip(newest, channel.logs, strict=True)
    )
    whole = [log.source for log in channel.logs]
    cut = []
    for log, size in zip(channel.logs, sizes, strict=True):
        parts = [encode_record(record) for record in log.records[:size]]
        at = data.draw(st.integers(1, size))
        cut.append([batch_bytes(piece) for piece in (parts[:at], parts[at:]) if piece])
    assert rederive(
        channel.terms, channel.id, whole[0], whole[1], (sizes[0], sizes[1])
    ) == rederive(channel.terms, channel.id, lambda: cut[0], lambda: cut[1], (sizes[0], sizes[1]))


def test_the_worlds_above_have_what_they_are_to_have() -> None:
    """Else the two tests above could be right of nothing."""
    channel = play(
        [
            ("count", "provider", 0, 40, 2),
            ("close", "provider", 0, 0, 0),
            ("dispute", "consumer", 0, 20, 2),
            ("answer", "provider", 0, 5, 1),
            ("lapse", "provider", 0, 0, 0),
        ]
    )
    assert channel.states() == [("lapsed", 5)]
    assert channel.line(late_for="2026-10") == ("-5", "0")
