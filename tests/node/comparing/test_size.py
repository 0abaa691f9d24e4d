"""More events than memory holds: the same result from the disk; a plain word when it is full."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import builders
import numpy as np
import pyarrow
import pytest
from explaining import classes

from tallystick.node.comparing.explaining import Explainer
from tallystick.node.comparing.tables import EVENTS, told_plainly
from tallystick.node.errors import StoreError

SIZE = 250_000
START, END = 0, 10**15
SMALL = 128_000_000  # bytes of memory for what takes several times as much
TOKENS = builders.meter("tokens")


def _table(rows: Any, late_us: int, prefix: str) -> Any:
    texts = pyarrow.array(rows).cast(pyarrow.string())
    columns = [
        pyarrow.array(rows),
        pyarrow.compute.binary_join_element_wise(prefix, texts, "-"),
        pyarrow.repeat("tokens", len(rows)),
        pyarrow.compute.binary_join_element_wise(
            "project", pyarrow.array(rows % 97).cast(pyarrow.string()), "-"
        ),
        pyarrow.array(rows % 1000 + 1),
        pyarrow.array(rows * 1_000_000 + late_us),
        pyarrow.nulls(len(rows), pyarrow.string()),
        pyarrow.nulls(len(rows), pyarrow.string()),
    ]
    return pyarrow.Table.from_arrays([c.cast(f.type) for c, f in zip(columns, EVENTS, strict=True)],
                                     schema=EVENTS)  # fmt: skip


def _matched(folder: Path | None, memory_bytes: int) -> Explainer:
    explainer = Explainer([TOKENS], START, END, folder, memory_bytes=memory_bytes)
    rows = np.arange(SIZE)
    explainer.load_columns("ours", [_table(rows[rows % 5000 != 3], 700_000, "ours")])
    explainer.load_columns("theirs", [_table(rows, 0, "theirs")])
    explainer.explain()
    return explainer


def test_what_does_not_fit_into_memory_is_on_the_disk(tmp_path: Path) -> None:
    results = []
    for folder, memory_bytes in ((tmp_path, SMALL), (None, 2_000_000_000)):
        explainer = _matched(folder, memory_bytes)
        try:
            spilled = [path for path in tmp_path.rglob("*") if path.is_file()]
            assert bool(spilled) == bool(folder)
            results.append((classes(explainer), explainer.pairing(TOKENS)))
        finally:
            explainer.close()
    assert results[0] == results[1]
    assert results[0][1]["likely"] == SIZE - SIZE // 5000
    assert not list(tmp_path.iterdir())


@contextmanager
def _files_of_at_most(size: int) -> Iterator[None]:
    """What a full disk does to a write, without filling one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_plainly_and_nothing_is_left_on_it(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match="the engine that compares stopped") as caught,
        told_plainly(tmp_path),
        _files_of_at_most(1_000_000),
    ):
        explainer = Explainer([TOKENS], START, END, tmp_path, memory_bytes=SMALL)
        try:
            rows = np.arange(SIZE)
            for part in np.array_split(rows, 4):
                explainer.load_columns("ours", [_table(part, 0, "ours")])
        finally:
            explainer.close()
    assert str(tmp_path) in caught.value.advice
    assert not list(tmp_path.iterdir())
