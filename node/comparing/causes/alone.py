"""What has no partner: the causes of it, after those that pairs tell.

In this order: beyond what the other side's list reaches, because of a clock; attempts and copies;
a feed that is missing; what the outcomes say; a sample. Each explains only what the ones before it
have left.
"""

from __future__ import annotations

from tallystick.node.comparing.causes import copies, edges, feeds, outcomes, samplings
from tallystick.node.comparing.causes.found import Found
from tallystick.node.comparing.tables import Tables


def explain_alone(tables: Tables, found: Found) -> None:
    """Give findings of one side the causes that explain them."""
    edges.explain(tables, found)
    copies.explain(tables, found)
    feeds.explain(tables, found)
    outcomes.explain(tables, found)
    samplings.explain(tables, found)
