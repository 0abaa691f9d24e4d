"""The known answers about segments: footers, rows and edges of a small and of a whole one."""

from __future__ import annotations

import io
from typing import Any

import builders
import pyarrow.parquet

from tallystick.node.segments import SEGMENT
from tallystick.node.segments.files import write_segment
from tallystick.protocol.log import LogState, append
from tallystick.protocol.merkle import Frontier, chain_leaves
from tallystick.protocol.records import Delta, Role, decode_batch, encode_record
from tallystick.protocol.terms import channel_id


def _written(terms: Any, role: Role, parts: list[bytes]) -> tuple[dict[str, str], bytes]:
    out = io.BytesIO()
    header = write_segment(out, terms, role, 0, channel_id(terms), parts)
    return header.pairs(), out.getvalue()


def _rows(data: bytes) -> list[dict[str, Any]]:
    table = pyarrow.parquet.read_table(io.BytesIO(data))
    for name in ("occurred_at", "recorded_at"):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table[name].cast("int64"))
    return [{**row, "record": row["record"].hex()} for row in table.to_pylist()]


def segments(channel: builders.Channel) -> dict[str, Any]:
    """The vectors: a segment of a busy log's records, and a whole one by a rule."""
    terms = channel.terms
    log = channel.logs[0]
    parts = [part for batch in log.batches for part in decode_batch(batch)[1]]
    footer, data = _written(terms, "provider", parts)
    at = builders.OCTOBER_US
    whole = [encode_record(terms)] + [
        encode_record(Delta(f"evt-{n}", "tokens", "s", n, at + n, at + n, None))
        for n in range(1, SEGMENT)
    ]
    leaves = chain_leaves(channel_id(terms), whole)
    size = SEGMENT + 300
    longer = [
        encode_record(Delta(f"evt-{n}", "tokens", "s", n, at + n, at + n, None))
        for n in range(SEGMENT, size)
    ]
    state = append(LogState.empty(channel_id(terms)), [*whole, *longer], LogState.empty(b"").facts)
    frontier = state.state.frontier
    assert frontier.peaks[0] == Frontier.empty().extend(leaves).root()
    return {
        "terms": encode_record(terms).hex(),
        "small": {"role": "provider", "footer": footer, "rows": _rows(data)},
        "whole": {
            "rule": "record 0 is the terms; record n is the delta evt-n of tokens, subject s,"
            f" quantity n, occurred and recorded at {at} + n",
            "footer": _written(terms, "provider", whole)[0],
            "size": size,
            "edge": [peak.hex() for peak in frontier.peaks[1:]],
            "root": frontier.root().hex(),
        },
    }
