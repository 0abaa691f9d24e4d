"""What was found: causes as hypotheses, numbered, and what pairing and effects need of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tallystick.node.comparing.causes.clocks import Clocks, Stretch
from tallystick.node.comparing.causes.factors import Factor
from tallystick.node.comparing.causes.names import MeterNames, Renaming
from tallystick.node.comparing.causes.roundings import Rounding
from tallystick.node.comparing.causes.sums import Sums
from tallystick.protocol.compare import Confidence


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A cause before its effects are known. `klass` is where it goes if it has no effect at all."""

    kind: str
    klass: str
    confidence: Confidence
    facts: Mapping[str, str]
    says: str
    meters: tuple[str, ...] = ()  # those it concerns even without an effect
    events: int = 0  # that it concerns without an effect on the sum


@dataclass(slots=True)
class Found:
    """All hypotheses, numbered from 0, and the numbers of those that effects need to know."""

    causes: list[Hypothesis] = field(default_factory=list)
    clocks: Clocks | None = None
    offsets: list[tuple[Stretch, int]] = field(default_factory=list)
    late: int | None = None  # the lag or the cut-off
    factors: list[tuple[Factor, int]] = field(default_factory=list)
    roundings: list[tuple[Rounding, int]] = field(default_factory=list)
    meter_names: list[tuple[MeterNames, int]] = field(default_factory=list)
    subjects: list[Renaming] = field(default_factory=list)
    sums: Sums | None = None

    def add(self, cause: Hypothesis) -> int:
        """Number a cause."""
        self.causes.append(cause)
        return len(self.causes) - 1


def sure(by_id: bool, agreeing: float) -> Confidence:
    """How sure a cause is that this part of the pairs agrees with: `certain` needs ids."""
    if agreeing >= 0.95 and by_id:
        return "certain"
    return "likely" if agreeing >= 0.75 else "possible"
