"""Benchmarks of real nodes: one a file, each module with a `BENCHMARK` is one.

A new one is a new file: a function that takes a `Bench` (bench.py here) and fills its `figures`,
and `BENCHMARK = Benchmark(name, records, measure, limits)`. It is found by itself; `catalog.py` has
the order in which all of them run.
"""
