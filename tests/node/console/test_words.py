"""How a channel is told: each state by its sentence and by what to do, the worst one first."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.node.console.words import standing_of

ME, PEER = "acme.example", "beta.example"


def _document(**changes: Any) -> dict[str, Any]:
    return {
        "peer": PEER,
        "connected": True,
        "own": {"party": ME, "size": 12, "cosigned": 12},
        "theirs": {"party": PEER, "size": 1, "cosigned": 1},
        "lag_records": 0,
        "lag_seconds": 0,
        "state": "open",
        "reason": "",
        "difference": "",
        "quota": {"held_bytes": 1, "limit_bytes": 2, "reached": False},
        "withheld": "",
        "clock_skew_seconds": 0.1,
        "evidence": [],
    } | changes


def _dispute(who: str | None) -> dict[str, Any]:
    return {"waits_for": who}


@pytest.mark.parametrize(
    ("changes", "disputes", "difference", "kind", "name", "said"),
    [
        ({}, [], "", "agreement", "In agreement", "12 of ours and 1 of beta.example’s"),
        ({"lag_records": 1, "lag_seconds": 0.5}, [], "", "agreement", "In agreement",
         "1 record of ours on the way"),
        ({"lag_records": 3, "lag_seconds": 200}, [], "", "lagging", "Lagging",
         "3 records of ours wait for the co-signature of beta.example; the last one came 3"),
        ({"connected": False}, [], "", "lagging", "Not connected", "was recorded is co-signed"),
        ({"connected": False, "lag_records": 1}, [], "", "lagging", "Lagging",
         "1 record of ours waits for its co-signature"),
        ({"state": "confirming"}, [], "", "lagging", "Confirming", "what it saw last"),
        ({"withheld": "its quota is reached"}, [], "", "lagging", "Lagging", "takes no more"),
        ({"quota": {"reached": True}}, [], "", "lagging", "Lagging", "reached its quota here"),
        ({}, [_dispute(ME)], "", "disputed", "Disputed", "A dispute is open; it waits for you."),
        ({}, [_dispute(PEER), _dispute(None), _dispute(None)], "", "disputed", "Disputed",
         "3 disputes are open: 1 waits for beta.example, 2 wait for both to agree"),
        ({"connected": False}, [_dispute(ME)], "line 3", "diverged", "Diverged",
         "compute different numbers: line 3"),
        ({"state": "halted", "reason": "a breach"}, [_dispute(ME)], "line 3", "halted", "Halted",
         "Stopped: a breach"),
        ({"state": "halted", "reason": "evidence 00", "evidence": ["00"]}, [], "", "halted",
         "Diverged", "signed two histories of one log: evidence 00"),
    ],
)  # fmt: skip
def test_each_state_has_its_words(
    changes: dict[str, Any],
    disputes: list[dict[str, Any]],
    difference: str,
    kind: str,
    name: str,
    said: str,
) -> None:
    found = standing_of(_document(difference=difference, **changes), disputes, ME)
    assert (found.kind, found.name) == (kind, name)
    assert said in found.says
    assert found.todo.endswith(".")
    assert found.notes == ()


def test_what_to_do_says_whose_move_it_is() -> None:
    mine = standing_of(_document(), [_dispute(ME)], ME)
    theirs = standing_of(_document(), [_dispute(PEER)], ME)
    both = standing_of(_document(), [_dispute(None)], ME)
    assert "what is not answered is upheld" in mine.todo
    assert theirs.todo == "beta.example has to answer in time."
    assert both.todo == "Settle it together."


def test_a_clock_that_is_off_is_noted() -> None:
    ahead = standing_of(_document(clock_skew_seconds=7300.0), [], ME)
    behind = standing_of(_document(clock_skew_seconds=-90.0), [], ME)
    assert ahead.notes == ("The clock of beta.example is 2 hours ahead of ours.",)
    assert behind.notes == ("The clock of beta.example is 1 minute behind ours.",)
