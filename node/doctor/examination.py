"""The whole examination of a store, in one read snapshot, with no key and no peer at hand."""

from __future__ import annotations

from collections.abc import Sequence, Set
from contextlib import closing
from pathlib import Path

from tallystick.node.doctor.anew import role_of_log
from tallystick.node.doctor.balances import (
    Closing,
    OpenRuns,
    check_checkpoints,
    check_index,
    check_lines,
    derived_row,
    lines_in_dispute,
    read_checkpoints,
    replay_balances,
    unjudged,
)
from tallystick.node.doctor.feed import check_feed
from tallystick.node.doctor.findings import Check, Findings
from tallystick.node.doctor.logs import LogExamination
from tallystick.node.doctor.tables import (
    check_declarations,
    check_rows,
    check_sums,
    check_timestamps,
    read_channels,
    value_of,
)
from tallystick.node.segments.reading import configured
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import (
    COVERED_NOTHING,
    CheckpointRow,
    DerivedRow,
    index_key,
    index_of,
    log_key,
)
from tallystick.protocol.derive import LineKey
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.records import ROLES, Terms

MOMENTS_MAX = 4


class AnyStore(Store):
    """A store in a home, opened even if the row that says its format is damaged."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        super().__init__(path, read_only=read_only)
        self.segments.location = configured(path.parent)

    def _check_version(self, read_only: bool) -> None:
        pass


def examine(store: Store, index_folder: Path, party: str) -> Findings:
    """Examine a party's store and the id index beside it, while nobody else writes there."""
    with store.read() as txn:
        examination = _Examination(txn, index_folder, party)
        try:
            return examination.run()
        finally:
            examination.close()


def examine_running(path: Path, index_folder: Path, party: str) -> Findings:
    """The same for a store whose node may be running, in one moment of it."""
    for _ in range(MOMENTS_MAX - 1):
        store = AnyStore(path, read_only=True)
        with closing(store), store.read() as txn:
            examination = _Examination(txn, index_folder, party)
            try:
                if not examination.gone:
                    return examination.run()
            finally:
                examination.close()
    # The node merges index files away; if those of so many moments are gone, they are missing.
    with closing(AnyStore(path, read_only=True)) as last:
        return examine(last, index_folder, party)


class _Examination:
    def __init__(self, txn: Txn, index_folder: Path, party: str) -> None:
        self._txn = txn
        self._index_folder = index_folder
        self._party = party
        self._found = Findings()
        self._derived: dict[int, DerivedRow | None] = {}
        self._runs: dict[int, OpenRuns] = {}
        for number in {int.from_bytes(key[:4], "big") for key in txn.keys("derived")}:
            row = derived_row(txn, number)
            self._derived[number] = row
            if row is not None:
                self._runs[number] = OpenRuns(index_folder, row)
        self.gone = any(runs.fault for runs in self._runs.values())

    def close(self) -> None:
        for runs in self._runs.values():
            runs.close()

    def run(self) -> Findings:
        txn, found = self._txn, self._found
        check_sums(txn, found)
        channels = read_channels(txn, found)
        check_rows(txn, found, channels)
        check_feed(txn, found)
        seed = value_of("meta", b"fingerprints", txn.raw("meta", b"fingerprints"))
        self._seed = int.from_bytes(seed, "big") if seed else None
        with_logs = {int.from_bytes(key[:4], "big") // 2 for key in txn.keys("batches")}
        for number, (channel_id, terms) in sorted(channels.items()):
            if number in with_logs:
                self._channel(number, channel_id, terms)
        return found

    def _channel(self, number: int, channel_id: bytes, terms: Terms) -> None:
        txn, found = self._txn, self._found
        checkpoints, faults = read_checkpoints(txn, number)
        logs = self._read_logs(number, channel_id, terms, checkpoints)
        rings = tuple(Keyring(terms, log.seen.state.facts.keys) for log in logs)
        for log in logs:
            log.judge((rings[0], rings[1]), _dependent(txn, log, checkpoints))
            found.logs.append(log.found)
            found.damaged += log.written_again
        check_declarations(txn, found, number, terms, role_of_log(terms, self._party, 0))
        check_timestamps(txn, found, number, channel_id, checkpoints)
        closings = []
        disputed = lines_in_dispute(terms, logs)
        for log in logs:
            found.checks += log.checks
            closings.append(self._judge_derived(log, checkpoints, disputed))
        name = f"{channel_id.hex()[:8]}: checkpoints"
        if closings[0] is None or closings[1] is None:
            if not faults:
                found.checks.append(Check(name, None, "cannot be judged"))
                return
        elif not faults:
            faults = check_checkpoints(
                terms, checkpoints, (logs[0], logs[1]), (closings[0], closings[1]),
                (rings[0], rings[1]),
            )  # fmt: skip
        found.say(
            name,
            faults,
            f"{len(checkpoints)} closed periods, each signed and as the records give it",
        )

    def _read_logs(
        self, number: int, channel_id: bytes, terms: Terms, checkpoints: Sequence[CheckpointRow]
    ) -> list[LogExamination]:
        """The provider's log and the consumer's, read."""
        logs = []
        for role in ROLES:
            wanted = {row.size_of(role) for row in checkpoints}
            own = role == role_of_log(terms, self._party, 0)
            log_number = 2 * number + (not own)
            log = LogExamination(self._txn, channel_id, terms, log_number, role, wanted, self._seed)
            log.read()
            logs.append(log)
        return logs

    def _judge_derived(
        self,
        log: LogExamination,
        checkpoints: Sequence[CheckpointRow],
        disputed: Set[LineKey],
    ) -> list[Closing] | None:
        """Index and balances; what each checkpoint found open, if that can be told."""
        number = log.found.number
        row = self._derived.get(number, DerivedRow(0, []))
        names = ("id index", "balances")
        if log.found.torn or row is None or log.summary is None or row.covered > log.found.size:
            log.found.remake = True
            self._found.checks += unjudged(log, names)
            return None
        expected, closings = replay_balances(log, row, checkpoints, disputed)
        if row.covered == COVERED_NOTHING:
            detail = "made anew when the node starts"
            self._found.checks += [Check(log.name(n), True, detail) for n in names]
            return closings
        runs = self._runs.get(number) or OpenRuns(self._index_folder, DerivedRow(0, []))
        indexed = check_index(log, row, runs) if self._seed is not None else ["its seed is gone"]
        lines = check_lines(self._txn, log, expected)
        log.found.remake |= bool(indexed or lines)
        self._found.say(log.name("id index"), indexed, f"{row.covered} records covered")
        self._found.say(log.name("balances"), lines, "as replay gives them")
        return closings


def _dependent(txn: Txn, log: LogExamination, checkpoints: Sequence[CheckpointRow]) -> str:
    """What depends on the first record of a log that does not fit."""
    good, number = log.seen.head, log.found.number
    behind = txn.stored("heads", index_key(number, good + 1), log_key(number + 1))
    heads = [index_of(key) for key, _ in behind if len(key) == 12]
    closed = [row.period for row in checkpoints if row.size_of(log.role) > good]
    said = [f"heads from size {heads[0]} on"] if heads else []
    said.append(f"the balances of {log.party.name}")
    if closed:
        said.append(f"checkpoint{'s' if len(closed) > 1 else ''} {', '.join(closed)}")
    return f"on it depend {', '.join(said)}"
