"""tally emit and correct: record one delta, or put one right."""

from __future__ import annotations

import time

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import print_json, say
from tallystick.protocol.errors import ConflictError, InputError, InvalidRecord
from tallystick.protocol.quantities import parse_quantity
from tallystick.protocol.terms import meter_named

WAIT_SECONDS = 60.0


@verb("emit")
@click.argument("meter")
@click.argument("quantity")
@click.option("--subject", required=True, help="Who or what used it.")
@click.option("--id", "id_", required=True, help="Names the event; with the meter, it is unique.")
@click.option("--at", "at", metavar="TIME", help="When it occurred (ISO 8601; default: now).")
@click.option("--wait", is_flag=True, help="Return when the peer has co-signed it.")
def emit(
    context: Context, meter: str, quantity: str, subject: str, id_: str, at: str | None, wait: bool
) -> None:
    """Record QUANTITY of METER durably; it is co-signed by the peer's node."""
    from tallystick.node.importing.drafts import Draft
    from tallystick.node.importing.times import parse_time
    from tallystick.node.rpc import encode_arguments

    with context.books() as books:
        key = books.select(context.channel)
        terms = books.founding.terms_of(key)
    found = meter_named(terms, meter)
    occurred_at = parse_time(at, "UTC", None) if at else time.time_ns() // 1000
    amount = parse_quantity(quantity, found.scale)
    draft = Draft(id_, meter, subject, amount, occurred_at)
    answer = context.call("emit", channel=key.hex(), drafts=encode_arguments([draft]))
    for _, kind, message in answer["problems"]:
        raise ConflictError(message) if kind == "conflict" else InvalidRecord(message)
    if wait:
        context.call("wait", channel=key.hex(), size=answer["size"], seconds=WAIT_SECONDS)
    index = answer["indexes"][0]
    state = "co-signed" if wait else "recorded"
    if context.json:
        duplicate = bool(answer["duplicates"])
        print_json({"state": state, "index": index, "duplicate": duplicate})
        return
    again = " (it was recorded before; nothing changed)" if answer["duplicates"] else ""
    say(f"{state}  {meter}/{id_}  record {index}{again}")


@verb("correct")
@click.argument("name", metavar="METER/ID")
@click.option("--quantity", help="The right quantity.")
@click.option("--void", is_flag=True, help="The delta should not be there at all.")
@click.option("--reason", required=True, help="Why; it is part of the record.")
def correct(context: Context, name: str, quantity: str | None, void: bool, reason: str) -> None:
    """Replace the quantity of a delta of yours, or void it."""
    if void == (quantity is not None):
        raise InputError("give either --quantity or --void")
    meter, _, id_ = name.partition("/")
    with context.books() as books:
        key = books.select(context.channel)
        found = meter_named(books.founding.terms_of(key), meter)
    amount = parse_quantity(quantity, found.scale) if quantity is not None else None
    answer = context.call(
        "correct", channel=key.hex(), meter=meter, id=id_, quantity=amount, reason=reason
    )
    again, index = answer["again"], answer["index"]
    state = "there already" if again else "recorded"
    if context.json:
        print_json({"state": state, "index": index})
        return
    if again:
        now = "voided" if void else f"{quantity}"
        say(f"there already  {name} is {now}; nothing changed")
    else:
        say(f"recorded  correction of {name}  record {index}")
