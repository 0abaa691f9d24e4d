"""The deltas that are emitted, as a file of somebody's billing system."""

from __future__ import annotations

from pathlib import Path

from benchmarks import load

MAP = """\
time = { column = "time", zone = "UTC" }
id = { column = "id" }
subject = { column = "subject" }
[[meter]]
meter = "context-tokens"
quantity = { column = "quantity" }
"""


def export(file: Path, records: int, first: int = 0) -> None:
    """A CSV of the deltas of so many numbers."""
    with file.open("w") as out:
        out.write("time,id,subject,quantity\n")
        for d in map(load.draft, range(first, first + records)):
            out.write(f"{load.iso(d.occurred_at)},{d.id},{d.subject},{d.quantity}\n")
