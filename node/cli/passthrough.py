"""tally passthrough: whether what was bought upstream is what was sold downstream."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import folded, print_json, say
from tallystick.protocol.errors import InputError

if TYPE_CHECKING:
    from tallystick.node.passthrough.proving import ProvedSale

STEM_MAX = 180  # characters of a file's name before its suffix


@verb("passthrough")
@click.option("--upstream", metavar="ID|PEER", help="The channel in which we buy.")
@click.option(
    "--downstream", multiple=True, metavar="ID|PEER", help="A channel in which we sell (all)."
)
@click.option("--period", required=True, help="The period, or what periods make up, as in 2026-10.")
@click.option(
    "--map",
    "mapping_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Which subjects are sold as which (TOML).",
)
@click.option("--prove", "line", metavar="CUSTOMER/METER/SUBJECT", help="Prove a line instead.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder for the proof and its seal.",
)
@click.option(
    "--events",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the ids that differ, as CSV, if events are sold under the ids they were bought as.",
)
def command(
    context: Context,
    upstream: str | None,
    downstream: tuple[str, ...],
    period: str,
    mapping_file: Path | None,
    line: str | None,
    output: Path | None,
    events: Path | None,
) -> None:
    """Check that what was bought in one channel is what was sold in others.

    Without a mapping, subjects and meters are sold under the names under which they are bought.
    """
    if (line is None) != (output is None):
        raise InputError("--prove and --output belong together", "Give both or neither")
    if events is not None and line is not None:
        raise InputError("--events has nothing to do with --prove", "Give one of them")
    from tallystick.node.passthrough.checking import check_passthrough
    from tallystick.node.passthrough.report import document_of, render_passthrough

    with context.books() as books:
        found = check_passthrough(
            books, upstream or context.channel, downstream, period, mapping_file
        )
        if line is not None and output is not None:
            from tallystick.node.passthrough.proving import prove_sale

            _write(context, prove_sale(found, line), output)
            return
        written = None
        if events is not None:
            from tallystick.node.passthrough.events import write_events

            written = write_events(events, found)
    if context.json:
        document = document_of(found)
        if written is not None:
            document["events"] = {"file": str(events)} | asdict(written)
        print_json(document)
    else:
        say(render_passthrough(found))
        if written is not None:
            say("")
            say(folded(f"The ids behind what is in capitals: {events}", 2))
            say(folded(f"{written.ids:,} differ; {written.shared:,} are on both sides.", 2))
    if not found.ok:
        raise SystemExit(1)


def _write(context: Context, proved: ProvedSale, folder: Path) -> None:
    """Write the two files, and say who may see which."""
    from tallystick.node.cli.proofs import file_name, write_files

    stem = file_name(proved.stem)
    if stem != proved.stem or len(stem) > STEM_MAX:  # so that no two lines share a name
        stem = f"{stem[:STEM_MAX]}-{hashlib.sha256(proved.stem.encode()).hexdigest()[:8]}"
    files = {f"{stem}.passthrough": proved.proof, f"{stem}.seal": proved.seal}
    proof, seal = write_files(folder, files)
    bought, sold = ([str(vkey) for vkey in vkeys] for vkeys in (proved.bought_by, proved.sold_by))
    if context.json:
        print_json(
            {"proof": proof, "seal": seal, "sha256": proved.digest.hex()}
            | {"customers": list(proved.customers), "vkeys": {"bought": bought, "sold": sold}}
        )
        return
    say(proof)
    say(seal)
    customers = ", ".join(proved.customers)
    for text in (
        f"The seal is for the customer. The proof shows from whom you buy, all totals of that"
        f" checkpoint, and the lines of {customers}: give it to whom you trust with these, as an"
        " auditor.",
        "Both are checked with tally verify and these keys, the last ones of the sale:",
    ):
        context.hint(folded(text, 0))
    context.hint("\n".join([*bought, *sold]))
