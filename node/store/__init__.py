"""The store: LMDB, its keys, and the index of ids beside it."""
