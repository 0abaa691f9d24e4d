"""tally derive: the balance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import folded, print_json, say, table


@verb("derive")
@click.option("--period", help="Only this period, as in 2026-10.")
@click.option("--meter", help="Only this meter.")
@click.option("--subject", help="Only this subject.")
def command(context: Context, period: str | None, meter: str | None, subject: str | None) -> None:
    """Derive the balance from both logs; the peer derives the same, with the same digest."""
    from tallystick.node import queries

    with context.books() as books:
        channel, closer = books.channels[books.select(context.channel)]
        document = queries.derive(channel, closer, period, meter, subject)
    if context.json:
        print_json(document)
        return
    _say_lines(document["lines"])
    say(f"digest {document['digest']}")


def _say_lines(lines: Sequence[dict[str, Any]]) -> None:
    """The lines as a table; columns in which nothing would be are left out."""
    columns: dict[str, list[str]] = {"period": [line["period"] for line in lines]}
    if any(line["late_for"] for line in lines):
        columns["late of"] = [line["late_for"] or "" for line in lines]
    for name in ("meter", "subject", "payable"):
        columns[name] = [line[name] for line in lines]
    open_ends = [name for name in ("disputed", "pending") if any(_some(row[name]) for row in lines)]
    for name in open_ends:
        columns[name] = [line[name] for line in lines]
    columns["unit"] = [line["unit"] for line in lines]
    if not open_ends:  # 80 columns have no room for both
        columns["deltas"] = [f"{line['deltas']:,}" for line in lines]
    columns["status"] = [line["status"] for line in lines]
    table(list(columns), list(zip(*columns.values(), strict=True)))
    for line in lines:
        if _some(line["pending"]):
            name = f"{line['period']} {line['meter']} {line['subject']}"
            counts = f"provider {line['provider']}, consumer {line['consumer']}"
            say(folded(f"{name}: {counts}", 2))


def _some(quantity: str) -> bool:
    """Whether a decimal is not zero."""
    return bool(quantity.strip("-0."))
