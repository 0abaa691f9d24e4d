"""A world as files, as a person would export them: both sides' rows, their mappings, the truth.

Times are in UTC and written so; a row that has no amount of a meter shows 0. The terms that both
sides would have agreed on are there too, so that the world can be played through two real nodes.
"""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tallystick.protocol.quantities import format_quantity
from worlds.world import World

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def write_world(world: World, folder: Path) -> list[Path]:
    """Write all files of a world into a folder; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "ours.csv": side_csv(world, "ours"),
        "ours.toml": mapping_toml(world, "ours"),
        "theirs.csv": side_csv(world, "theirs"),
        "theirs.toml": mapping_toml(world, "theirs"),
        "terms.toml": terms_toml(world),
        "truth.json": json.dumps(world.document(), indent=1) + "\n",
    }
    paths = []
    for name, text in texts.items():
        paths.append(folder / name)
        paths[-1].write_text(text, encoding="utf-8", newline="")
    return paths


def _has_ids(world: World, side: str) -> bool:
    rows = world.ours if side == "ours" else world.theirs
    return all(row.id is not None for row in rows)


def side_csv(world: World, side: str) -> str:
    """A side's rows, in order of time."""
    rows = world.ours if side == "ours" else world.theirs
    ids, ours = _has_ids(world, side), side == "ours"
    names = [meter.name for meter in world.plan.meters]
    columns = ["time", *(["request_id"] if ids else []), "subject", *names]
    columns += ["outcome"] if ours and world.outcomes else []
    columns += ["session"] if ours and world.sessions else []
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        at = (_EPOCH + timedelta(microseconds=row.at)).replace(tzinfo=None)
        line = [at.isoformat(" ", "microseconds"), *([row.id] if ids else []), row.subject]
        line += [
            format_quantity(row.amounts.get(meter.name, 0), meter.scale)
            for meter in world.plan.meters
        ]
        line += [row.outcome] if ours and world.outcomes else []
        line += [row.session] if ours and world.sessions else []
        writer.writerow(line)
    return out.getvalue()


def mapping_toml(world: World, side: str) -> str:
    """How a side's file is read."""
    lines = ['time = { column = "time", zone = "UTC" }']
    lines += ['id = { column = "request_id" }'] if _has_ids(world, side) else []
    lines += ['subject = { column = "subject" }']
    if side == "ours":
        lines += ['outcome = { column = "outcome" }'] if world.outcomes else []
        lines += ['session = { column = "session" }'] if world.sessions else []
    for meter in world.plan.meters:
        lines += ["[[meter]]", f'meter = "{meter.name}"']
        lines += [f'quantity = {{ column = "{meter.name}" }}']
    return "\n".join(lines) + "\n"


def terms_toml(world: World) -> str:
    """The terms: we are the consumer, and the provider records."""
    lines = ['provider = "acme.example"', 'consumer = "beta.example"', "[period]"]
    lines += [f'calendar = "{world.setting.calendar}"', f'time_zone = "{world.setting.time_zone}"']
    for meter in world.plan.meters:
        lines += [f"[meters.{meter.name}]", f'unit = "{meter.unit}"', f"scale = {meter.scale}"]
        lines += [f'aggregate = "{meter.aggregate}"', 'source = "provider"']
        lines += [f'match = {{ window = "{meter.match_window_us // 1_000_000}s" }}']
        if meter.tolerance:
            lines += ['tolerance = { relative = "0.1%", least = 100 }']
    return "\n".join(lines) + "\n"
