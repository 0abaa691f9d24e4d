"""tally verifier: the page on which anybody checks what `tally verify` checks, as one file."""

from __future__ import annotations

from pathlib import Path

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import print_json, say


@verb("verifier")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
def command(context: Context, output: Path | None) -> None:
    """Write the verifier page, and print its SHA-256; needs no home.

    Without -o only the SHA-256 is printed, to compare a copy with.
    """
    from tallystick.node.files import write_whole
    from tallystick.node.verifier.page import page_digest, verifier_page

    page, digest = verifier_page(), page_digest()
    if output is not None:
        write_whole(output, page)
    if context.json:
        file = None if output is None else str(output)
        print_json({"file": file, "bytes": len(page), "sha256": digest})
        return
    if output is None:
        say(f"SHA-256 {digest}")
        return
    say(f"{output}: {len(page):,} bytes")
    say(f"SHA-256 {digest}")
    context.hint("Open it in a browser and drop a bundle or a proof on it.")
