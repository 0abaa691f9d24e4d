"""tally dispute, answer, resolve, withdraw and disputes: what is contested, and how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import folded, print_json, say
from tallystick.protocol.errors import InputError

if TYPE_CHECKING:
    from tallystick.node.books import Books
    from tallystick.node.channel import Channel
    from tallystick.node.disputing import Sayable

ALL = "all"  # what --concede means without an amount

_reason = click.option("--reason", required=True, help="Why; it is part of the record.")


def chosen_channels(context: Context, books: Books) -> list[Channel]:
    """The chosen channel, or all."""
    if context.channel:
        return [books.channels[books.select(context.channel)][0]]
    return [channel for channel, _ in books.channels.values()]


def _say(context: Context, channel: bytes, record: Sayable, done: str, before: str) -> None:
    """Have the node say it, and show where the dispute stands then."""
    from tallystick.node import disputing, filing, worklist

    answer = context.call("say", channel=channel.hex(), record=filing.sayable_bytes(record))
    digest: bytes = answer["dispute"]
    with context.books() as books:
        found, one = disputing.find([books.channels[channel][0]], digest.hex())
        document = worklist.dispute_documents(found, [one])[0]
        own = books.identity.name
    if context.json:
        print_json(
            {"state": "there already" if answer["again"] else "recorded"}
            | {"index": answer["index"], "dispute": document}
        )
        return
    state = before if answer["again"] else done
    say(f"{state}  {document['dispute'][:8]}  record {answer['index']}")
    _show(document, own)


@verb("dispute")
@click.argument("names", metavar="[METER/ID]...", nargs=-1)
@click.option("--line", metavar="PERIOD/METER/SUBJECT", help="The balance line, without records.")
@click.option("--amount", help="By how much less it should be payable (default: the records').")
@click.option("--code", required=True, metavar="quantity|reference|other", help="What is wrong.")
@_reason
def dispute(
    context: Context,
    names: tuple[str, ...],
    line: str | None,
    amount: str | None,
    code: str,
    reason: str,
) -> None:
    """Contest a balance line, by records or by an amount; the peer has to answer in time."""
    from tallystick.node import filing

    claim = filing.Claim(code, reason, names, line, amount)
    with context.books() as books:
        key = books.select(context.channel)
        record = filing.dispute_of(*books.channels[key], claim)
    _say(context, key, record, "filed", "there already")


@verb("answer")
@click.argument("name", metavar="DISPUTE")
@click.option(
    "--concede",
    metavar="[AMOUNT]",
    is_flag=False,
    flag_value=ALL,
    help="Give up so much of it (without a sign); all without an amount.",
)
@click.option("--reject", is_flag=True, help="Give up nothing.")
@click.option("--insist", is_flag=True, help="As its filer: the answer does not settle it.")
@click.option("--record", "records", metavar="METER/ID", multiple=True, help="What shows it.")
@_reason
def answer(
    context: Context,
    name: str,
    concede: str | None,
    reject: bool,
    insist: bool,
    records: tuple[str, ...],
    reason: str,
) -> None:
    """Answer a dispute of the peer's, or insist on one of yours after its answer."""
    from tallystick.node import disputing, filing

    if (concede is not None) + reject + insist != 1:
        raise InputError("say one of --concede [AMOUNT], --reject and --insist")
    kind: filing.Kind = "reject" if reject else "insist" if insist else "concede"
    amount = None if concede == ALL else concede
    with context.books() as books:
        channel, one = disputing.find(chosen_channels(context, books), name)
        reply = filing.Reply(kind, reason, amount, records)
        record = filing.answer_of(channel, one, reply)
        key = channel.id
    _say(context, key, record, "answered", "there already")


@verb("resolve")
@click.argument("name", metavar="DISPUTE")
@click.option("--amount", required=True, help="By how much less the line shall be payable.")
@_reason
def resolve(context: Context, name: str, amount: str, reason: str) -> None:
    """Say what you would settle a dispute for; it is settled when both said the same."""
    from tallystick.node import disputing, filing

    with context.books() as books:
        channel, one = disputing.find(chosen_channels(context, books), name)
        record = filing.resolution_of(channel, one, amount, reason)
        key = channel.id
    _say(context, key, record, "said", "there already")


@verb("withdraw")
@click.argument("name", metavar="DISPUTE")
@_reason
def withdraw(context: Context, name: str, reason: str) -> None:
    """Give up a dispute of yours."""
    from tallystick.node import disputing, filing

    with context.books() as books:
        channel, one = disputing.find(chosen_channels(context, books), name)
        record = filing.withdrawal_of(one, reason)
        key = channel.id
    _say(context, key, record, "withdrawn", "there already")


@verb("disputes")
@click.option("-a", "--all", "settled", is_flag=True, help="Those that are settled as well.")
def disputes(context: Context, settled: bool) -> None:
    """List what is contested: what waits for whom, until when."""
    from tallystick.node import worklist

    with context.books() as books:
        document = worklist.worklist(chosen_channels(context, books), settled=settled)
        own = books.identity.name
    if context.json:
        print_json(document)
        return
    if not document["disputes"]:
        say("No disputes." if settled else "No open disputes.")
    for one in document["disputes"]:
        say(folded(f"{one['dispute'][:8]}  {one['state']}", indent=2))
        _show(one, own)
    for one in document["checkpoints"]:
        say(folded(f"{one['period']}  closed; {_acceptance(one, own)}", indent=2))


def _show(document: dict[str, Any], own: str) -> None:
    """A dispute in a few lines: of what, by whom and why, what was answered, what comes next."""
    line = f"{document['period']}/{document['meter']}/{document['subject']}"
    by = "you" if document["by"] == own else document["by"]
    rows = [
        f"{line}  {document['amount']} {document['unit']}",
        f"{by}: {document['reason']} ({document['code']})",
    ]
    answer = document["answer"]
    if answer is not None:
        against = "you" if document["against"] == own else document["against"]
        rows.append(f"{against}: {answer['reason']} (concedes {answer['conceded']})")
    rows.append(_next(document, own))
    for row in rows:
        say(folded(f"  {row}", indent=4))


def _next(document: dict[str, Any], own: str) -> str:
    """What a dispute waits for, or how it ended."""
    from tallystick.node.worklist import ENDINGS

    state, peer = document["state"], _peer(document, own)
    settlements = document["settlements"]
    ours, theirs = settlements[own], settlements[peer]
    if state in ENDINGS:
        return f"{ENDINGS[state]}; upheld: {document['upheld']} of {document['amount']}"
    said = ""
    if theirs is not None:
        said = f"; {peer} would settle for {theirs}, and you said {ours or 'nothing yet'}"
    elif ours is not None:
        said = f"; you would settle for {ours}, {peer} has said nothing yet"
    if state == "contested":
        return f"waits for both to agree: tally resolve {document['dispute'][:8]}{said}"
    who = "you" if document["waits_for"] == own else document["waits_for"]
    what = "answer" if state == "open" else "insist, withdraw or resolve"
    if document["until"] is None:
        return f"waits for {who} to {what}; not co-signed yet{said}"
    then = "it is upheld" if state == "open" else "it lapses"
    return f"waits for {who} to {what} until {document['until']}; then {then}{said}"


def _peer(document: dict[str, Any], own: str) -> str:
    name: str = document["against"] if document["by"] == own else document["by"]
    return name


def _acceptance(document: dict[str, Any], own: str) -> str:
    who = "you" if document["waits_for"] == own else document["waits_for"]
    if document["until"] is None:
        return f"{who} may dispute it; not co-signed yet"
    return f"{who} may dispute it until {document['until']}; then it is accepted"
