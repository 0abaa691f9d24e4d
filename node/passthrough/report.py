"""The passthrough for people, in a few lines of 80 columns, and for programs as one document."""

from __future__ import annotations

from typing import Any

from tallystick.node.comparing.columns import COLUMNS, cropped, folded, left
from tallystick.node.comparing.words import counted, grouped, signed
from tallystick.node.passthrough.checking import Passthrough
from tallystick.node.passthrough.gathering import Gathered
from tallystick.protocol.checkpoint import format_instant
from tallystick.protocol.messages import plain
from tallystick.protocol.passthrough import (
    OPEN_CLASSES,
    Class,
    Group,
    Parts,
    ResoldMeter,
    sum_classes,
)
from tallystick.protocol.quantities import format_quantity

FULL_GROUPS = 12  # of a meter that are shown in full; those that differ come first
AGREEING_GROUPS = 6  # at most so many of them if nothing is the matter with them
NAMES_SHOWN = 3  # of channels in a sentence
_AMOUNT = 14  # least width of a number

_Row = tuple[str, str, str, str]

_WORDS: dict[Class, str] = {
    "late": "late in another period",
    "corrected": "corrected after close",
    "disputed": "disputed",
    "rounding": "rounding of scale",
    "own-use": "own use, by the mapping",
    "not-resold": "NOT RESOLD",
    "sold-without-purchase": "SOLD WITHOUT PURCHASE",
    "not-passed-on": "CORRECTION NOT PASSED ON",
    "unmapped": "UNMAPPED SUBJECT",
    "unexplained": "UNEXPLAINED",
}


def render_passthrough(found: Passthrough) -> str:
    """The report's text."""
    blocks = [folded(_headline(found)), _notes(found)]
    for meter in _meters(found):
        blocks.append(_meter(found, meter))
    left_out = [f"{plain(name)}: {why}" for name, why in found.left_out.items()]
    if left_out:
        blocks.append(folded(f"Not compared: {'; '.join(left_out)}.", 0, 2))
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _meters(found: Passthrough) -> list[ResoldMeter]:
    return list(dict.fromkeys(group.meter for group in found.groups))


def _headline(found: Passthrough) -> str:
    seller = plain(found.upstream.peer)
    buyers = counted(len(found.downstream), "channel")
    begin = f"{found.label}, bought from {seller} and sold in {buyers}:"
    if not found.groups:
        return f"{begin} nothing was bought or sold."
    open_ = [group for group in found.groups if not group.settled]
    differing = [group for group in found.groups if group.difference]
    if open_:
        return (
            f"{begin} {counted(len(open_), 'subject')} of {len(found.groups):,} to look into,"
            " in capitals below."
        )
    if differing:
        return f"{begin} what was bought is what was sold; every difference is explained."
    return f"{begin} what was bought is what was sold, to the last digit."


def _notes(found: Passthrough) -> list[str]:
    """What is open yet, and whose clock is another one."""
    lines = []
    open_ = [one for one in (found.upstream, *found.downstream) if one.open]
    if open_:
        names = _listed([_open_words(one) for one in open_])
        lines += folded(f"Not closed yet, so that these numbers may change: {names}.", 0, 2)
    zones = [one for one in found.downstream if _bounds(one) != _bounds(found.upstream)]
    if zones:
        names = _listed([f"{plain(one.peer)} ({one.channel.terms.time_zone})" for one in zones])
        lines += folded(
            f"{found.label} begins or ends at another instant than upstream"
            f" ({found.upstream.channel.terms.time_zone}), which can make a difference: {names}.",
            0,
            2,
        )
    return lines


def _listed(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _open_words(one: Gathered) -> str:
    periods = len(one.span.periods)
    some = f" ({len(one.open):,} of {periods:,} periods)" if periods > 1 else ""
    return f"{plain(one.peer)}{some}"


def _bounds(one: Gathered) -> tuple[int, int]:
    return one.span.start_us, one.span.end_us


def _meter(found: Passthrough, meter: ResoldMeter) -> list[str]:
    """A meter's groups as a table: each with its classes under it, then all of them together."""
    groups = [group for group in found.groups if group.meter == meter]
    ranked = sorted(groups, key=lambda group: (group.settled, not group.difference))
    shown = [g for g in ranked if g.difference or not g.settled][:FULL_GROUPS]
    room = max(AGREEING_GROUPS - len(shown), 0)
    shown += [g for g in ranked if not g.difference and g.settled][:room]
    rows: list[_Row] = []
    for group in shown:
        rows.append((_title(found, group), *_numbers(meter, group.bought, group.sold)))
        rows += _class_rows(meter, group.classes)
    names = {group.name for group in shown}
    rest = [group for group in groups if group.name not in names]
    if rest:
        bought, sold = sum(g.bought for g in rest), sum(g.sold for g in rest)
        bad = sum(not group.settled for group in rest)
        said = f", {bad:,} to look into" if bad else ""
        title = f"{counted(len(rest), 'other subject')}{said}"
        rows.append((title, *_numbers(meter, bought, sold)))
    if len(groups) > 1:
        bought, sold = sum(g.bought for g in groups), sum(g.sold for g in groups)
        rows.append(("all", *_numbers(meter, bought, sold)))
        rows += _class_rows(meter, sum_classes(groups))
    both = [name for name in (meter.upstream, meter.downstream) if name]
    title = f"{' as '.join(dict.fromkeys(both))} ({meter.unit})"
    return _table((plain(title), "bought", "sold", "difference"), rows)


def _numbers(meter: ResoldMeter, bought: int, sold: int) -> tuple[str, str, str]:
    scale = meter.scale
    return grouped(bought, scale), grouped(sold, scale), signed(sold - bought, scale)


def _class_rows(meter: ResoldMeter, classes: dict[Class, int]) -> list[_Row]:
    return [(f"  {_WORDS[name]}", "", "", signed(q, meter.scale)) for name, q in classes.items()]


def _table(head: _Row, rows: list[_Row]) -> list[str]:
    widths = [max(_AMOUNT, *(len(row[n]) + 2 for row in rows)) for n in (1, 2, 3)]
    room = max(COLUMNS - sum(widths), 16)
    lines = [left(head[0], room)]
    lines += [f"  {left(row[0], room - 2)}" for row in rows]
    numbers = [head[1:], *(row[1:] for row in rows)]
    return [
        (
            line + "".join(f"{text:>{width}}" for text, width in zip(row, widths, strict=True))
        ).rstrip()
        for line, row in zip(lines, numbers, strict=True)
    ]


def _title(found: Passthrough, group: Group) -> str:
    """A group in a few words: its subject, or what is sold as what."""
    if group.name.place < 0:
        return plain(group.name.subject)
    bought = sorted({subject for _, subject in group.upstream})
    sold = [f"{found.peer_of(channel)}/{subject}" for channel, subject in sorted(group.downstream)]
    sides = [_listed([cropped(plain(name), 30) for name in names]) for names in (bought, sold)]
    return " as ".join(side or "nothing" for side in sides)


def document_of(found: Passthrough) -> dict[str, Any]:
    """The passthrough as JSON has it; quantities are decimal strings."""
    return {
        "period": found.label,
        "ok": found.ok,
        "upstream": _channel_document(found.upstream),
        "downstream": [_channel_document(one) for one in found.downstream],
        "meters": [_meter_document(found, meter) for meter in _meters(found)],
        "not_compared": found.left_out,
    }


def _channel_document(one: Gathered) -> dict[str, Any]:
    return {
        "channel": one.id,
        "peer": one.peer,
        "from": format_instant(one.span.start_us),
        "until": format_instant(one.span.end_us),
        "open": [period.label for period in one.open],
    }


def _meter_document(found: Passthrough, meter: ResoldMeter) -> dict[str, Any]:
    groups = [group for group in found.groups if group.meter == meter]
    bought, sold = sum(g.bought for g in groups), sum(g.sold for g in groups)
    return {
        "upstream": meter.upstream,
        "downstream": meter.downstream,
        "unit": meter.unit,
        **_sums(meter, bought, sold, sum_classes(groups)),
        "subjects": [_group_document(found, group) for group in groups],
    }


def _sums(meter: ResoldMeter, bought: int, sold: int, classes: dict[Class, int]) -> dict[str, Any]:
    scale = meter.scale
    return {
        "bought": format_quantity(bought, scale),
        "sold": format_quantity(sold, scale),
        "difference": format_quantity(sold - bought, scale),
        "classes": {name: format_quantity(q, scale) for name, q in classes.items()},
        "ok": not OPEN_CLASSES & classes.keys(),
    }


def _group_document(found: Passthrough, group: Group) -> dict[str, Any]:
    def parts(of: Parts) -> list[dict[str, str]]:
        return [
            {"channel": channel, "peer": found.peer_of(channel), "subject": subject}
            | {"quantity": group.text(quantity)}
            for (channel, subject), quantity in sorted(of.items())
        ]

    return {
        "kind": group.name.kind,
        **_sums(group.meter, group.bought, group.sold, group.classes),
        "upstream": parts(group.upstream),
        "downstream": parts(group.downstream),
    }
