"""A period, open or closed: its statement, declarations, verdict and checkpoint; closing it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.responses import Response

from tallystick.node import queries
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.console.comparing import mapping_template
from tallystick.node.console.overview import state_of
from tallystick.node.console.rendering import qr, url
from tallystick.node.console.visits import Page, Visit, attachment, go_to
from tallystick.node.declaring import declarations_document
from tallystick.node.statement.making import statement_html, statement_pdf
from tallystick.protocol.errors import InputError
from tallystick.protocol.quantities import format_quantity, parse_total
from tallystick.protocol.statement import line_scales
from tallystick.protocol.verdict import MeterVerdict, describe_meter

LINES = 100  # on a page

_AMOUNTS = ("provider", "consumer", "payable", "disputed", "pending")


def period_document(channel: Channel, closer: Closer, label: str, first: int) -> dict[str, Any]:
    """All that a period's page shows."""
    calendar = channel.own.folder.calendar
    period = calendar.parse(label)
    row = closer.row_of(period)
    derived = queries.derive(channel, closer, period=period.label)
    lines = derived["lines"]
    grace_us = channel.terms.grace_seconds * 1_000_000
    state = "closed" if row is not None else "empty"
    if lines and row is None:
        state = state_of(period, grace_us)
    declared = declarations_document(channel, closer, label)
    following = calendar.next(period)
    return {
        "channel": channel.id.hex(),
        "peer": channel.peer.party.name,
        "provider": channel.provider_log.party.name,
        "consumer": channel.consumer_log.party.name,
        "period": period.label,
        "before": calendar.period_of(period.start_us - 1).label if period.start_us > 0 else None,
        "after": following.label,
        "zone": calendar.time_zone,
        "start_us": period.start_us,
        "end_us": period.end_us,
        "due_us": period.end_us + grace_us,
        "state": state,
        "lines": lines[first : first + LINES],
        "many": len(lines),
        "sides": {
            "provider": any(line["provider"] is not None for line in lines),
            "consumer": any(line["consumer"] is not None for line in lines),
        },
        "disputed": any(line["disputed"].strip("0.") for line in lines),
        "pending": any(line["pending"].strip("0.") for line in lines),
        "late": any(line["late_for"] for line in lines),
        "totals": _totals(channel, lines),
        "digest": derived["digest"],
        "declared": declared,
        "verdict": _verdict(declared),
        "checkpoint": queries.checkpoint_document(channel, closer, label) if row else None,
        "mapping": mapping_template(channel.terms),
    }


def _totals(channel: Channel, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sum of each meter's lines; sides that do not record have none."""
    scales = line_scales(channel.terms)
    sums: dict[str, dict[str, Any]] = {}
    for line in lines:
        meter = line["meter"]
        one = sums.setdefault(meter, {"meter": meter, "unit": line["unit"], "deltas": 0})
        one["deltas"] += line["deltas"]
        for name in _AMOUNTS:
            if line[name] is not None:
                one[name] = one.get(name, 0) + parse_total(line[name], scales[meter])
    for meter, one in sums.items():
        for name in _AMOUNTS:
            one[name] = format_quantity(one[name], scales[meter]) if name in one else None
    return list(sums.values())


def _verdict(declared: dict[str, Any]) -> list[tuple[str, str]]:
    """Each meter's verdict: its result, and the sentence."""
    if declared["verdict"] is None:
        return []
    names = declared["provider"]["party"], declared["consumer"]["party"]
    found = []
    for row in declared["verdict"]["meters"]:
        values = {name: row[name] for name in MeterVerdict.__struct_fields__}
        found.append((row["result"], describe_meter(MeterVerdict(**values), *names)))
    return found


async def _show(visit: Visit) -> Response:
    channel, _ = visit.channel()
    label = visit.request.path_params["period"]
    page = visit.page_number()
    document = await visit.ask_again(
        channel.id,
        f"period {label} {page}",
        lambda c, closer: period_document(c, closer, label, (page - 1) * LINES),
    )
    checkpoint = document["checkpoint"]
    desk = visit.desk
    return await visit.render(
        "period.html",
        document=document,
        page=page,
        pages=max(1, -(-document["many"] // LINES)),
        code=qr(checkpoint["digest"]) if checkpoint else None,
        done=visit.asked("done"),
        comparisons=desk.comparisons.of(channel.id, document["period"]),
        upload_mebibytes=desk.settings.upload_mebibytes,
    )


def _draft(channel: Channel, closer: Closer, label: str) -> dict[str, Any]:
    """What closing a period would sign."""
    calendar = channel.own.folder.calendar
    period = calendar.parse(label)
    if closer.row_of(period) is not None:
        raise InputError(f"{label} is closed already", "Its checkpoint is on the period's page")
    checkpoint = closer.drafted(period)
    grace_us = channel.terms.grace_seconds * 1_000_000
    return {
        "channel": channel.id.hex(),
        "peer": channel.peer.party.name,
        "period": label,
        "state": state_of(period, grace_us),
        "empty": not checkpoint.lines,
        "due_us": period.end_us + grace_us,
        "text": checkpoint.text(),
    }


async def _ask_close(visit: Visit) -> Response:
    channel, _ = visit.channel()
    label = visit.request.path_params["period"]
    document = await visit.ask(channel.id, lambda c, closer: _draft(c, closer, label))
    return await visit.render("close.html", document=document)


async def _close(visit: Visit) -> Response:
    channel, closer = visit.channel()
    label = visit.request.path_params["period"]
    period = channel.own.folder.calendar.parse(label)
    if closer.row_of(period) is None:
        early = visit.form.text("early") == "yes"
        await visit.world.service.checkpoint(channel.id.hex(), period.label, early)
    return go_to(url("channels", channel.id.hex(), "periods", period.label, done="closed"))


async def _bundle(visit: Visit) -> Response:
    channel, _ = visit.channel()
    label, full = visit.request.path_params["period"], visit.asked("full") == "yes"
    question = partial(queries.bundle_of, label=label, full=full)
    made = await visit.world.reader.ask(channel.id, question)
    return attachment(made, f"{label}{'-full' if full else ''}.tally", "application/zip")


async def _note(visit: Visit) -> Response:
    channel, _ = visit.channel()
    label = visit.request.path_params["period"]
    document = await visit.ask(
        channel.id, lambda c, closer: queries.checkpoint_document(c, closer, label)
    )
    return attachment(document["checkpoint"].encode(), f"{label}.checkpoint.txt", "text/plain")


async def _statement(visit: Visit) -> Response:
    """The statement as people read it: of an open period as a draft."""
    channel, closer = visit.channel()
    label, kind = visit.request.path_params["period"], visit.asked("as")
    draft = closer.row_of(channel.own.folder.calendar.parse(label)) is None
    makers: dict[str, tuple[Callable[..., bytes], str]] = {
        "pdf": (statement_pdf, "application/pdf"),
        "html": (statement_html, "text/html"),
    }
    if kind not in makers:
        raise InputError(f"{kind[:20]!r} is no form of a statement", "Choose pdf or html")
    make, media = makers[kind]
    question = partial(make, period=label, full=False, draft=draft)
    data = await visit.world.reader.ask(channel.id, question)
    return attachment(data, f"{label}{'-draft' if draft else ''}.{kind}", media)


_PERIOD = "/channels/{channel}/periods/{period}"
PAGES = (
    Page("GET", _PERIOD, "read", _show),
    Page("GET", f"{_PERIOD}/close", "admin", _ask_close),
    Page("POST", f"{_PERIOD}/close", "admin", _close),
    Page("GET", f"{_PERIOD}/bundle", "read", _bundle),
    Page("GET", f"{_PERIOD}/checkpoint", "read", _note),
    Page("GET", f"{_PERIOD}/statement", "read", _statement),
)
