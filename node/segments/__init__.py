"""Segments: records of closed periods as Parquet files, outside the store and still provable."""

SEGMENT = 65_536  # 256 × 256 records: a segment's root is one of the tree's tiles
GROUP = 8192  # records a row group: what is read at once for one of them
