"""Write a world as files: `python -m worlds --seed 12 -o DIR`."""

from __future__ import annotations

from pathlib import Path

import click

from worlds.export import write_world
from worlds.world import make_world


@click.command()
@click.option("--seed", type=int, required=True, help="Which world.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="A folder.")
def main(seed: int, output: Path) -> None:
    """Write both exports of a world, their mappings, the terms, and the truth."""
    for path in write_world(make_world(seed), output):
        click.echo(path)


if __name__ == "__main__":
    main()
