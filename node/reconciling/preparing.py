"""Preparing a file for reconciliation: its rows of one period, and those near it.

The command line does it before it asks or offers; for a standing rule the node has it done by
another process (`python -m tallystick.node.reconciling.preparing`), so that reading a large file
takes nothing from the channels.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.files import whole_folder
from tallystick.node.home import open_home
from tallystick.node.importing.drafts import Draft, read_drafts
from tallystick.node.importing.mapping import Mapping, load_mapping
from tallystick.node.reconciling.sets import About, PreparedSet, Writer, folder_of, write_about
from tallystick.protocol.errors import MappingError, TallyError
from tallystick.protocol.rowset import By, Likeness, Row
from tallystick.protocol.terms import meter_named

RESOLUTION_US = 1_000_000

Told = Callable[[int, int], None]  # rows read, bytes read


class Request(Struct, frozen=True, forbid_unknown_fields=True):
    """What to prepare. `by` is "" to compare by id if the mapping has one; `resolution_us` counts
    without ids only.
    """

    file: str
    mapping_file: str
    period: str
    opens_max: int
    by: By | None = None
    resolution_us: int = RESOLUTION_US
    expires_at_s: int = 0


def prepare(
    home: Path, channel: Channel, request: Request, told: Told = lambda rows, size: None
) -> PreparedSet:
    """Prepare a file's rows of a period, in a new folder in the home."""
    mapping = load_mapping(Path(request.mapping_file))
    names = tuple(sorted({mapped.meter for mapped in mapping.meters}))
    meters = {name: meter_named(channel.terms, name) for name in names}
    likeness = _likeness(request, mapping, [m.match_window_us for m in meters.values()])
    calendar = channel.own.folder.calendar
    period = calendar.parse(request.period)
    reach = (calendar.period_of(period.start_us - 1).start_us, calendar.next(period).end_us)
    rejected, first_reject, read = 0, "", 0
    path = folder_of(home) / secrets.token_hex(8)
    with whole_folder(path) as folder:
        writer = Writer(folder, likeness, names)
        for batch in read_drafts(Path(request.file), mapping, meters):
            rejected += len(batch.rejects)
            if batch.rejects and not first_reject:
                reject = batch.rejects[0]
                first_reject = f"row {reject.row}, {reject.column}: {reject.reason}"
            made = [_row(draft) for draft in batch.drafts]
            rows = list(zip(batch.draft_rows, made, strict=True))
            inside = [one for one in rows if period.start_us <= one[1].occurred_at < period.end_us]
            writer.add(inside)
            if len(inside) < len(rows):
                writer.add_near(
                    (file_row, row)
                    for file_row, row in rows
                    if reach[0] <= row.occurred_at < reach[1]
                    and not period.start_us <= row.occurred_at < period.end_us
                )
            read += batch.rows_read
            told(read, batch.bytes_read)
        count = writer.finish()
        about = About(
            channel.id.hex(),
            channel.peer_keys.name,
            request.file,
            period.label,
            period.start_us,
            period.end_us,
            reach,
            names,
            likeness.by,
            likeness.resolution_us,
            likeness.kin_us,
            request.opens_max,
            count,
            rejected,
            first_reject,
            request.expires_at_s,
        )
        write_about(folder, about)
    return PreparedSet(path)


def _likeness(request: Request, mapping: Mapping, windows_us: list[int]) -> Likeness:
    by: By = request.by or ("id" if mapping.id else "content")
    if by == "id" and mapping.id is None:
        raise MappingError(
            f"{request.mapping_file}: rows are to be compared by id, and no id is mapped",
            "Map one, or compare by content: --by content at both sides",
        )
    resolution_us = 1 if by == "id" else request.resolution_us
    return Likeness(by, resolution_us, max(resolution_us, *windows_us))


def _row(draft: Draft) -> Row:
    return Row(draft.meter, draft.id, draft.subject, draft.quantity, draft.occurred_at, 0)


def _main() -> int:
    """Prepare what standard input says, as `[home, channel id in hex, request]` in JSON; print the
    folder's name.
    """
    source = sys.stdin.buffer.read()
    home_path, key, request = msgspec.json.decode(source, type=tuple[str, str, Request])
    try:
        books = Books.open(open_home(Path(home_path)), read_only=True)
        try:
            channel, _ = books.channels[bytes.fromhex(key)]
            sys.stdout.write(prepare(Path(home_path), channel, request).name)
        finally:
            books.close()
    except TallyError as error:
        sys.stderr.write(str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_main())
