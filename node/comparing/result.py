"""What a comparison found: what the terminal's report, the page and the JSON are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tallystick.node.comparing.timeline import Timeline
from tallystick.protocol.compare import Cause, MeterComparison, comparison_document

Example = tuple[str, str, int | None]  # a step: its meter, its class and its cause's number

CONFIDENCES = ("certain", "likely", "possible")  # that a pair is one, surest first


class Finding(NamedTuple):
    """One difference: its class, both sides of it where there are two, and what it amounts to."""

    meter: str
    kind: str
    id: str | None
    subject: str
    our_place: int | None
    our_at: int | None
    our_quantity: int | None
    their_place: int | None
    their_at: int | None
    their_quantity: int | None
    effect: int
    confidence: str | None = None  # the pair's; None if there is only one side
    cause: int | None = None  # the number of the cause that explains it


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found."""

    file: Path
    period: str
    us: str
    them: str
    meters: Sequence[MeterComparison]
    examples: Mapping[Example, Sequence[Finding]]  # the first events of each step
    rejected: int  # rows of the file that could not be read
    first_reject: str
    events_file: Path | None
    causes: Sequence[Cause] = ()  # from the largest part to the smallest; numbered from 1
    pairing: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # by meter: how sure
    scales: Mapping[str, int] = field(default_factory=dict)  # of single events, by meter
    timelines: Mapping[str, Timeline] = field(default_factory=dict)  # by meter, where asked for
    statuses: Mapping[str, str] = field(default_factory=dict)  # how sure the record is, by meter
    against: str = "the record"  # what the file is compared with
    of_exports: bool = False  # whether that is no record, but the peer's own export

    def event_scale(self, meter: MeterComparison) -> int:
        """The scale of a meter's single events; that of a count's total is another."""
        return self.scales.get(meter.meter, meter.scale)

    @property
    def within_tolerance(self) -> bool:
        """Whether the terms tolerate every meter's difference, between what could be read."""
        return all(meter.within_tolerance for meter in self.meters)

    def document(self) -> dict[str, Any]:
        """The comparison as JSON has it."""
        events = str(self.events_file) if self.events_file else None
        document = comparison_document(self.meters, events, self.causes)
        for name, status in self.statuses.items():
            document["meters"][name]["status"] = status
        return document | {"rejected": self.rejected}
