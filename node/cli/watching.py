"""tally watch: record the files of a folder as they come."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import click
import msgspec
import trio

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import print_json
from tallystick.node.config import load_config
from tallystick.node.importing.drafts import Converter
from tallystick.node.importing.mapping import Mapping, load_import_mapping
from tallystick.node.intake.ledger import Ledger
from tallystick.node.intake.watch import FileResult, Watcher
from tallystick.node.rpc import RpcClient
from tallystick.node.telemetry.lines import Lines
from tallystick.protocol.errors import InputError, MappingError, lone_error


@verb("watch")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--map",
    "mapping_file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Which columns mean what (TOML).",
)
@click.option(
    "--settle",
    default=3.0,
    show_default=True,
    type=click.FloatRange(0, 86_400),
    help="Seconds without a change after which a file is complete.",
)
@click.option("--once", is_flag=True, help="Import what is there and end, as a cron job does.")
def command(
    context: Context, directory: Path, mapping_file: Path, settle: float, once: bool
) -> None:
    """Record each file that comes into DIR, once; files stay where they are.

    Give files their name when they are complete (rename into place), or one that is left alone
    until then: .usage.csv, usage.csv.part, usage.csv.tmp.
    """
    mapping = load_import_mapping(mapping_file)
    _check_ids(mapping_file, mapping)
    if not directory.is_dir():
        raise InputError(f"{directory} is not a directory")
    home = context.open_home()
    Lines(load_config(home.config_path).log)
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    with context.books() as books:
        key = books.select(context.channel)
        meters = {meter.name: meter for meter in books.founding.terms_of(key).meters}
    Converter(mapping, meters)  # a meter that is not there is said now, and not of each file
    digest = hashlib.sha256(mapping_file.read_bytes()).hexdigest()
    results: list[FileResult] = []

    def report(result: FileResult) -> None:
        if once:
            results.append(result)
        elif context.json:
            print_json(msgspec.to_builtins(result))

    folder = directory.resolve()
    name = hashlib.sha256(os.fsencode(folder) + key).hexdigest()[:32]
    with Ledger.open(home.path / "watch" / f"{name}.jsonl") as ledger:
        watcher = Watcher(
            folder,
            mapping,
            digest,
            meters,
            key.hex(),
            lambda: RpcClient.connect(home),
            ledger,
            settle,
            report,
        )
        try:
            trio.run(watcher.once if once else watcher.run)
        except BaseExceptionGroup as group:
            raise lone_error(group) from None
        finally:
            if once and context.json:
                print_json({"files": msgspec.to_builtins(results)})
    failed = [result.file for result in results if result.state == "failed"]
    if failed and context.json:
        raise SystemExit(InputError.exit_code)  # the document says which
    if failed:
        what = "file" if len(failed) == 1 else "files"
        raise InputError(f"{len(failed)} {what} could not be read: {', '.join(failed[:5])}")


def _check_ids(file: Path, mapping: Mapping) -> None:
    """Refuse ids of row numbers alone: row 1 of the next file would be row 1 of this one."""
    assert mapping.id is not None
    if not mapping.id.columns():
        raise MappingError(
            f"{file}: the ids {mapping.id.template!r} would be the same in every file",
            'Name a column, as in id = { column = "request_id" }',
        )
