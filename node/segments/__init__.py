"""Segments: records of closed periods as Parquet files, outside the store and still provable."""
