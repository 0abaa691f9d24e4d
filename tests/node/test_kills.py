"""Real kills, a few: `scripts/kill` does it for as long as one likes."""

from __future__ import annotations

from pathlib import Path

from killing.campaign import Campaign
from killing.mutants import MUTANTS


def test_nothing_acknowledged_is_lost_or_doubled_by_kills(tmp_path: Path) -> None:
    summary = Campaign(tmp_path, seed=11, kills=6).run()
    assert summary.findings == ()
    assert summary.kills == 6
    assert summary.acknowledged > 100
    assert summary.heads > 10


def test_a_node_that_says_more_than_it_holds_is_found(tmp_path: Path) -> None:
    code = MUTANTS["acknowledges before the commit"]
    assert Campaign(tmp_path, 3, 40, code=code, enough=1).run().findings
