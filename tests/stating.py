"""Statements of channels in memory, of homes on disk, and with real disputes in them, for tests."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import builders
import homes
import pypdf
import trio

from tallystick.node import disputing
from tallystick.node.home import Home
from tallystick.node.importing.drafts import Draft
from tallystick.node.statement.making import Made, from_bundle
from tallystick.node.statement.model import Claim
from tallystick.node.upkeep import flush
from tallystick.protocol.bundle import open_bundle
from tallystick.protocol.records import Answer, Dispute, Resolution

# Subjects as nobody should write them; each is at most 128 bytes.
UGLY = (
    "<script>alert(1)</script>", '#panic("x") *b* _i_ $x$ @a // c', "شركة الاختبار",
    "עברית 123 abc", "项目七-日本", "👩‍👩‍👧 😀", "rtl \u202e evil", "x" * 128,
    "/a/path/" + "part-" * 23,
    "a  b", "trail ", "nul\\u{41}", "e\u0301", "Ünïcödé", '"q" & <b>', "zero\u200bwidth", "a\\b",
    "#", "]", "{{ 7 * 7 }}", "\u0300", "שלוםقاف", "\u2028",
)  # fmt: skip

CLAIM = Claim(
    "ab" * 32, "beta.example", "acme.example", "2026-09", "tokens", "project-7", "token", "120",
    "0", "120", "quantity", "we <were> down", "open", "acme.example", "2026-12-01 12:30 CET",
    "upheld",
)  # fmt: skip


def made_of(
    channel: builders.Channel,
    closed: builders.Closed,
    claims: Sequence[Claim] = (),
    *,
    full: bool = False,
) -> Made:
    """The statement of a closed period."""
    data = channel.bundle(closed, full=full)
    return from_bundle(open_bundle(io.BytesIO(data)), data, list(claims))


def ugly() -> Made:
    """A statement whose subjects are ugly."""
    channel = builders.Channel()
    for place, subject in enumerate(UGLY):
        for log in channel.logs:
            log.delta(f"u{place}", "tokens", 10 ** (place % 19), subject=subject)
    return made_of(channel, channel.close())


def pdf_text(data: bytes) -> str:
    """The text of a PDF's pages."""
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(data)).pages)


def _dispute(subject: str, amount: int, reason: str) -> Dispute:
    return Dispute("2026-10", "tokens", subject, amount, "quantity", reason, (), 0)


async def _disputed(folder: Path) -> tuple[Home, Home]:
    async with homes.founded(folder) as (a, b):
        drafts = [
            Draft(f"t{n}", "tokens", f"s{n % 4}", 100, builders.OCTOBER_US + n) for n in range(8)
        ]
        for side in (a, b):
            await side.channel.emit(drafts)
        await homes.exchange(a, b)
        open_, answered, settled = [
            (await disputing.say(b.channel, _dispute(subject, amount, reason))).dispute
            for subject, amount, reason in (
                ("s0", 50, "two <nodes> were down"), ("s1", 20, "ours"), ("s2", 30, "twice"),
            )
        ]  # fmt: skip
        await homes.exchange(a, b)
        await disputing.say(a.channel, Answer(answered, 5, "one was", (), 0))
        for side in (a, b):
            await disputing.say(side.channel, Resolution(settled, 30, "agreed", 0))
        await homes.exchange(a, b)
        await homes.close(a, b, "2026-10")
        # After the closing: none of this is in October's statement.
        await disputing.say(b.channel, _dispute("s3", 10, "found later"))
        await disputing.say(a.channel, Answer(open_, 50, "true", (), 0))
        await a.channel.emit([Draft("late", "tokens", "s0", 9, builders.OCTOBER_US + 99)])
        await homes.exchange(a, b)
        await homes.close(a, b, "2026-11")
        for side in (a, b):
            await flush([side.channel.own, side.channel.peer])
    return a.home, b.home


def disputed_homes(folder: Path) -> tuple[Home, Home]:
    """The homes of both: October closed with disputes, November after more of them, and late
    usage.
    """
    return trio.run(_disputed, folder)
