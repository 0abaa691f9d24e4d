"""A peer that cheats in a session at a real socket: the session stops, all else goes on."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import trio
from attacker import Line, World, call
from reconciling import BY_ID, row_set

from tallystick.node.books import Books
from tallystick.node.home import open_home
from tallystick.node.reconciling.preparing import Request, prepare
from tallystick.protocol.messages import (
    AskReconcile,
    InReconciliation,
    OpenRows,
    ReconcileDone,
    ReconcileStop,
    RevealNonce,
    SketchCells,
    SliceSums,
    WantCells,
)
from tallystick.protocol.opening import Scope
from tallystick.protocol.reconcile import CHANCE_SIZE, Asker
from tallystick.protocol.rowset import Row

HOUR_US = 3_600_000_000
START_US = 1_790_000_000_000_000 // HOUR_US * HOUR_US
MAP = """\
time = { column = "time", unit = "us" }
id = { column = "id" }
subject = { value = "s" }
[[meter]]
meter = "used"
quantity = { column = "quantity" }
"""
ROWS = 400


def _rows(first: int, stop: int) -> list[Row]:
    return [Row("used", f"e{n}", "s", n, START_US + n * 1_000_000, 0) for n in range(first, stop)]


def _period() -> str:
    return time.strftime("%Y-%m-%dT%H", time.gmtime(START_US // 1_000_000))


async def _offer(world: World, folder: Path) -> None:
    """Acme consents to reconcile 400 rows with the attacker, of which 50 may be shown."""
    file, mapping = folder / "rows.csv", folder / "map.toml"
    mapping.write_text(MAP)
    lines = [f"{row.occurred_at},{row.id},{row.quantity}\n" for row in _rows(0, ROWS)]
    file.write_text("time,id,quantity\n" + "".join(lines))
    expires_at_s = int(time.time()) + 600
    request = Request(str(file), str(mapping), _period(), 50, expires_at_s=expires_at_s)
    books = Books.open(open_home(world.acme.home), read_only=True)
    try:
        channel, _ = books.channels[world.shared.channel]
        made = prepare(world.acme.home, channel, request)
    finally:
        books.close()
    await call(world.acme, "reconcile_offer", name=made.name)


def _asker(world: World, session: int, first: int = 5, stop: int = ROWS + 3) -> Asker:
    """An honest side with other rows, to be made dishonest."""
    scope = Scope(
        world.shared.channel,
        session.to_bytes(16, "big"),
        _period(),
        START_US,
        START_US + HOUR_US,
        (START_US - HOUR_US, START_US + 2 * HOUR_US),
        frozenset({"used"}),
    )
    return Asker(scope, row_set(_rows(first, stop), BY_ID), 50, bytes([session]) * CHANCE_SIZE)


async def _converse(line: Line, asker: Asker, change: Any) -> ReconcileStop | None:
    """Speak the asker's side, changed, until acme stops the session or it is done."""
    said = 0
    await line.say(change(asker.start()))
    while True:
        stop = [m for m in line.heard if isinstance(m, ReconcileStop)]
        if stop:
            return stop[-1]
        heard = [m for m in line.heard if isinstance(m, InReconciliation)]
        if said == len(heard):
            await line.next_after(len(line.heard))
            continue
        for answer in asker.receive(heard[said]):
            await line.say(change(answer))
        said += 1
        if asker.found is not None:
            return None


def _flip(kind: type, name: str) -> Any:
    def change(message: Any) -> Any:
        if not isinstance(message, kind):
            return message
        data = bytearray(getattr(message, name))
        data[-1] ^= 1
        return msgspec.structs.replace(message, **{name: bytes(data)})

    return change


def _noise(message: Any) -> Any:
    """Cells from which nothing can ever be read."""
    if not isinstance(message, SketchCells):
        return message
    random = np.random.default_rng(message.first)
    return msgspec.structs.replace(message, cells=random.bytes(len(message.cells)))


def _lying_row(message: Any) -> Any:
    if not isinstance(message, OpenRows) or not message.rows:
        return message
    return msgspec.structs.replace(message, rows=[message.rows[-1], *message.rows[1:]])


CHEATS = {
    "a nonce that it did not commit to": (_flip(RevealNonce, "nonce"), "bad-nonce"),
    "sums of another set": (_flip(RevealNonce, "sums"), "broken-sketch"),
    "a sketch that never decodes": (_noise, "too-many"),
    "another row than it brought": (_lying_row, "bad-row"),
    "a digest of other rows": (_flip(ReconcileDone, "opened"), "differs"),
}


@pytest.mark.parametrize("name", CHEATS)
async def test_a_cheat_in_a_session_stops_that_session(
    world: World, tmp_path: Path, name: str
) -> None:
    change, code = CHEATS[name]
    await _offer(world, tmp_path)
    async with world.attacker.line(world.shared) as line:
        stop = await _converse(line, _asker(world, 1), change)
        assert stop is not None and stop.code == code
        # The link and the channel do not notice: an honest session on it comes to its end.
        await _offer(world, tmp_path)
        for session in itertools.count(2):
            line.heard.clear()
            asker = _asker(world, session)
            stop = await _converse(line, asker, lambda message: message)
            if stop is None or stop.code != "busy":  # with putting the other one away
                break
            await trio.sleep(0.1)
        assert stop is None
        assert asker.found and len(asker.found.received) == 5
        await world.goes_on_elsewhere()
    assert world.status(world.shared.channel)["state"] != "halted"


async def test_who_has_no_consent_learns_nothing(world: World) -> None:
    async with world.attacker.line(world.shared) as line:
        answers = set()
        asked = [_asker(world, n).start() for n in range(20)]
        other = msgspec.structs.replace(asked[0], period="2030-01-01T00", session=bytes(16))
        nonsense = msgspec.structs.replace(asked[0], period="../../../x", session=bytes([9] * 16))
        for ask in (*asked, other, nonsense):
            assert isinstance(ask, AskReconcile)
            line.heard.clear()
            await line.say(ask)
            stop = await line.until(ReconcileStop)
            answers.add((stop.code, stop.reason.replace(ask.period, "PERIOD")))
        assert [code for code, _ in answers] == ["no-consent"]
        await world.goes_on_elsewhere()


async def test_a_flood_in_a_session_and_silence_stop_nothing_else(
    world: World, tmp_path: Path
) -> None:
    await _offer(world, tmp_path)
    async with world.attacker.line(world.shared) as line:
        asker = _asker(world, 3)
        await line.say(asker.start())
        sums = SliceSums(world.shared.channel, asker.scope.session, bytes(16))
        await line.say(*[sums] * 500)
        stop = await line.until(ReconcileStop)
        assert stop.code in ("flood", "out-of-order")
        # A session that never was, and one that nobody goes on with.
        await line.say(WantCells(world.shared.channel, bytes(16), 0, 4096))
        await line.say(_asker(world, 4).start())
        await world.goes_on_elsewhere()
    # The line is gone, so the session is: another one may begin.
    async with world.attacker.line(world.shared) as line:
        asker = _asker(world, 5)
        assert await _converse(line, asker, lambda message: message) is None
        await world.goes_on_elsewhere()
