"""tally compare: a file of one's own against the record."""

from __future__ import annotations

from pathlib import Path

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import print_json, say


@verb("compare")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--period", required=True, help="The period, as in 2026-10.")
@click.option(
    "--map",
    "mapping_file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Which columns mean what (TOML).",
)
def command(context: Context, file: Path, period: str, mapping_file: Path) -> None:
    """Compare FILE, your own system's usage, with the record, and explain the difference."""
    from tallystick.node.comparing import comparison
    from tallystick.node.comparing.report import render_comparison
    from tallystick.node.statuses import meter_statuses

    with context.books() as books:
        channel, closer = books.channels[books.select(context.channel)]
        result = comparison.compare_file(channel, file, mapping_file, period)
        names = [meter.meter for meter in result.meters]
        statuses = meter_statuses(channel, closer, result.period, names)
    if context.json:
        document = result.document()
        for name, status in statuses.items():
            document["meters"][name]["status"] = status
        print_json(document)
    else:
        say(render_comparison(result))
    if not result.within_tolerance:
        raise SystemExit(1)
