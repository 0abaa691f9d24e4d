"""A channel: how it stands, its periods, its terms, and both halves of the tally, live."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.console.halves import newest_rows
from tallystick.node.console.overview import open_periods
from tallystick.node.console.visits import Page, Visit
from tallystick.node.console.words import standing_of
from tallystick.protocol.quantities import format_quantity, parse_total
from tallystick.protocol.statement import Line, decode_line, line_scales, meter_units
from tallystick.protocol.terms import describe_terms

PERIODS = 24  # closed ones that are listed at once


def periods_document(channel: Channel, closer: Closer, first: int = 0) -> dict[str, Any]:
    """The periods, the newest first: open ones, then a page of the closed ones."""
    scales, units = line_scales(channel.terms), meter_units(channel.terms)

    def totals(lines: list[Line]) -> list[dict[str, str]]:
        sums: dict[str, list[int]] = {}
        for line in lines:
            found = sums.setdefault(line.meter, [0, 0])
            found[0] += parse_total(line.payable, scales[line.meter])
            found[1] += parse_total(line.disputed, scales[line.meter])
        return [
            {
                "meter": meter,
                "payable": format_quantity(payable, scales[meter]),
                "disputed": format_quantity(disputed, scales[meter]) if disputed else "",
                "unit": units[meter],
            }
            for meter, (payable, disputed) in sums.items()
        ]

    lines: dict[str, list[Line]] = {}
    for line in closer.open_lines():
        lines.setdefault(line.period, []).append(line)
    still_open = [
        one | {"totals": totals(lines[one["period"]])} for one in open_periods(channel, lines)
    ]
    every = closer.rows[::-1]
    closed = [
        {
            "period": row.period,
            "state": "closed",
            "digest": row.digest.hex(),
            "totals": totals([decode_line(data) for data in row.lines]),
        }
        for row in every[first : first + PERIODS]
    ]
    more = first + PERIODS if len(every) > first + PERIODS else None
    return {"open": still_open[::-1], "closed": closed, "more": more}


async def _show(visit: Visit) -> Response:
    channel, _ = visit.channel()
    key = channel.id.hex()
    status = await visit.status()
    document = next(one for one in status["channels"] if one["channel"] == key)
    disputes = (await visit.waits(channel.id))["disputes"]
    page = visit.page_number()
    return await visit.render_live(
        "channel.html",
        document=document,
        standing=standing_of(document, disputes, status["name"]),
        disputes=disputes,
        rows=newest_rows(channel),
        periods=await visit.ask_again(
            channel.id,
            f"periods {page}",
            lambda c, closer: periods_document(c, closer, (page - 1) * PERIODS),
        ),
        page=page,
        terms=describe_terms(channel.terms),
    )


PAGES = (Page("GET", "/channels/{channel}", "read", _show),)
