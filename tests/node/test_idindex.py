"""The id index: it finds every entry, across runs, merges and restarts, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.node.errors import StoreError
from tallystick.node.store.idindex import (
    MERGE_WIDTH,
    IdIndex,
    Run,
    fingerprints,
    merge_runs,
    write_run,
)


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=12),
    st.integers(0, 3),
)
def test_it_finds_what_a_dictionary_finds(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]], every: int
) -> None:
    folder = tmp_path_factory.mktemp("ids")
    index = IdIndex(folder, 7, [])
    model: dict[int, list[int]] = {}
    size = covered = 0
    for number, batch in enumerate(batches):
        index.add(batch, range(size, size + len(batch)))
        for place, value in enumerate(batch, size):
            model.setdefault(value, []).append(place)
        size += len(batch)
        if every and number % every == 0 and size > covered:
            index.write(covered, size)
            covered = size
            while group := index.mergeable():
                index.replace(group, index.merge(group))
    wanted = list(range(41))
    found = {value: sorted(places) for value, places in index.find(wanted).items()}
    assert found == model
    again = IdIndex(folder, 7, index.rows())
    index.close()
    flushed = {v: [p for p in places if p < covered] for v, places in model.items()}
    assert {v: sorted(p) for v, p in again.find(wanted).items()} == {
        v: p for v, p in flushed.items() if p
    }
    again.close()


def test_entries_beyond_the_flush_stay_in_memory(tmp_path: Path) -> None:
    index = IdIndex(tmp_path, 1, [])
    index.add([10, 20, 30], range(3))
    index.write(0, 2)
    assert index.recent == 1
    assert index.find([10, 20, 30]) == {10: [0], 20: [1], 30: [2]}
    index.close()


def test_merging_keeps_the_number_of_runs_small(tmp_path: Path) -> None:
    index = IdIndex(tmp_path, 1, [])
    for number in range(64):
        index.add([number], [number])
        index.write(number, number + 1)
        while group := index.mergeable():
            index.replace(group, index.merge(group))
    assert len(index.rows()) <= 3 * MERGE_WIDTH
    assert len(list(tmp_path.iterdir())) == len(index.rows())
    assert len(index.find(list(range(64)))) == 64
    index.close()


def test_a_truncated_run_is_noticed(tmp_path: Path) -> None:
    write_run(tmp_path / "r", np.array([1, 2], dtype=np.uint64), np.array([0, 1], dtype=np.uint64))
    (tmp_path / "r").write_bytes((tmp_path / "r").read_bytes()[:-1])
    with pytest.raises(StoreError, match="wrong size"):
        Run(tmp_path / "r", 2)


def test_fingerprints_depend_on_the_seed() -> None:
    assert fingerprints([b"a\0b"], 1) != fingerprints([b"a\0b"], 2)


def test_blocks_hold_what_was_put_in_slice_by_slice(tmp_path: Path) -> None:
    dice = np.random.default_rng(7)
    index = IdIndex(tmp_path, 1, [])
    size = 0
    for entries in (1, 255, 256, 257, 3000):
        prints = dice.integers(0, 3000, entries, dtype=np.uint64)  # many of them more than once
        index.add(prints.tolist(), range(size, size + entries))
        index.write(size, size + entries)
        size += entries
    before = index.find(range(3000))
    runs = [Run(tmp_path / row.file, row.entries) for row in index.rows()]
    merged = merge_runs(tmp_path / "merged", runs)
    whole = Run(tmp_path / "merged", merged)
    assert merged == size
    assert whole.examine() == ""
    found: dict[int, list[int]] = {}
    for value, place in whole.find(np.arange(3000, dtype=np.uint64)):
        found.setdefault(value, []).append(place)
    assert {value: sorted(places) for value, places in found.items()} == {
        value: sorted(places) for value, places in before.items()
    }
    prints, indexes = whole.slice(0, merged)
    for start, stop in ((0, 0), (0, 1), (255, 257), (256, 512), (700, merged), (merged, merged)):
        part = whole.slice(start, stop)
        assert np.array_equal(part[0], prints[start:stop])
        assert np.array_equal(part[1], indexes[start:stop])
    for run in (*runs, whole):
        run.close()
    index.close()


def test_a_run_that_ends_otherwise_is_noticed(tmp_path: Path) -> None:
    write_run(tmp_path / "r", np.array([1], dtype=np.uint64), np.array([0], dtype=np.uint64))
    data = (tmp_path / "r").read_bytes()
    (tmp_path / "r").write_bytes(data[:-1] + b"?")
    run = Run(tmp_path / "r", 1)
    assert run.examine() == "r does not end as a run does"
    run.close()
