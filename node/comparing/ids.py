"""Pairing by id: the one way that is certain.

An id of which a side has several events pairs one with one; what is over on our side is a copy.
"""

from __future__ import annotations

from tallystick.node.comparing.tables import Tables


def pair_ids(tables: Tables) -> None:
    """Make `pairs` of what has the same id, `copies` of our other events of an id that has a pair
    or an earlier event, and `named`, the meters in which ids name anything at all.
    """
    tables.db.execute(
        """
        CREATE TABLE pairs (ours BIGINT, theirs BIGINT, step VARCHAR, confidence VARCHAR);
        CREATE TABLE groups
            (side VARCHAR, whole BIGINT, part BIGINT, step VARCHAR, confidence VARCHAR);
        CREATE TEMP TABLE ranked AS SELECT event, as_meter, id,
            row_number() OVER (PARTITION BY as_meter, id ORDER BY place) AS copy
        FROM ours_as WHERE id IS NOT NULL;
        CREATE TABLE copies AS SELECT event FROM ranked WHERE copy > 1;
        INSERT INTO pairs SELECT o.event, t.event, 'id', 'certain'
        FROM ranked o JOIN theirs_as t ON o.as_meter = t.as_meter AND o.id = t.id
        WHERE o.copy = 1;
        CREATE TABLE named AS SELECT DISTINCT as_meter AS meter FROM ranked
            SEMI JOIN pairs ON event = ours;
        """
    )
