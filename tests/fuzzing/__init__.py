"""Fuzzing of every decoder that sees foreign bytes.

`targets` maps names to functions of bytes; each asserts its decoder's contract and nothing else.
The same functions run three ways: over the kept corpus and a short seeded mutation in the tests
(`test_targets`), for as long as wanted under coverage guidance (`scripts/fuzz`), and on one file
(`scripts/fuzz TARGET FILE`). docs/testing.md says how to add one.
"""
