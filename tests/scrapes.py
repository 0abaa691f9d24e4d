"""What /metrics says, as values by name and labels; a monitor of a node that serves nobody."""

from __future__ import annotations

from collections import Counter
from typing import Any

from homes import Side
from prometheus_client.parser import text_string_to_metric_families

from tallystick.node.node import Node
from tallystick.node.telemetry.monitor import Monitor


class Scrape:
    """The values of one exposition."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """The one value with this name (without `tallystick_`) and these labels, among others."""
        (found,) = self.all(name, **labels)
        return found

    def all(self, name: str, **labels: str) -> list[float]:
        """Every such value."""
        return [
            sample.value
            for sample in self.samples
            if sample.name == f"tallystick_{name}" and labels.items() <= sample.labels.items()
        ]

    def labels(self, name: str) -> list[dict[str, str]]:
        """The labels of every value with a name."""
        return [s.labels for s in self.samples if s.name == f"tallystick_{name}"]


def monitor_of(side: Side, **others: Any) -> Monitor:
    """The monitor of a node whose store runs and which listens nowhere."""
    return Monitor(Node(side.home, side.books), Counter(), **others)


async def scrape(monitor: Monitor) -> Scrape:
    """What it says now."""
    body, _ = await monitor.expose()
    return Scrape(body.decode())
