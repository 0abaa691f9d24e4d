"""Two parties' homes whose provider's log is long enough to be sealed, and what they say."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import builders
import homes
import trio

from tallystick.node import queries
from tallystick.node.books import Books
from tallystick.node.corrected import corrected
from tallystick.node.home import Home
from tallystick.node.importing.drafts import Draft
from tallystick.node.proving import bundle, prove_record
from tallystick.node.segments.keeper import seal_stopped
from tallystick.node.upkeep import flush
from tallystick.protocol.statement import encode_line

METERS = ("tokens", "calls", "peak")
MONTHS = (builders.OCTOBER_US, builders.NOVEMBER_US, builders.DECEMBER_US)
LABELS = ("2026-10", "2026-11", "2026-12")
DELTAS = (70_001, 69_000, 900)  # of each month: two segments end in November
SIZES = (4096, 1, 2999, 17, 8000)  # of batches, over and over: some begin before a segment's end
AT_RANDOM = (0, 1, 4095, 4096, 4097, 8191, 8192, 65_535, 65_536, 70_003, 131_071, 131_072, 139_000)


def draft(month: int, number: int) -> Draft:
    """A delta of the provider's."""
    meter = METERS[number % 3]
    return Draft(f"m{month}-{number}", meter, f"s{number % 5}", number, MONTHS[month] + number)


async def _make(folder: Path) -> tuple[Home, Home]:
    async with homes.founded(folder) as (a, b):
        for month, count in enumerate(DELTAS):
            start = step = 0
            while start < count:
                stop = min(start + SIZES[step % len(SIZES)], count)
                await a.channel.emit([draft(month, n) for n in range(start, stop)])
                start, step = stop, step + 1
            await b.channel.emit([Draft(f"b{month}", "tokens", "s1", 9, MONTHS[month])])
            if month:
                for number, quantity in ((3, 70), (4, None), (5, None), (6, None)):
                    name = f"m{month - 1}-{number}"
                    await a.correct(name, METERS[number % 3], quantity)
            await homes.close(a, b, LABELS[month])
        for side in (a, b):
            await flush([side.channel.own, side.channel.peer])
        await a.channel.emit([draft(2, n) for n in range(DELTAS[2], DELTAS[2] + 40)])
        await homes.exchange(a, b)
    return a.home, b.home


def long_homes(folder: Path) -> tuple[Home, Home]:
    """The provider's and the consumer's home: three closed months, two segments, a tail."""
    return trio.run(_make, folder)


def copied(home: Home, folder: Path, archive: str, keep: int = 1) -> Home:
    """A copy of a home, whose archive is elsewhere."""
    target = folder / home.path.name
    shutil.copytree(home.path, target, ignore=shutil.ignore_patterns("lock*"))
    (target / "config.toml").write_text(
        f'[archive]\nlocation = "{archive}"\nkeep_periods = {keep}\n'
    )
    return Home(target, home.name)


def seal(home: Home, *, drop: bool) -> dict[str, Any]:
    """Seal the channel of a home whose node does not run."""
    with opened(home, read_only=False) as books:
        [document] = seal_stopped(books, list(books.channels), drop=drop)
    return document


@contextmanager
def opened(home: Home, *, read_only: bool = True) -> Iterator[Books]:
    """The books of a home."""
    books = Books.open(home, read_only=read_only)
    try:
        yield books
    finally:
        books.close()


def answers(home: Home) -> dict[str, Any]:
    """All that can be asked of a home's records, old and new."""
    with opened(home) as books:
        [(channel, closer)] = books.channels.values()
        found: dict[str, Any] = {}
        found["lines"] = [encode_line(line) for line in closer.all_lines()]
        for log in (channel.own, channel.peer):
            who = log.party.name
            found[who, "corrected"] = corrected(log)
            found[who, "tallies"] = log.tallies_at(log.durable_size // 3)
            records = [r for _, part in log.records(0, log.durable_size) for r in part]
            found[who, "records"] = records
            found[who, "some"] = [
                list(queries.log_records(channel, log, index, 3)) for index in AT_RANDOM
            ]
            found[who, "roots"] = [log.root_at(min(i, log.durable_size)) for i in AT_RANDOM]
            sizes = range(0, log.cosigned_size, 4999)
            found[who, "proofs"] = [prove_record(channel, log, index) for index in sizes]
        for name in ("m0-3", "m0-65000", "m1-50000", "m2-1", "b0"):
            found[name] = queries.show(channel, name)
        for row in closer.rows:
            out = io.BytesIO()
            bundle(channel, row, out, full=True)
            found[row.period] = out.getvalue()
    return found
