"""How sure the pairing is: how many events were paired by what, and what may be said of it."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

CONFIDENCES = ("certain", "likely", "possible")

_STEPS = {
    "id": "by id",
    "equal": "equal in all but an id",
    "time": "equal, and close in time",
    "near": "nearly equal, and close in time",
    "stretch": "as parts of a sum",
    "hour": "as parts of an hour's sum",
    "day": "as parts of a day's sum",
    "period": "as parts of the period's sum",
}

Pairing = Sequence[tuple[str, str, int]]  # step, confidence, pairs or parts of sums


def pairing_of(db: duckdb.DuckDBPyConnection) -> list[tuple[str, str, int]]:
    """How many pairs and parts of sums each step made, and how sure of them it is."""
    found = db.execute(
        """
        SELECT step, confidence, count(*) FROM (SELECT step, confidence FROM pairs
            UNION ALL SELECT step, confidence FROM groups) GROUP BY ALL
        """
    ).fetchall()
    order = list(_STEPS)
    return sorted(found, key=lambda row: (order.index(row[0]), CONFIDENCES.index(row[1])))


def step_words(step: str) -> str:
    """What a step of pairing goes by."""
    return _STEPS[step]


def pairing_words(pairing: Pairing) -> str:
    """A sentence on the pairing; empty if ids leave nothing to say."""
    if all(confidence == "certain" for _, confidence, _ in pairing):
        return ""
    parts = [f"{events:,} {_STEPS[step]} ({confidence})" for step, confidence, events in pairing]
    return f"Paired {', '.join(parts)}."
