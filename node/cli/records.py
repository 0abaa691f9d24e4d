"""tally log and show: the records themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import print_json, say, table

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _time(instant_us: int, form: str = "%Y-%m-%d %H:%M:%S.%f") -> str:
    return (_EPOCH + timedelta(microseconds=instant_us)).strftime(form)


@verb("log")
@click.option("--theirs", is_flag=True, help="The peer's log instead of ours.")
@click.option("--from", "start", type=click.IntRange(0), help="First index (default: the newest).")
@click.option("--count", type=click.IntRange(1), default=20, show_default=True)
@click.option("--head", is_flag=True, help="Print the newest co-signed head instead.")
def log(context: Context, theirs: bool, start: int | None, count: int, head: bool) -> None:
    """List records of a log, or print its newest head that the peer co-signed."""
    from tallystick.node import queries

    with context.books() as books:
        channel, _ = books.channels[books.select(context.channel)]
        chosen = channel.peer if theirs else channel.own
        if head:
            _say_head(context, queries.head_document(chosen))
            return
        begin = max(chosen.durable_size - count, 0) if start is None else start
        documents = list(queries.log_records(channel, chosen, begin, count))
        size = chosen.durable_size
    if context.json:
        print_json({"party": chosen.party.name, "size": size, "records": documents})
        return
    say(f"{chosen.party.name}'s log: {size:,} records")
    table(["#", "kind", "what", "quantity", "occurred (UTC)"], [_row(d) for d in documents])


def _say_head(context: Context, document: dict[str, Any]) -> None:
    if context.json:
        print_json(document)
    else:
        say(document["head"].rstrip("\n"))


def _row(document: dict[str, Any]) -> list[str]:
    what = f"{document['meter']}/{document['id']}" if "id" in document else ""
    match document["kind"]:
        case "close":
            rows = document["checkpoint"].splitlines()
            what = next(line for line in rows if line.startswith("period "))
        case "rotation":
            what = f"{document['of']} {document['job']} key {document['number']}"
        case "epoch":
            what = f"number {document['number']}"
        case "declaration" | "disclosure":
            what = f"period {document['period']}"
        case "reveal":
            what = f"declaration {document['declaration'][:8]}"
        case "dispute":
            line = f"{document['period']}/{document['meter']}/{document['subject']}"
            what = f"{document['dispute'][:8]} {line}"
        case "answer" | "resolution" | "withdrawal":
            what = f"dispute {document['dispute'][:8]}"
        case "reminder" | "lapse":
            what = f"of record {document['of']}"
    at = document.get("occurred_at")
    occurred = "" if at is None else _time(at, "%Y-%m-%d %H:%M:%S")
    quantity = document.get("quantity") or document.get("amount") or ""
    return [str(document["index"]), document["kind"], what, quantity, occurred]


@verb("show")
@click.argument("name", metavar="[METER/]ID")
def show(context: Context, name: str) -> None:
    """Show a delta: what it says, where it is, whether it is co-signed."""
    from tallystick.node import queries

    with context.books() as books:
        channel, _ = books.channels[books.select(context.channel)]
        documents = queries.show(channel, name)
    if context.json:
        print_json({"deltas": documents})
        return
    for number, d in enumerate(documents):
        if number:
            say("")
        say(f"{d['meter']}/{d['id']}")
        say(f"  record     {d['index']} of {d['party']}'s log")
        say(f"  quantity   {d['quantity']}")
        if d["effective_quantity"] != d["quantity"]:
            say(f"  corrected  {d['effective_quantity'] or 'voided'}")
        say(f"  subject    {d['subject']}")
        say(f"  occurred   {_time(d['occurred_at'])} UTC, in period {d['period']}")
        say(f"  recorded   {_time(d['recorded_at'])} UTC")
        say(f"  co-signed  {'yes' if d['cosigned'] else 'not yet'}")
