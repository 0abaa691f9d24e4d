"""Real kills, a few: `scripts/kill` does it for as long as one likes."""

from __future__ import annotations

from pathlib import Path

from killing.campaign import Campaign


def test_nothing_acknowledged_is_lost_or_doubled_by_kills(tmp_path: Path) -> None:
    summary = Campaign(tmp_path, seed=11, kills=6).run()
    assert summary.findings == ()
    assert summary.kills == 6
    assert summary.acknowledged > 100
    assert summary.heads > 10
    assert summary.matters > 5
    assert summary.declarations > 1
