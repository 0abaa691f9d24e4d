"""Two parties who dispute, in memory: each says what it has to say in its log, at times of its own.

Days are counted from the beginning of December 2026, after October is closed. A party's clock says
the day that it is told, and never goes back within its log.
"""

from __future__ import annotations

from collections.abc import Iterable

from builders import DAY_US, DECEMBER_US, OCTOBER_US, OTHER, Channel, MemoryLog

from tallystick.protocol.derive import Folder
from tallystick.protocol.disputes import Standing, standings
from tallystick.protocol.heads import cosign_head
from tallystick.protocol.records import (
    Answer,
    Attested,
    Close,
    Dispute,
    DisputeCode,
    Lapse,
    Named,
    Reminder,
    Resolution,
    Role,
    Withdrawal,
    record_digest,
)
from tallystick.protocol.replay import examine_log, replay_sides

ANSWER_DAYS, DISPUTE_DAYS = 29, 15  # the clocks of the known terms


class Quarrel(Channel):
    """A channel whose parties dispute; what a call appends is by the log's `role`."""

    def log(self, role: Role) -> MemoryLog:
        """A party's log."""
        return self.provider_log if role == "provider" else self.consumer_log

    def at(self, role: Role, day: float) -> int:
        """A day as the time of a party's next record."""
        now = DECEMBER_US + round(day * DAY_US)
        return max(now, self.log(role).state.facts.recorded_at)

    def count(
        self, meter: str, provider: int, consumer: int, occurred_at: int = OCTOBER_US
    ) -> None:
        """Each party records a quantity (the provider alone what it alone records)."""
        for log, quantity in zip(self.logs, (provider, consumer), strict=True):
            if log.role == "provider" or meter != "gpu-hours":
                log.delta(f"d{log.state.size}", meter, quantity, occurred_at)

    def closing(self, instant_us: int = OCTOBER_US, day: float = 0) -> None:
        """Close the period of an instant; both say so in their logs."""
        closed = self.close(instant_us)
        for log in self.logs:
            log.append(Close(closed.note, self.at(log.role, day)))

    def dispute(
        self,
        role: Role,
        amount: int,
        day: float = 1,
        *,
        meter: str = "tokens",
        subject: str = "project-7",
        period: str = "2026-10",
        code: DisputeCode = "quantity",
        records: Iterable[Named] = (),
    ) -> bytes:
        """A party disputes a line; the dispute's digest."""
        at = self.at(role, day)
        record = Dispute(period, meter, subject, amount, code, "too much", tuple(records), at)
        self.log(role).append(record)
        return record_digest(record)

    def answer(self, role: Role, dispute: bytes, conceded: int = 0, day: float = 2) -> int:
        """A party answers a dispute, the peer's or its own; the answer's index."""
        log = self.log(role)
        log.append(Answer(dispute, conceded, "as counted", (), self.at(role, day)))
        return log.state.size - 1

    def resolve(self, role: Role, dispute: bytes, upheld: int, day: float = 3) -> None:
        """A party says what it would settle a dispute for."""
        self.log(role).append(Resolution(dispute, upheld, "as agreed", self.at(role, day)))

    def withdraw(self, role: Role, dispute: bytes, day: float = 4) -> None:
        """A party gives up its dispute."""
        self.log(role).append(Withdrawal(dispute, "our mistake", self.at(role, day)))

    def attest(self, role: Role, day: float) -> Attested:
        """The head of a party's log now, co-signed by the peer on a day."""
        log = self.log(role)
        head, seconds = log.head(), round((DECEMBER_US + day * DAY_US) / 1_000_000)
        signer = log.peer.signer_of("cosigner", log.keyring.keys(OTHER[role], "cosigner")[-1].key)
        return Attested(head.size, head.root, cosign_head(head, signer, seconds))

    def lapse(
        self, role: Role, index: int, start: float, end: float, peer_size: int | None = None
    ) -> None:
        """A party lets record `index`, its log's last one, lapse: it reminds the peer of it, who
        co-signs before that and after it, on these days.
        """
        log = self.log(role)
        first = self.attest(role, start)
        log.append(Reminder(index, self.at(role, end)))
        last = self.attest(role, end)
        had = self.log(OTHER[role]).state.size if peer_size is None else peer_size
        log.append(Lapse(index, first, last, had, self.at(role, end)))

    def standings(self) -> list[Standing]:
        """Where all disputes stand."""
        folder = Folder(self.terms)
        found = tuple(
            examine_log(self.terms, log.role, self.id, log.source, log.state.size)
            for log in self.logs
        )
        closes = [done.checkpoint for done in self.closed]
        sources, sizes = zip(*((log.source, log.state.size) for log in self.logs), strict=True)
        _, moves = replay_sides(folder, sources, sizes, closes, found)
        return standings(self.terms, folder.calendar, found[0].matters, found[1].matters, moves)

    def states(self) -> list[tuple[str, int]]:
        """Every dispute's state, and what is upheld of it."""
        return [(one.state, one.upheld) for one in self.standings()]

    def line(self, **wanted: str | None) -> tuple[str, str]:
        """What is payable and disputed on the one line that is as wanted."""
        found = [
            line
            for line in self.derive()
            if all(getattr(line, name) == value for name, value in wanted.items())
        ]
        assert len(found) == 1, found
        return found[0].payable, found[0].disputed
