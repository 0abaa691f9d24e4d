"""The job as reladiff does it, in a DuckDB database. OURS THEIRS OUT; prints the versions.

It refuses keys that occur twice, so that check is turned off.
"""

import csv
import sys
from importlib.metadata import version
from pathlib import Path

import duckdb
import reladiff

ours, theirs, out = sys.argv[1:]
file = Path(out).with_suffix(".duckdb")
with duckdb.connect(str(file)) as db:
    for name, source in (("ours", ours), ("theirs", theirs)):
        db.execute(f"CREATE TABLE {name} AS SELECT * FROM read_csv('{source}')")
tables = [
    reladiff.connect_to_table({"driver": "duckdb", "filepath": str(file)}, name, "id")
    for name in ("ours", "theirs")
]
signs: dict[str, set[str]] = {}
found_rows = reladiff.diff_tables(
    *tables, extra_columns=("time", "subject", "quantity"), validate_unique_key=False
)
for sign, row in found_rows:
    signs.setdefault(row[0], set()).add(sign)
names = {("-",): "added", ("+",): "missing", ("+", "-"): "changed"}
with Path(out).open("w", newline="") as opened:
    writer = csv.writer(opened)
    writer.writerow(["what", "id"])
    writer.writerows([names[tuple(sorted(found))], key] for key, found in signs.items())
print(f"reladiff {version('reladiff')}, duckdb {duckdb.__version__}")
