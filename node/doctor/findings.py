"""What an examination finds: checks that hold or do not, and the rows that are damaged."""

from __future__ import annotations

from dataclasses import dataclass, field

from tallystick.protocol.records import Terms


@dataclass(frozen=True, slots=True)
class Check:
    """One check: whether it holds, or None if damage elsewhere keeps it from being judged."""

    name: str
    ok: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class Damaged:
    """A row that is not what was written, as it is on the disk, and how that shows."""

    table: str
    key: bytes
    stored: bytes
    why: str


@dataclass(slots=True)
class LogFindings:
    """One log as its records are.

    `size` is how many records are there in a row and readable. `sound` is the newest signed head
    whose root they give. `torn` says that something after `sound` cannot be right, so the log can
    only go on from there; `remake` that rows which follow from the records are not what they give.
    Records before `kept_from` are in segments alone; `unreadable` says which of those is not there.
    """

    number: int
    channel_id: bytes
    terms: Terms
    size: int = 0
    sound: int = 0
    torn: bool = False
    remake: bool = False
    kept_from: int = 0
    unreadable: str = ""


@dataclass(slots=True)
class Findings:
    """All that an examination found."""

    checks: list[Check] = field(default_factory=list)
    damaged: list[Damaged] = field(default_factory=list)
    logs: list[LogFindings] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)

    def say(self, name: str, faults: list[str], fine: str) -> None:
        """Add a check: it holds unless there are faults, of which it names the first."""
        self.checks.append(Check(name, not faults, told(faults) if faults else fine))


def told(faults: list[str]) -> str:
    """The first fault, and how many more there are."""
    more = len(faults) - 1
    return faults[0] + (f" (and {more} more)" if more else "")
