"""tally passthrough: whether what was bought upstream is what was sold downstream."""

from __future__ import annotations

from pathlib import Path

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import print_json, say


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
def command(
    context: Context,
    upstream: str | None,
    downstream: tuple[str, ...],
    period: str,
    mapping_file: Path | None,
) -> None:
    """Check that what was bought in one channel is what was sold in others.

    Without a mapping, subjects and meters are sold under the names under which they are bought.
    """
    from tallystick.node.passthrough.checking import check_passthrough
    from tallystick.node.passthrough.report import document_of, render_passthrough

    with context.books() as books:
        found = check_passthrough(
            books, upstream or context.channel, downstream, period, mapping_file
        )
    if context.json:
        print_json(document_of(found))
    else:
        say(render_passthrough(found))
    if not found.ok:
        raise SystemExit(1)
