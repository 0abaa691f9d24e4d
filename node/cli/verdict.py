"""How verbs say a verdict: a line for each meter."""

from __future__ import annotations

from typing import Any

from tallystick.node.cli.output import folded, say


def say_verdict(document: dict[str, Any], provider: str, consumer: str) -> None:
    """Say a verdict, given as JSON has it, between two parties."""
    from tallystick.protocol.verdict import MeterVerdict, describe_meter

    for row in document["meters"]:
        values = {name: row[name] for name in MeterVerdict.__struct_fields__}
        say(folded(f"  {describe_meter(MeterVerdict(**values), provider, consumer)}", 4))
