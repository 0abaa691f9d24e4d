"""Look-ups of single records: in a row, far apart, and across batches."""

from __future__ import annotations

from pathlib import Path

import builders
import homes
import pytest

from tallystick.node import lookups
from tallystick.node.importing.drafts import Draft
from tallystick.protocol.records import Delta


@pytest.mark.parametrize("step", [1, 7, -1])
async def test_every_record_is_found_however_they_are_asked_for(tmp_path: Path, step: int) -> None:
    async with homes.founded(tmp_path) as (side, _):
        for first in range(0, 90, 10):
            drafts = [
                Draft(f"t{n}", "tokens", "s1", n, builders.OCTOBER_US)
                for n in range(first, first + 10)
            ]
            await side.channel.emit(drafts)
        own = side.channel.own
        assert own.lookups.empty
        for turn in range(90):
            n = turn * step % 90
            record = own.lookups.record(n + 1)
            assert isinstance(record, Delta)
            assert record.quantity == n
        assert 0 < len(own.lookups._decoded) <= lookups.BATCHES_MAX
        first, records = own.lookups.batch_around(50)
        assert [first, len(records)] == [41, 10]
        own.rest()
        assert own.lookups.empty
