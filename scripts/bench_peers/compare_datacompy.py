"""The job as datacompy does it, on polars. OURS THEIRS OUT; prints the versions."""

import sys

import datacompy
import polars as pl

ours, theirs, out = sys.argv[1:]
found = datacompy.PolarsCompare(pl.read_csv(ours), pl.read_csv(theirs), join_columns="id")
parts = (
    ("added", found.df1_unq_rows),
    ("missing", found.df2_unq_rows),
    ("changed", found.all_mismatch()),
)
pl.concat(
    [rows.select(pl.lit(what).alias("what"), pl.col("id")) for what, rows in parts]
).write_csv(out)
print(f"datacompy {datacompy.__version__}, polars {pl.__version__}")
