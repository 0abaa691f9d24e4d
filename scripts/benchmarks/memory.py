"""What nodes hold in memory: now, and at most during a piece of work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import nodes

SAMPLE_SECONDS = 0.02


def _status(pid: int) -> dict[str, float]:
    rows = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    names = {"own": "RssAnon", "resident": "VmRSS", "peak": "VmHWM"}
    return {name: round(int(rows[key].split()[0]) / 1024, 1) for name, key in names.items()}


def memory_mb(party: nodes.Party) -> dict[str, float]:
    """Resident memory of a node: its own, with the files that it maps, and that at most so far."""
    assert party.process is not None
    return _status(party.process.pid)


@contextmanager
def peaks(**parties: nodes.Party) -> Iterator[dict[str, dict[str, float]]]:
    """By name what each node held before (`own_before`), and at most during the work: of its own
    (looked at often) and resident in all.
    """
    found: dict[str, dict[str, float]] = {}
    pids = {name: party.process.pid for name, party in parties.items() if party.process}
    for name, pid in pids.items():
        with suppress(OSError):  # the peak so far is forgotten where the system allows it
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        own = _status(pid)["own"]
        found[name] = {"own_before": own, "own_peak": own, "resident_peak": 0.0}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_SECONDS):
            for name, pid in pids.items():
                found[name]["own_peak"] = max(found[name]["own_peak"], _status(pid)["own"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()
        for name, pid in pids.items():
            found[name]["resident_peak"] = _status(pid)["peak"]
