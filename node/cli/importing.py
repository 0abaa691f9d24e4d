"""tally import: record a file of usage."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
import trio

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import Progress, print_json, say
from tallystick.node.importing.drafts import DraftBatch, Reject, read_drafts
from tallystick.node.importing.mapping import load_mapping
from tallystick.node.importing.rejects import RejectsFile
from tallystick.node.rpc import RpcClient
from tallystick.protocol.errors import MappingError

IN_FLIGHT_MAX = 4
WAIT_SECONDS = 600.0

_encode = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class _Counts:
    """Deltas by what became of them; `rejected` counts rows and single deltas refused."""

    read: int = 0
    recorded: int = 0
    duplicate: int = 0
    rejected: int = 0
    size: int = 0


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
    mapping = load_mapping(mapping_file)
    if mapping.id is None:
        raise MappingError(
            f"{mapping_file}: there is no id, and an import needs one",
            'Name the column, id = { column = "request_id" }, or make ids from the row,'
            ' id = { template = "jan-{row}" }',
        )
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
        self._counts = _Counts()
        self._waiting: deque[trio.Event] = deque()

    async def run(self, batches: object) -> tuple[_Counts, Path | None]:
        """Send the file's deltas, a few batches in flight; what is refused goes to a file."""
        iterator = iter(batches)  # type: ignore[call-overload]
        progress = Progress("importing", self._file.stat().st_size)
        with RejectsFile(self._file) as rejects, progress:
            async with RpcClient.connect(self._context.open_home()) as client:
                async with trio.open_nursery() as nursery:
                    # Reading is a thread's work, so that what is in flight is answered meanwhile.
                    while (
                        batch := await trio.to_thread.run_sync(next, iterator, None)
                    ) is not None:
                        while len(self._waiting) >= IN_FLIGHT_MAX:
                            await self._waiting.popleft().wait()
                        done = trio.Event()
                        self._waiting.append(done)
                        nursery.start_soon(self._send, client, batch, rejects, done)
                        progress.update(batch.bytes_read, f"{self._counts.recorded:,} recorded")
                if self._wait and self._counts.size:
                    await client.call(
                        "wait",
                        channel=self._key.hex(),
                        size=self._counts.size,
                        seconds=WAIT_SECONDS,
                    )
        return self._counts, rejects.path if rejects.count else None

    async def _send(
        self, client: RpcClient, batch: DraftBatch, rejects: RejectsFile, done: trio.Event
    ) -> None:
        counts = self._counts
        refused = list(batch.rejects)
        if batch.drafts:
            answer = await client.call(
                "emit", channel=self._key.hex(), drafts=_encode(batch.drafts)
            )
            for place, kind, message in answer["problems"]:
                draft = batch.drafts[place]
                value = f"{draft.meter}/{draft.id}"
                refused.append(Reject(batch.draft_rows[place], kind, value, message))
            counts.recorded += len(batch.drafts) - answer["duplicates"] - len(answer["problems"])
            counts.duplicate += answer["duplicates"]
            counts.size = max(counts.size, answer["size"])
        counts.read += batch.rows_read
        counts.rejected += len(refused)
        for reject in sorted(refused, key=lambda reject: reject.row):
            rejects.write(reject)
        done.set()
