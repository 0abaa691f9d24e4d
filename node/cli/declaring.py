"""tally declare: one's own totals of a period, committed to before the peer's are known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import folded, print_json, say
from tallystick.protocol.errors import InputError

if TYPE_CHECKING:
    from tallystick.node.counting import Count
    from tallystick.protocol.records import Terms


@verb("declare")
@click.argument("period")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--map",
    "mapping_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Which columns of FILE mean what (TOML).",
)
@click.option("--total", "totals", metavar="METER=QUANTITY", multiple=True, help="A total.")
@click.option("--early", is_flag=True, help="Before the period's end.")
@click.option("--show", is_flag=True, help="Only show how the declarations stand.")
def command(
    context: Context,
    period: str,
    file: Path | None,
    mapping_file: Path | None,
    totals: tuple[str, ...],
    early: bool,
    show: bool,
) -> None:
    """Commit to your own totals of PERIOD, counted in FILE or given with --total.

    The peer sees a salted hash. Once both parties have declared, both nodes reveal by themselves,
    so neither can have copied the other's number.
    """
    _check_use(file, mapping_file, totals, early, show)
    with context.books() as books:
        key = books.select(context.channel)
        terms = books.founding.terms_of(key)
    count: Count | None = None
    answer: dict[str, Any] = {}
    if not show:
        if file is not None and mapping_file is not None:
            from tallystick.node.counting import count_file

            count = count_file(terms, file, mapping_file, period)
            quantities = dict(count.totals)
        else:
            quantities = _parse_totals(terms, totals)
        answer = _declare(context, key, terms, period, quantities, early)
    document = _document(context, key, period) | answer
    if count is not None:
        document |= {
            "counted": {
                "events": count.events,
                "elsewhere": count.elsewhere,
                "rejected": count.rejected,
                "first_reject": count.first_reject,
            }
        }
    if context.json:
        print_json(document)
    else:
        _say(document)


def _check_use(
    file: Path | None,
    mapping_file: Path | None,
    totals: tuple[str, ...],
    early: bool,
    show: bool,
) -> None:
    if show and (file or mapping_file or totals or early):
        raise InputError("--show declares nothing", "Leave the file and the totals out")
    if not show and (file is None) == (not totals):
        raise InputError(
            "what do you declare?", "Give a FILE with --map, or totals with --total METER=QUANTITY"
        )
    if (file is None) != (mapping_file is None):
        raise InputError("a file is read by a mapping", "Give both FILE and --map")


def _parse_totals(terms: Terms, totals: tuple[str, ...]) -> dict[str, int]:
    from tallystick.protocol.quantities import parse_quantity
    from tallystick.protocol.statement import line_scales
    from tallystick.protocol.terms import meter_named

    scales = line_scales(terms)
    found: dict[str, int] = {}
    for text in totals:
        meter, equals, quantity = text.partition("=")
        if not equals:
            raise InputError(f"{text!r} is not a total", "Write METER=QUANTITY")
        meter_named(terms, meter)
        if meter in found:
            raise InputError(f"there are two totals of {meter}")
        found[meter] = parse_quantity(quantity, scales[meter])
    return found


def _declare(
    context: Context, key: bytes, terms: Terms, period: str, quantities: dict[str, int], early: bool
) -> dict[str, Any]:
    from tallystick.protocol.declarations import totals_of

    shown = {row.meter: row.total for row in totals_of(terms, quantities)}
    answer = context.call("declare", channel=key.hex(), period=period, totals=shown, early=early)
    return {"index": answer["index"], "again": answer["again"]}


def _document(context: Context, key: bytes, period: str) -> dict[str, Any]:
    from tallystick.node.declaring import declarations_document

    with context.books() as books:
        return declarations_document(*books.channels[key], period)


def _say(document: dict[str, Any]) -> None:
    from tallystick.node.cli.verdict import say_verdict

    sides = [document["provider"], document["consumer"]]
    ours = document[document["ours"]]
    if "counted" in document:
        _say_counted(document["counted"])
    if "index" in document:
        again = ", as before" if document["again"] else ""
        say(f"declared  {document['period']}  record {document['index']}{again}")
    for side in sides:
        say(folded(f"{side['party']}: {_state(side)}", 2))
    if ours["declarations"] and not ours["revealed"] and not document["closed"]:
        if document["kept"] is None:
            say(
                folded(
                    "What opens your declaration is not in this home any more: declare again,"
                    " before anybody reveals.",
                    2,
                )
            )
        else:
            kept = ", ".join(f"{meter} {total}" for meter, total in document["kept"].items())
            say(folded(f"  yours, seen by nobody else yet: {kept}", 4))
    if document["verdict"] is None:
        say("The period was closed before there were verdicts.")
    else:
        say(f"verdict{'' if document['closed'] else ' so far'}:")
        say_verdict(document["verdict"], sides[0]["party"], sides[1]["party"])


def _state(side: dict[str, Any]) -> str:
    if side["problem"]:
        return f"revealed, but it does not count: {side['problem']}"
    if side["totals"] is not None:
        totals = ", ".join(f"{meter} {total}" for meter, total in side["totals"].items())
        return f"revealed: {totals}"
    if side["declarations"]:
        return "committed, not revealed yet"
    return "not declared"


def _say_counted(counted: dict[str, Any]) -> None:
    say(f"counted {counted['events']:,} events; {counted['elsewhere']:,} are of other periods")
    if counted["rejected"]:
        say(
            folded(
                f"{counted['rejected']:,} rows of the file cannot be read and are not in the"
                f" totals; the first: {counted['first_reject']}",
                2,
            )
        )
