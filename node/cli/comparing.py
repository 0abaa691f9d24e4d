"""tally compare: a file of one's own against the record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import Steps, folded, print_json, say
from tallystick.protocol.errors import InputError


def _output(name: str, said: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option that names a file to write."""
    return click.option(
        f"--{name}", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help=said
    )


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
@_output("html", "Write the report as a page to show around.")
@_output("csv", "Write the events behind each step as CSV.")
@_output("parquet", "Write the events behind each step as Parquet.")
def command(
    context: Context,
    file: Path,
    period: str,
    mapping_file: Path,
    html: Path | None,
    csv: Path | None,
    parquet: Path | None,
) -> None:
    """Compare FILE, your own system's usage, with the record, and explain the difference."""
    from tallystick.node.comparing import comparison
    from tallystick.node.comparing.report import render_comparison
    from tallystick.node.statuses import meter_statuses

    outputs = {"html": html, "csv": csv, "parquet": parquet}
    _check_outputs(outputs, {"FILE": file, "--map": mapping_file})
    wanted = comparison.Wanted(csv, parquet, timelines=html is not None)
    with context.books() as books:
        channel, closer = books.channels[books.select(context.channel)]
        with Steps() as steps:
            result = comparison.compare_file(
                channel, file, mapping_file, period, wanted, steps.tell
            )
        names = [meter.meter for meter in result.meters]
        result = replace(result, statuses=meter_statuses(channel, closer, result.period, names))
    if html is not None:
        from tallystick.node.comparing.page import render_page
        from tallystick.node.files import write_whole

        write_whole(html, render_page(result).encode())
    if context.json:
        print_json(result.document())
    else:
        say(render_comparison(result))
        for name, path in (("page", html), ("events as CSV", csv), ("events as Parquet", parquet)):
            if path is not None:
                say(folded(f"The {name}: {path}", 2))
    if not result.within_tolerance:
        raise SystemExit(1)


def _check_outputs(outputs: dict[str, Path | None], inputs: dict[str, Path]) -> None:
    """Refuse before the work what would write over a file that is read, or two things to one."""
    taken = {path.resolve(): name for name, path in inputs.items()}
    for name, path in outputs.items():
        if path is None:
            continue
        place = path.resolve()
        if place in taken:
            raise InputError(
                f"--{name} and {taken[place]} are the same file, {path}", "Choose another name"
            )
        if not place.parent.is_dir():
            raise InputError(f"--{name} {path}: there is no folder {place.parent}")
        taken[place] = f"--{name}"
