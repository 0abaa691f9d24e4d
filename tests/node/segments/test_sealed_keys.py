"""Keys that changed behind the last whole segment: the archive alone knows them all the same."""

from __future__ import annotations

from pathlib import Path

import builders
import homes
import sealed
from auditing import failing

from tallystick.node.auditing.checks import run_audit
from tallystick.node.auditing.pools import InProcess
from tallystick.node.auditing.sources import of_archive
from tallystick.node.importing.drafts import Draft
from tallystick.node.rotating import Rotator
from tallystick.node.segments import SEGMENT
from tallystick.node.segments.archive import Archive
from tallystick.protocol.bundle import decode_keys


async def test_rotations_among_a_checkpoints_last_records_are_archived(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        for first in range(0, SEGMENT, 8192):
            at = builders.OCTOBER_US
            drafts = [Draft(f"e{n}", "tokens", "s", 1, at) for n in range(first, first + 8192)]
            await a.channel.emit(drafts)
        rotated = await Rotator(a.books).rotate_one(a.channel, "log", builders.DAY_US)
        await homes.exchange(a, b)
        await Rotator(b.books).follow(b.channel)  # it repeats it in its own log
        await homes.close(a, b, "2026-10")
    home = sealed.copied(a.home, tmp_path / "copy", f"{tmp_path}/archive")
    assert sealed.seal(home, drop=False)["faults"] == []
    archive = Archive(f"{tmp_path}/archive")
    [kept] = archive.checkpoints(a.channel.id)
    provider, consumer = decode_keys(kept.keys)
    assert [index for index, _ in provider] == [SEGMENT + 1], "behind the terms and the deltas"
    assert rotated.key in provider[0][1]
    assert [index for index, _ in consumer] == [1], "which is in no segment at all"
    opened = of_archive(archive, a.channel.id)
    checks = list(run_audit(lambda: opened, lambda _: InProcess(), lambda *_: None))
    assert failing(checks) == {}
