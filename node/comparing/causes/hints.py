"""Hints: pairs that are sure before anything is adjusted, from which causes are guessed.

Where ids are shared, they are the hints. Where they are not, an event is paired by a key that the
likely causes leave alone and that is unique on both sides: the instant's place within its quarter
of an hour (a wrong zone keeps it), three quantities in a row divided by what they have in common (a
unit, a lag and a new name keep them), or the quantities themselves. Keys whose pairs do not agree
in time are dropped. Hints are a sample of bounded size, always the same for the same events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb
import numpy
import pyarrow

from tallystick.node.comparing.causes.preparing import SAMPLE_ROWS

QUARTER_US = 900_000_000
DAY_US = 96 * QUARTER_US
NEAR_US = 4 * QUARTER_US  # pairs of a key that holds agree in time within this
PAIRS_MIN = 12  # fewer pairs of a key without ids say nothing
AGREEING_MIN = 0.5  # of the pairs of a key that holds

Numbers = numpy.typing.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Hints:
    """Pairs of events, column by column: quantities in the meter's scale, instants in µs UTC."""

    by_id: bool
    ours: Numbers  # events' numbers
    theirs: Numbers
    our_meters: Numbers
    their_meters: Numbers
    our_subjects: Numbers
    their_subjects: Numbers
    our_quantities: Numbers
    their_quantities: Numbers
    our_instants: Numbers
    their_instants: Numbers
    our_sessions: Numbers
    their_sessions: Numbers

    def __len__(self) -> int:
        return len(self.ours)

    @property
    def later(self) -> Numbers:
        """Our time minus theirs, in µs."""
        return self.our_instants - self.their_instants

    def only(self, chosen: Numbers) -> Hints:
        """Some of them, by a mask or by places."""
        columns = [getattr(self, name) for name in self.__slots__[1:]]
        return Hints(self.by_id, *(column[chosen] for column in columns))


_COLUMNS = """o.event, t.event, o.as_meter, t.as_meter, o.subject, t.subject, o.as_quantity,
    t.as_quantity, o.instant, t.instant, o.session, t.session"""


def find_hints(db: duckdb.DuckDBPyConnection) -> Hints:
    """The hints, from the views `ours_as` and `theirs_as`."""
    _sample(db, "id")
    by_id = _fetch(
        db,
        f"""SELECT {_COLUMNS} FROM sampled_ours o JOIN sampled_theirs t
        ON o.id = t.id AND o.as_meter = t.as_meter ORDER BY o.event, t.event""",
        True,
    )
    ((smaller,),) = db.execute(
        "SELECT least((SELECT count(*) FROM sampled_ours), (SELECT count(*) FROM sampled_theirs))"
    ).fetchall()
    if len(by_id) >= max(PAIRS_MIN, smaller // 50) and not _are_of_others(db, by_id):
        return by_id
    _sample(db, "subject")  # whole subjects, because what is beside an event tells more of it
    return _without_ids(db)


def _are_of_others(db: duckdb.DuckDBPyConnection, pairs: Hints) -> bool:
    """Whether ids name other events there than here, as numbers of rows do after a lost one: most
    pairs differ, and most of our events that do have an equal one under some other id.
    """
    differ = (pairs.our_quantities != pairs.their_quantities) | (pairs.later != 0)
    if 2 * differ.sum() <= len(pairs):
        return False
    db.register("differing", pyarrow.table({"event": pairs.ours[differ]}))
    ((elsewhere,),) = db.execute(
        """SELECT count(*) FROM (FROM ours_as SEMI JOIN differing USING (event))
        SEMI JOIN theirs_as USING (as_meter, subject, as_quantity, instant)"""
    ).fetchall()
    db.unregister("differing")
    return bool(2 * elsewhere >= differ.sum())


def _sample(db: duckdb.DuckDBPyConnection, by: str) -> None:
    """Make `sampled_ours` and `sampled_theirs`, of the same ids or subjects of both sides."""
    (size,) = db.execute(
        "SELECT greatest((SELECT count(*) FROM ours), (SELECT count(*) FROM theirs))"
    ).fetchone()  # type: ignore[misc]
    every = max(size // SAMPLE_ROWS, 1)
    for side in ("ours", "theirs"):
        db.execute(
            f"CREATE OR REPLACE TEMP TABLE sampled_{side} AS SELECT * FROM {side}_as"
            f" WHERE hash({by}) % {every} = 0"
        )


def _fetch(db: duckdb.DuckDBPyConnection, query: str, by_id: bool) -> Hints:
    found = db.execute(query).fetchnumpy()
    columns = [numpy.ma.filled(column, None) if column.dtype == object else column
               for column in (numpy.asanyarray(c) for c in found.values())]  # fmt: skip
    return Hints(by_id, *columns[:12])


# Keys that hold under different causes: an expression over a row and what is beside it in time.
_KEYS = {
    "phase": f"instant % {QUARTER_US}",
    "run of a subject": "hash(subject, s0 // s_gcd, s1 // s_gcd, s2 // s_gcd)",
    "run": "hash(r0 // r_gcd, r1 // r_gcd, r2 // r_gcd)",
    "row of a subject": "hash(subject, whole)",
    "row": "hash(whole)",
    "quantity of a subject": "hash(subject, as_quantity)",
    "quantity": "hash(as_quantity)",
}


def _without_ids(db: duckdb.DuckDBPyConnection) -> Hints:
    for side in ("ours", "theirs"):
        db.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE keyed_{side} AS
            SELECT *, gcd(gcd(s0, s1), s2) AS s_gcd, gcd(gcd(r0, r1), r2) AS r_gcd FROM (
                SELECT *, as_quantity AS s0, lead(as_quantity, 1) OVER s AS s1,
                    lead(as_quantity, 2) OVER s AS s2, as_quantity AS r0,
                    lead(as_quantity, 1) OVER r AS r1, lead(as_quantity, 2) OVER r AS r2,
                    list_sort(list(as_quantity) OVER
                        (PARTITION BY coalesce(id, place::VARCHAR), instant, subject)) AS whole
                FROM sampled_{side} WHERE as_quantity <> 0
                WINDOW s AS (PARTITION BY as_meter, subject ORDER BY instant, event),
                    r AS (PARTITION BY as_meter ORDER BY instant, event))
            """
        )
    found = []
    for key in _KEYS.values():
        once = (
            "SELECT *, {key} AS key FROM keyed_{side} QUALIFY count(*) OVER"
            " (PARTITION BY as_meter, {key}) = 1"
        )
        pairs = _fetch(
            db,
            f"""SELECT {_COLUMNS} FROM ({once.format(key=key, side="ours")}) o
            JOIN ({once.format(key=key, side="theirs")}) t
            ON o.as_meter = t.as_meter AND o.key = t.key AND abs(o.instant - t.instant) < {DAY_US}
            ORDER BY o.event""",
            False,
        )
        found.append(_agreeing(pairs))
    return _of_all_meters(db, max(found, key=len))


def _of_all_meters(db: duckdb.DuckDBPyConnection, pairs: Hints) -> Hints:
    """The pairs of all meters of the rows that are paired by one."""
    if not len(pairs):
        return pairs
    known = pyarrow.table({"ours": pairs.ours, "theirs": pairs.theirs})
    db.register("known", known)
    row = "(SELECT *, coalesce(id, place::VARCHAR) AS row FROM sampled_{})"
    same = "x.row = y.row AND x.instant = y.instant AND x.subject = y.subject"
    more = _fetch(
        db,
        f"""
        WITH mine AS (SELECT ours, y.* FROM known JOIN {row.format("ours")} x ON x.event = ours
                JOIN {row.format("ours")} y ON {same}),
            other AS (SELECT theirs, y.* FROM known JOIN {row.format("theirs")} x
                ON x.event = theirs JOIN {row.format("theirs")} y ON {same})
        SELECT DISTINCT {_COLUMNS} FROM known JOIN mine o USING (ours) JOIN other t USING (theirs)
        WHERE o.as_meter = t.as_meter ORDER BY 1, 2
        """,
        False,
    )
    db.unregister("known")
    return more


def _agreeing(pairs: Hints) -> Hints:
    """The pairs of a key that agree in time, or none if they are not most of them.

    Two clusters are kept: a zone that was wrong for a while gives two.
    """
    if len(pairs) < PAIRS_MIN:
        return pairs.only(numpy.zeros(len(pairs), bool))
    quarters = pairs.later // NEAR_US
    kept = numpy.zeros(len(pairs), bool)
    values, counts = numpy.unique(quarters, return_counts=True)
    for place in numpy.argsort(-counts, kind="stable")[:2]:
        if counts[place] >= max(PAIRS_MIN, len(pairs) // 10):
            middle = numpy.median(pairs.later[quarters == values[place]])
            kept |= numpy.abs(pairs.later - middle) <= NEAR_US
    if kept.sum() < AGREEING_MIN * len(pairs):
        kept[:] = False
    return pairs.only(kept)
