"""Consent: offers that stand, rules that prepare a file when the peer asks, what they refuse."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.config import ReconcileRule
from tallystick.node.errors import StoreError
from tallystick.node.home import Home
from tallystick.node.reconciling.consent import DAY_SECONDS, LEFT_SECONDS, TRIES_MAX, Consents
from tallystick.node.reconciling.preparing import Request, prepare
from tallystick.node.reconciling.sets import PreparedSet
from tallystick.protocol.errors import InputError, PeriodError, SessionStopped
from tallystick.protocol.messages import AskReconcile

MAP = """\
time = { column = "time" }
id = { column = "id" }
subject = { value = "s" }
[[meter]]
meter = "tokens"
quantity = { column = "quantity" }
"""
NOW_S = 1_800_000_000


class World:
    """A home with a channel, a file of five rows of October, and consents at a time of its own."""

    def __init__(self, home: Home, books: Books, folder: Path, *rules: ReconcileRule) -> None:
        self.home = home
        self.channel: Channel = next(iter(books.channels.values()))[0]
        self.now_s = NOW_S
        self.file, self.mapping = folder / "usage-2026-10.csv", folder / "map.toml"
        lines = [f"2026-10-1{n},e{n},{n}\n" for n in range(5)]
        self.file.write_text("time,id,quantity\n" + "".join(lines))
        self.mapping.write_text(MAP)
        self.consents = Consents(home.path, rules, lambda: self.now_s)

    def offer(self, period: str = "2026-10") -> PreparedSet:
        request = Request(
            str(self.file), str(self.mapping), period, 10, expires_at_s=self.now_s + 100
        )
        made = prepare(self.home.path, self.channel, request)
        self.consents.add(made)
        return made

    def ask(self, period: str = "2026-10", **fields: object) -> AskReconcile:
        digest = bytes(32)
        meters = ("tokens",)
        ask = AskReconcile(
            self.channel.id, bytes(16), period, meters, "id", 1, 5, 5, digest, digest
        )
        return msgspec.structs.replace(ask, **fields)


@pytest.fixture
def books(busy: tuple[Home, Home]) -> Iterator[Books]:
    books = Books.open(busy[0], read_only=True)
    yield books
    books.close()


@pytest.fixture
def home(busy: tuple[Home, Home], tmp_path: Path) -> Home:
    """A place of its own for prepared sets; the store stays where it is."""
    return Home(tmp_path, busy[0].name)


@pytest.fixture
def whole(busy: tuple[Home, Home], tmp_path: Path) -> Home:
    """A copy of acme's home, store and all, for the process that prepares."""
    return Home(Path(shutil.copytree(busy[0].path, tmp_path / "home")), busy[0].name)


async def test_an_offer_stands_until_it_is_used(home: Home, books: Books, tmp_path: Path) -> None:
    world = World(home, books, tmp_path)
    offer = world.offer()
    found = await world.consents.find(world.channel, world.ask())
    assert found is offer and found.about.rows == 5
    for _ in range(TRIES_MAX - 1):
        await world.consents.used(offer, opened=False)
        assert world.consents.offers() == [offer]
    await world.consents.used(offer, opened=False)
    assert world.consents.offers() == [] and not offer.path.exists()
    again = world.offer()
    await world.consents.used(again, opened=True)
    assert world.consents.offers() == [] and not again.path.exists()


async def test_an_offer_that_is_too_old_is_none(home: Home, books: Books, tmp_path: Path) -> None:
    world = World(home, books, tmp_path)
    offer = world.offer()
    world.now_s += 100
    with pytest.raises(SessionStopped, match="no consent"):
        await world.consents.find(world.channel, world.ask())
    assert not offer.path.exists()


async def test_a_new_offer_replaces_the_one_before(
    home: Home, books: Books, tmp_path: Path
) -> None:
    world = World(home, books, tmp_path)
    first, other, second = world.offer(), world.offer("2026-11"), world.offer()
    assert world.consents.offers() == [other, second]
    assert not first.path.exists()
    with pytest.raises(InputError):
        world.consents.withdraw("")
    assert world.consents.withdraw(second.name[:6]) is second


async def test_offers_outlive_the_node_and_leftovers_do_not(
    home: Home, books: Books, tmp_path: Path
) -> None:
    world = World(home, books, tmp_path)
    offer, left = world.offer(), world.offer("2026-11")
    (left.path / "about.json").unlink()
    started = Consents(home.path, (), lambda: world.now_s)
    old = world.now_s - LEFT_SECONDS - 1
    os.utime(left.path, (old, old))
    started.load()
    assert [found.name for found in started.offers()] == [offer.name]
    assert not left.path.exists()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"by": "content", "resolution_us": 10**6}, "by id here and by content, to 1 s there"),
        ({"meters": ("calls", "tokens")}, "tokens here and calls, tokens there"),
    ],
)
async def test_what_is_not_alike_is_refused(
    home: Home, books: Books, tmp_path: Path, fields: dict[str, object], said: str
) -> None:
    world = World(home, books, tmp_path)
    world.offer()
    with pytest.raises(SessionStopped, match=said):
        await world.consents.find(world.channel, world.ask(**fields))


def _rule(tmp_path: Path, **fields: object) -> ReconcileRule:
    rule = ReconcileRule(
        "beta.example", str(tmp_path / "usage-{period}.csv"), str(tmp_path / "map.toml"), "2026-*"
    )
    return msgspec.structs.replace(rule, **fields)


async def test_a_rule_prepares_the_file_of_the_period(
    whole: Home, books: Books, tmp_path: Path
) -> None:
    world = World(whole, books, tmp_path, _rule(tmp_path, sessions_per_day=2))
    for _ in range(2):
        found = await world.consents.find(world.channel, world.ask())
        assert (found.about.rows, found.about.opens_max) == (5, 10_000)
        await world.consents.used(found, opened=False)
        assert not found.path.exists()
    with pytest.raises(SessionStopped, match="no more are consented to"):
        await world.consents.find(world.channel, world.ask())
    world.now_s += DAY_SECONDS + 1
    await world.consents.used(await world.consents.find(world.channel, world.ask()), opened=True)


async def test_a_rule_is_for_its_peer_and_its_periods(
    home: Home, books: Books, tmp_path: Path
) -> None:
    rules = (_rule(tmp_path, peer="gamma.example"), _rule(tmp_path, period="2025-*"))
    world = World(home, books, tmp_path, *rules)
    with pytest.raises(SessionStopped, match="no consent"):
        await world.consents.find(world.channel, world.ask())


async def test_a_rule_never_reads_another_file(whole: Home, books: Books, tmp_path: Path) -> None:
    world = World(whole, books, tmp_path, _rule(tmp_path, period="*"))
    with pytest.raises(PeriodError):
        await world.consents.find(world.channel, world.ask("../usage-2026-10"))
    with pytest.raises(StoreError, match=r"cannot be prepared.*2026-12"):
        await world.consents.find(world.channel, world.ask("2026-12"))
