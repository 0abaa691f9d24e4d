"""tally derive: the balance."""

from __future__ import annotations

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import print_json, say, table


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
    rows = [
        [
            line["period"] + (f" (late, of {line['late_for']})" if line["late_for"] else ""),
            line["meter"],
            line["subject"],
            line["payable"],
            line["unit"],
            f"{line['deltas']:,}",
        ]
        for line in document["lines"]
    ]
    table(["period", "meter", "subject", "payable", "unit", "deltas"], rows)
    for line in document["lines"]:
        if any(digit in "123456789" for digit in line["pending"] + line["disputed"]):
            say(
                f"{line['period']} {line['meter']} {line['subject']}: provider"
                f" {line['provider']}, consumer {line['consumer']}, pending {line['pending']},"
                f" disputed {line['disputed']}"
            )
    say(f"digest {document['digest']}")
