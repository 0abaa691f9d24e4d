"""The job as a DuckDB script does it: one full join by key. OURS THEIRS OUT; prints its version."""

import sys

import duckdb

ours, theirs, out = sys.argv[1:]
db = duckdb.connect()
for name, file in (("ours", ours), ("theirs", theirs)):
    db.execute(f"CREATE VIEW {name} AS SELECT * FROM read_csv('{file}')")
db.execute(
    f"""
    COPY (
        SELECT CASE WHEN t.id IS NULL THEN 'added' WHEN o.id IS NULL THEN 'missing'
            ELSE 'changed' END AS what, coalesce(o.id, t.id) AS id
        FROM ours o FULL JOIN theirs t ON o.id = t.id
        WHERE o.id IS NULL OR t.id IS NULL OR o.quantity <> t.quantity
            OR o.subject <> t.subject OR o.time <> t.time
    ) TO '{out}' (HEADER)
    """
)
print(f"duckdb {duckdb.__version__}")
