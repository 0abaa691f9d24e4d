"""A second node of the same party: it mirrors the first, serves reads, and can take over."""
