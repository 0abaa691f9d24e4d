"""tally import: record a file of usage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import click
import trio

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import Progress, print_json, say
from tallystick.node.importing.drafts import DraftBatch, read_drafts
from tallystick.node.importing.mapping import load_import_mapping
from tallystick.node.importing.rejects import RejectsFile
from tallystick.node.importing.sending import Counts, Sender
from tallystick.node.rpc import RpcClient

WAIT_SECONDS = 600.0


@verb("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--map",
    "mapping_file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Which columns mean what (TOML).",
)
@click.option("--wait", is_flag=True, help="Return when the peer has co-signed everything.")
def command(context: Context, file: Path, mapping_file: Path, wait: bool) -> None:
    """Record the usage in FILE (CSV, JSON Lines or Parquet); a second time records nothing."""
    mapping = load_import_mapping(mapping_file)
    with context.books() as books:
        key = books.select(context.channel)
        terms = books.founding.terms_of(key)
    importer = _Importer(context, key, file, wait)
    meters = {meter.name: meter for meter in terms.meters}
    batches = read_drafts(file, mapping, meters)
    started = time.monotonic()
    counts, rejects = trio.run(importer.run, batches)
    seconds = time.monotonic() - started
    if context.json:
        print_json(
            {
                "read": counts.read,
                "recorded": counts.recorded,
                "duplicate": counts.duplicate,
                "rejected": counts.rejected,
                "rejects_file": str(rejects) if rejects else None,
            }
        )
        return
    say(
        f"read {counts.read:,} rows in {seconds:.1f} s: {counts.recorded:,} deltas recorded"
        + (" and co-signed" if wait else "")
        + f",\n  {counts.duplicate:,} already there, {counts.rejected:,} rejected"
    )
    if rejects:
        say(f"rejected rows and why: {rejects}")


class _Importer:
    def __init__(self, context: Context, key: bytes, file: Path, wait: bool) -> None:
        self._context = context
        self._key = key
        self._file = file
        self._wait = wait

    async def run(self, batches: Iterator[DraftBatch]) -> tuple[Counts, Path | None]:
        """Send the file's deltas; what is refused goes to a file."""
        bar = Progress("importing", self._file.stat().st_size)
        with RejectsFile(self._file) as rejects, bar:
            async with RpcClient.connect(self._context.open_home()) as client:

                def progress(bytes_read: int) -> None:
                    bar.update(bytes_read, f"{sender.counts.recorded:,} recorded")

                sender = Sender(client, self._key.hex(), rejects.write, progress)
                await sender.send(batches)
                if self._wait and sender.counts.size:
                    await client.call(
                        "wait",
                        channel=self._key.hex(),
                        size=sender.counts.size,
                        seconds=WAIT_SECONDS,
                    )
        return sender.counts, rejects.path if rejects.count else None
