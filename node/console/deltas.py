"""A delta with its proof: found by its id, shown with what became of it, and to be taken away."""

from __future__ import annotations

import base64
from typing import Any

from starlette.responses import Response

from tallystick.node import proving, queries
from tallystick.node.channel import Channel
from tallystick.node.console.rendering import url
from tallystick.node.console.visits import Page, Visit, attachment, go_to
from tallystick.node.logs import ChannelLog
from tallystick.protocol.errors import InputError, UnknownName
from tallystick.protocol.proof import parse_proof
from tallystick.protocol.records import Delta
from tallystick.protocol.statement import meter_units


async def _find(visit: Visit) -> Response:
    """Deltas by id or METER/ID, in one channel or in all."""
    name = visit.asked("name").strip()
    selector = visit.asked("channel")
    books = visit.world.node.books
    keys = [books.select(selector)] if selector else list(books.channels)
    found: list[dict[str, Any]] = []
    for key in keys if name else ():
        channel, _ = books.channels[key]
        try:
            hits = queries.find_delta(channel, name)
        except UnknownName:
            continue
        found += [_document(channel, *hit) for hit in hits]
    status = 200 if found or not name else 404
    return await visit.render("deltas.html", status, name=name, found=found, selector=selector)


def _document(channel: Channel, log: ChannelLog, index: int, delta: Delta) -> dict[str, Any]:
    """A delta, what became of it, and its proof if it has one yet."""
    shown = next(
        one
        for one in queries.show(channel, f"{delta.meter}/{delta.id}")
        if one["party"] == log.party.name
    )
    document = shown | {
        "channel": channel.id.hex(),
        "peer": channel.peer.party.name,
        "ours": log is channel.own,
        "unit": meter_units(channel.terms)[delta.meter],
        "name": f"{delta.meter}/{delta.id}",
        "role": log.role,
        "proof": None,
    }
    if index < log.cosigned_size:
        made = proving.prove_record(channel, log, index)
        proof = parse_proof(made.proof)
        document["proof"] = {
            "size": made.size,
            "path": [base64.b64encode(item).decode() for item in proof.path],
            "note": proof.note.decode(),
            "vkeys": [str(vkey) for vkey in made.vkeys],
        }
    return document


async def _file(visit: Visit) -> Response:
    """The .tlog-proof or the .leaf of a delta."""
    channel, _ = visit.channel()
    name, kind, role = visit.asked("name"), visit.asked("file"), visit.asked("log")
    hits = [hit for hit in queries.find_delta(channel, name) if hit[0].role == role]
    if not hits or kind not in ("tlog-proof", "leaf"):
        raise UnknownName("there is no such file of this delta", "Find it by its id")
    log, index, delta = hits[0]
    made = proving.prove_record(channel, log, index)
    data = made.proof if kind == "tlog-proof" else made.leaf
    media = "text/plain" if kind == "tlog-proof" else "application/octet-stream"
    return attachment(data, f"{delta.meter}-{delta.id}.{kind}", media)


async def _go(visit: Visit) -> Response:
    """The records that something points to have an index; lead to the delta that is there."""
    channel, _ = visit.channel()
    party, text = visit.asked("party"), visit.asked("index")
    log = next((o for o in (channel.own, channel.peer) if o.party.name == party), None)
    index = int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
    if log is None or index is None or index >= log.durable_size:
        raise UnknownName("there is no such record here")
    record = log.record(index)
    if not isinstance(record, Delta):
        raise InputError(f"record {text} of {party}'s log is no delta", "See: tally log")
    name = f"{record.meter}/{record.id}"
    return go_to(url("deltas", name=name, channel=channel.id.hex()))


PAGES = (
    Page("GET", "/deltas", "read", _find),
    Page("GET", "/channels/{channel}/proof", "read", _file),
    Page("GET", "/channels/{channel}/record", "read", _go),
)
