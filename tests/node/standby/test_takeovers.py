"""Real takeovers, a few: `scripts/kill --takeovers` does it for as long as one likes."""

from __future__ import annotations

from pathlib import Path

import pytest
from killing.takeover import Takeovers


@pytest.mark.parametrize("place", [0, 1])  # whose name sorts first, so who dials, is another
def test_nothing_acknowledged_is_lost_when_standbys_take_over(tmp_path: Path, place: int) -> None:
    summary = Takeovers(tmp_path, seed=5 + place, takeovers=3, place=place).run()
    assert summary.findings == ()
    assert summary.takeovers == summary.fenced == 3
    assert summary.at_takeovers > 0
    assert summary.acknowledged > 30
