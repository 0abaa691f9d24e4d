"""Disputes in two homes: filed, answered, settled, left to lapse; both see the same throughout."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import builders
import disks
import homes
import lmdb
import msgspec
import pytest
import trio
from homes import Side

from tallystick.node import certifying, disputing, filing, proving, recovery, worklist
from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.disputing import Spoken, standing_all
from tallystick.node.doctor.child import examine_apart
from tallystick.node.errors import StoreError
from tallystick.node.importing.drafts import Draft
from tallystick.node.lapsing import Lapser
from tallystick.protocol.errors import InputError
from tallystick.protocol.records import (
    Answer,
    Dispute,
    DisputeCode,
    Lapse,
    Named,
    Reminder,
    Resolution,
    Withdrawal,
)
from tallystick.protocol.statement import Line, statement_root
from tallystick.protocol.verify import verify_bundle
from tallystick.protocol.verify_certificate import verify_certificate

DAY_US = builders.DAY_US
OCTOBER = "2026-10"


async def _record(a: Side, b: Side) -> None:
    """A hundred tokens a day of s1, in October and a week of November, recorded by both."""
    days = [builders.OCTOBER_US + day * DAY_US for day in range(31)]
    days += [builders.NOVEMBER_US + day * DAY_US for day in range(7)]
    drafts = [Draft(f"t{n}", "tokens", "s1", 100, at) for n, at in enumerate(days)]
    for side in (a, b):
        await side.channel.emit(drafts)
    await homes.exchange(a, b)


def _dispute(amount: int, code: DisputeCode = "quantity") -> Dispute:
    return Dispute(OCTOBER, "tokens", "s1", amount, code, "two nodes were down", (), 0)


async def _file(side: Side, other: Side, amount: int) -> Spoken:
    spoken = await disputing.say(side.channel, _dispute(amount))
    await homes.exchange(side, other)
    return spoken


def _states(*sides: Side) -> list[str]:
    """Where the disputes stand; the same at every side."""
    found = [[(one.digest, one.state, one.upheld) for one in standing_all(s.channel)]
             for s in sides]  # fmt: skip
    assert all(one == found[0] for one in found)
    return [state for _, state, _ in found[0]]


def _lines(*sides: Side) -> list[Line]:
    """The balance; the same at every side, to the digest."""
    found = [side.closer.all_lines() for side in sides]
    assert len({statement_root(lines) for lines in found}) == 1
    return found[0]


def _october(lines: list[Line]) -> tuple[list[str], list[str]]:
    """What is payable of October's tokens, period by period, and what is disputed."""
    of = [line for line in lines if (line.late_for or line.period, line.meter)
          == (OCTOBER, "tokens")]  # fmt: skip
    return [line.payable for line in of], [line.disputed for line in of]


def _lapser(side: Side) -> Lapser:
    return Lapser(side.books, lambda channel: True)


def _pass(days: float, *sides: Side) -> None:
    for side in sides:
        side.now_us += round(days * DAY_US)


async def _heard(author: Side, reader: Side) -> None:
    """Something of the author's is co-signed now."""
    name = f"later{author.channel.own.state.size}"
    await author.channel.emit([Draft(name, "tokens", "s2", 1, builders.DECEMBER_US)])
    await homes.exchange(author, reader)


def _kinds(side: Side, kind: type) -> list[int]:
    own = side.channel.own
    return [index for index, record in own.matters(own.durable_size) if type(record) is kind]


async def test_a_dispute_is_answered_insisted_on_and_settled(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _record(a, b)
        assert _october(_lines(a, b)) == (["3100"], ["0"])
        filed = await _file(b, a, 500)
        assert (await disputing.say(b.channel, _dispute(500))) == Spoken(
            filed.index, filed.dispute, True
        )
        assert _states(a, b) == ["open"]
        assert _october(_lines(a, b)) == (["2600"], ["500"])
        await disputing.say(a.channel, Answer(filed.dispute, 200, "one was", (), 0))
        await homes.exchange(a, b)
        assert _states(a, b) == ["answered"]
        assert _october(_lines(a, b)) == (["2600"], ["300"])
        await disputing.say(b.channel, Answer(filed.dispute, 0, "both were", (), 0))
        await homes.exchange(a, b)
        assert _states(a, b) == ["contested"]
        await disputing.say(a.channel, Resolution(filed.dispute, 300, "then", 0))
        await disputing.say(b.channel, Resolution(filed.dispute, 400, "no", 0))
        await homes.exchange(a, b)
        assert _states(a, b) == ["contested"]
        last = await disputing.say(b.channel, Resolution(filed.dispute, 300, "fine", 0))
        again = await disputing.say(b.channel, Resolution(filed.dispute, 300, "fine!", 0))
        assert (again.index, again.again) == (last.index, True)
        await homes.exchange(a, b)
        assert _states(a, b) == ["resolved"]
        assert _october(_lines(a, b)) == (["2800"], ["0"])
        with pytest.raises(InputError, match="settled"):
            await disputing.say(a.channel, Answer(filed.dispute, 500, "all of it", (), 0))


async def test_who_may_say_what(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _record(a, b)
        filed = await _file(b, a, 500)
        with pytest.raises(InputError, match="has not answered"):
            await disputing.say(b.channel, Answer(filed.dispute, 0, "I insist", (), 0))
        with pytest.raises(InputError, match=r"is beta\.example's"):
            await disputing.say(a.channel, Withdrawal(filed.dispute, "no", 0))
        with pytest.raises(InputError, match="no such dispute"):
            await disputing.say(a.channel, Answer(bytes(32), 0, "what?", (), 0))
        await disputing.say(b.channel, Withdrawal(filed.dispute, "a mistake", 0))
        assert (await disputing.say(b.channel, Withdrawal(filed.dispute, "yes", 0))).again
        await homes.exchange(a, b)
        assert _states(a, b) == ["withdrawn"]
        assert _october(_lines(a, b)) == (["3100"], ["0"])
        assert not (await disputing.say(b.channel, _dispute(500))).again  # it may be filed anew


async def test_what_is_not_co_signed_yet_is_looked_at_again_when_it_is(tmp_path: Path) -> None:
    """Its time has not begun, so nothing but the co-signature says when to look."""
    async with homes.founded(tmp_path) as (a, b):
        await _record(a, b)
        await disputing.say(b.channel, _dispute(500))
        assert (await _lapser(b).look(b.channel, {}))[1] is True
        await homes.exchange(a, b)
        assert (await _lapser(b).look(b.channel, {}))[1] is False


async def test_a_dispute_without_an_answer_is_upheld_once(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _record(a, b)
        filed = await _file(b, a, 500)
        lapser = _lapser(b)
        seconds, waits = await lapser.look(b.channel, {})
        assert (seconds > 28 * 86_400, waits) == (True, False)
        _pass(28, a, b)
        await _heard(b, a)
        await lapser.look(b.channel, {})
        assert _kinds(b, Lapse) == _kinds(b, Reminder) == []
        _pass(1.1, a, b)
        # The channel is quiet: nothing shows that the time is over until acme co-signs again.
        await lapser.look(b.channel, {})
        assert (_kinds(b, Lapse), len(_kinds(b, Reminder))) == ([], 1)
        await lapser.look(b.channel, {})
        assert len(_kinds(b, Reminder)) == 1  # its co-signature is on the way
        await homes.exchange(a, b)
        for _ in range(3):
            b.channel.load()  # as after a crash: all that counts is on the disk
            await _lapser(b).look(b.channel, {})
        await homes.exchange(a, b)
        await _lapser(a).look(a.channel, {})
        assert (len(_kinds(b, Lapse)), _kinds(a, Lapse)) == (1, [])
        assert _states(a, b) == ["upheld"]
        assert _october(_lines(a, b)) == (["2600"], ["0"])
        made = []
        for side in (a, b):
            found = disputing.find([side.channel], filed.dispute.hex()[:6])
            made.append(certifying.of_dispute(*found))
        assert made[0] == made[1]
        checks = verify_certificate(made[0])
        assert [check.ok for check in checks] == [True] * 10
        assert "upheld for want of an answer" in checks[-1].detail
        for side in (a, b):
            home = side.home
            checks = examine_apart(home.store_path, home.path / "ids", home.name)
            assert {check.ok for check in checks} == {True}


async def test_an_answer_that_nobody_insists_against_lapses_the_dispute(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _record(a, b)
        filed = await _file(b, a, 500)
        await disputing.say(
            a.channel, Answer(filed.dispute, 200, "one", (Named("provider", 3),), 0)
        )
        await homes.exchange(a, b)
        _pass(16, a, b)
        await _heard(a, b)
        await _heard(b, a)
        await _lapser(b).look(b.channel, {})
        assert _kinds(b, Lapse) == []  # it was answered
        await _lapser(a).look(a.channel, {})
        await homes.exchange(a, b)
        assert _states(a, b) == ["lapsed"]
        assert _october(_lines(a, b)) == (["2900"], ["0"])
        data = certifying.of_dispute(*disputing.find([b.channel], filed.dispute.hex()))
        checks = verify_certificate(data)
        assert all(check.ok for check in checks)
        assert "concedes 200 of 500" in checks[4].detail
        assert "dispute lapsed; upheld is the 200" in checks[-1].detail


async def test_a_peer_whose_clock_stands_still_is_reminded_ever_more_seldom(
    tmp_path: Path,
) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _record(a, b)
        await _file(b, a, 500)
        _pass(30, b)
        for _ in range(200):
            await _lapser(b).look(b.channel, {})
            await homes.exchange(a, b)
            _pass(1 / 24, b)
        assert _kinds(b, Lapse) == []
        assert 10 < len(_kinds(b, Reminder)) < 30
        _pass(40, a)
        await _heard(b, a)
        await _lapser(b).look(b.channel, {})
        assert len(_kinds(b, Lapse)) == 1


async def test_a_checkpoint_is_deemed_accepted_and_bars_what_comes_late(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _record(a, b)
        await homes.close(a, b, OCTOBER)
        document = worklist.worklist([a.channel], settled=True)
        assert [one["waits_for"] for one in document["checkpoints"]] == [b.home.name, a.home.name]
        with pytest.raises(InputError, match=r"beta.example may dispute it until 20\d\d-"):
            certifying.of_period(a.channel, OCTOBER, theirs=False)
        _pass(15.1, a, b)
        for side, other in ((a, b), (b, a)):
            await _heard(side, other)
            await _lapser(side).look(side.channel, {})
            await _lapser(side).look(side.channel, {})
        await homes.exchange(a, b)
        assert (len(_kinds(a, Lapse)), len(_kinds(b, Lapse))) == (1, 1)
        assert worklist.worklist([a.channel], settled=True)["checkpoints"] == []
        made = [
            certifying.of_period(a.channel, OCTOBER, theirs=False),
            certifying.of_period(b.channel, OCTOBER, theirs=True),
            certifying.of_period(a.channel, OCTOBER, theirs=True),
        ]
        assert made[0] == made[1] != made[2]
        checks = verify_certificate(made[0])
        assert all(check.ok for check in checks)
        assert "beta.example is deemed to have accepted it" in checks[-1].detail
        with pytest.raises(InputError, match="was not disputed in time"):
            await disputing.say(b.channel, _dispute(500))
        # A node that files it all the same gains nothing.
        late = _dispute(500)
        await b.channel.append_own(
            Dispute(*[getattr(late, f) for f in late.__struct_fields__[:-1]], b.now_us)
        )
        await homes.exchange(a, b)
        assert _states(a, b) == ["barred"]
        assert _october(_lines(a, b)) == (["3100"], ["0"])


async def test_a_checkpoint_carries_an_open_dispute_into_the_next_period(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _record(a, b)
        filed = await _file(b, a, 500)
        await homes.close(a, b, OCTOBER)
        assert _october(_lines(a, b)) == (["2600", "0"], ["500", "500"])
        await disputing.say(a.channel, Answer(filed.dispute, 100, "a little", (), 0))
        await homes.exchange(a, b)
        assert _october(_lines(a, b)) == (["2600", "0"], ["500", "400"])
        for side in (a, b):
            await disputing.say(side.channel, Resolution(filed.dispute, 200, "agreed", 0))
        await homes.exchange(a, b)
        assert _states(a, b) == ["resolved"]
        assert _october(_lines(a, b)) == (["2600", "300"], ["500", "0"])
        await homes.close(a, b, "2026-11")
        lines = _lines(a, b)
        assert _october(lines) == (["2600", "300"], ["500", "0"])
        for side in (a, b):
            for row in side.closer.rows:
                out = io.BytesIO()
                proving.bundle(side.channel, row, out, full=True)
                out.seek(0)
                assert [c for c in verify_bundle(out) if not c.ok] == []


def _checked(channel: Channel, closer: Closer, drafted: filing.Drafted) -> filing.Drafted:
    """What was drafted, if its amount may be disputed."""
    record = Dispute(
        drafted.period, drafted.meter, drafted.subject, drafted.amount, "other", "why",
        drafted.records, 0,
    )  # fmt: skip
    filing.check_amount(channel, closer, record)
    return drafted


async def test_what_is_disputed_must_be_there(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _record(a, b)

        def of_records(names: list[str], amount: str | None) -> filing.Drafted:
            return _checked(b.channel, b.closer, filing.draft_of_records(b.channel, names, amount))

        def of_line(line: str, amount: str | None) -> filing.Drafted:
            return _checked(b.channel, b.closer, filing.draft_of_line(b.channel, line, amount))

        drafted = of_records(["tokens/t1", "tokens/t2"], None)
        assert (drafted.period, drafted.meter, drafted.subject) == (OCTOBER, "tokens", "s1")
        assert drafted.amount == 200
        assert len(drafted.records) == 4  # both logs have them
        assert of_records(["tokens/t1"], "30").amount == 30
        assert of_line(f"{OCTOBER}/tokens/s1", "3100").amount == 3100
        refused: list[tuple[Callable[[], object], str]] = [
            (lambda: of_line(f"{OCTOBER}/tokens/s1", None), "how much"),
            (lambda: of_line(f"{OCTOBER}/tokens/x", "1"), "no balance line"),
            (lambda: of_line(f"{OCTOBER}/beer/s1", "1"), "no meter"),
            (lambda: of_line("tokens", "1"), "not a balance line"),
            (lambda: of_line(f"{OCTOBER}/tokens/s1", "3101"), "only 3100"),
            (lambda: of_line(f"{OCTOBER}/tokens/s1", "0"), "of nothing"),
            (lambda: of_line(f"{OCTOBER}/tokens/s1", "1.5"), "decimal"),
            (lambda: of_records(["tokens/x"], None), "no delta"),
            (
                lambda: of_records(["tokens/t1", "tokens/t35"], None),
                "2 balance lines",
            ),
        ]  # fmt: skip
        for draft, said in refused:
            with pytest.raises(InputError, match=said):
                draft()
        await a.channel.emit([Draft("mine", "peak", "s1", 7, builders.OCTOBER_US)])
        await b.channel.emit([Draft("extra", "tokens", "s1", 7, builders.OCTOBER_US)])
        await homes.exchange(a, b)
        with pytest.raises(InputError, match="highest quantity"):
            filing.draft_of_records(a.channel, ["peak/mine"], None)
        with pytest.raises(InputError, match="log of the provider, whose number is payable"):
            filing.draft_of_records(a.channel, ["tokens/extra"], None)
        assert filing.draft_of_records(a.channel, ["tokens/extra"], "-7").amount == -7
        a.channel.live = False
        await a.channel.emit([Draft("unsigned", "tokens", "s1", 7, builders.OCTOBER_US)])
        with pytest.raises(InputError, match="the peer has not heard of it yet"):
            filing.draft_of_records(a.channel, ["tokens/unsigned"], None)


async def test_the_same_dispute_twice_is_there_already_though_nothing_is_left(
    tmp_path: Path,
) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _record(a, b)
        whole = _dispute(3100)
        filed = await _file(b, a, 3100)
        filing.check_amount(b.channel, b.closer, whole)
        assert (await disputing.say(b.channel, whole)) == Spoken(filed.index, filed.dispute, True)
        with pytest.raises(InputError, match="only 0 are payable"):
            filing.check_amount(b.channel, b.closer, _dispute(1))
        with pytest.raises(InputError, match="only 0 are payable"):
            other = msgspec.structs.replace(whole, reason="another one")
            filing.check_amount(b.channel, b.closer, other)


async def test_a_peer_that_copies_a_dispute_does_not_keep_its_filer_from_it(
    tmp_path: Path,
) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _record(a, b)
        filed = await _file(b, a, 500)
        copied = b.channel.own.record(filed.index)
        assert isinstance(copied, Dispute)
        a.now_us = copied.recorded_at  # a hostile node: the very bytes, in its own log
        await a.channel.append_own(copied)
        await homes.exchange(a, b)
        assert len({one.digest for one in standing_all(b.channel)}) == 1
        assert len(standing_all(b.channel)) == 2
        _, one = disputing.find([b.channel], filed.dispute.hex()[:8])
        assert (one.role, one.index) == ("consumer", filed.index)
        await disputing.say(b.channel, Withdrawal(filed.dispute, "a mistake", 0))
        _, one = disputing.find([b.channel], filed.dispute.hex()[:8])
        assert one.state == "withdrawn"


async def test_a_peer_whose_clock_stands_still_for_years_is_reminded_still(
    tmp_path: Path,
) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _record(a, b)
        filed = await _file(b, a, 500)
        for _ in range(1100):
            await b.channel.append_own(Reminder(filed.index, b.channel.now_recorded_at()))
            if _ % 100 == 0:
                await homes.exchange(a, b)
        b.now_us += 30 * DAY_US
        await homes.exchange(a, b)
        before = len(_kinds(b, Reminder))
        await _lapser(b).look(b.channel, {})
        assert len(_kinds(b, Reminder)) == before + 1


async def test_what_was_said_before_the_peer_spoke_is_recorded_again(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _record(a, b)
        b.channel.live = False
        filed = await disputing.say(b.channel, _dispute(500))
        await disputing.say(b.channel, Withdrawal(filed.dispute, "a mistake", 0))
        await disputing.say(b.channel, _dispute(700))
        await recovery.set_aside(b.channel)
        assert standing_all(b.channel) == []
        assert b.channel.own.index_of(filed.dispute) is None
        b.now_us += 5_000_000
        await recovery.record_aside(b.channel)
        b.channel.live = True
        b.channel.resume()
        await homes.exchange(a, b)
        assert sorted(_states(a, b)) == ["open", "withdrawn"]
        assert filed.dispute not in [one.digest for one in standing_all(b.channel)]


async def test_a_full_disk_delays_a_lapse_and_doubles_nothing(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _record(a, b)
        await _file(b, a, 500)
        _pass(30, a, b)
        await _heard(b, a)
        b.books.store.on_failure.append(b.channel.load)
        with disks.full(), pytest.raises(StoreError):
            await _lapser(b).look(b.channel, {})
        assert _kinds(b, Lapse) == []
        b.channel.live = True
        await _lapser(b).look(b.channel, {})
        await _lapser(b).look(b.channel, {})
        assert len(_kinds(b, Lapse)) == 1


async def test_the_task_itself_writes_what_lapsed(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _record(a, b)
        homes.attend(b, _lapser(b))
        await _file(b, a, 500)
        _pass(30, a, b)
        await _file(b, a, 1)  # the task looks again, and the second one's co-signature shows it
        with trio.fail_after(60):
            while not _kinds(b, Lapse):
                await trio.sleep(0.02)


async def test_a_store_of_an_older_version_finds_its_closes(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _record(a, b)
        await homes.close(a, b, OCTOBER)
        found = a.channel.own.closes()
        assert len(found) == 1
    with lmdb.open(str(a.home.store_path), max_dbs=32) as env:
        for name in (b"closes", b"matters", b"named", b"ended"):
            table = env.open_db(name)
            with env.begin(write=True) as txn:
                txn.drop(table)
    for read_only in (True, True, False, True):
        books = Books.open(a.home, read_only=read_only)
        ((channel, _),) = books.channels.values()
        assert channel.own.closes() == found
        assert len(channel.peer.closes()) == 1
        assert channel.own.matter(found[0][0]) == found[0][1]
        books.close()
