"""The job as a polars script does it: one full join by key. OURS THEIRS OUT; prints its version."""

import sys

import polars as pl

ours, theirs, out = sys.argv[1:]
joined = pl.scan_csv(ours).join(
    pl.scan_csv(theirs), on="id", how="full", suffix="_theirs", coalesce=False
)
what = (
    pl.when(pl.col("id_theirs").is_null())
    .then(pl.lit("added"))
    .when(pl.col("id").is_null())
    .then(pl.lit("missing"))
    .when(
        pl.any_horizontal(
            pl.col(c) != pl.col(f"{c}_theirs") for c in ("quantity", "subject", "time")
        )
    )
    .then(pl.lit("changed"))
)
found = joined.select(what.alias("what"), pl.coalesce("id", "id_theirs").alias("id"))
found.filter(pl.col("what").is_not_null()).collect(engine="streaming").write_csv(out)
print(f"polars {pl.__version__}")
